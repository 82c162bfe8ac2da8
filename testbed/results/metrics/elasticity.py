"""Figures of the number of nodes: what they cost, and how well the autoscaler followed the load where there is one."""

from __future__ import annotations

from testbed.results.metrics import Metric

_SPENT = tuple(
    Metric(
        name=f"nodes.{name}",
        unit=unit,
        doc=doc,
        section="Nodes",
        label=label,
        lower_is_better=True,
        key=name if name in ("serving_s", "cost_usd", "violation_s") else "",
        column=column,
        varied="autoscaler." if column else "",
    )
    for name, unit, doc, label, column in (
        ("serving_s", "node·s", "node-seconds of serving nodes, until the traffic ends", "serving", "serving node·s"),
        (
            "booting_s",
            "node·s",
            "node-seconds of nodes that are ordered and do not serve yet",
            "booting",
            "",
        ),
        ("draining_s", "node·s", "node-seconds of nodes that get no new flows and are not gone yet", "draining", ""),
        (
            "cost_usd",
            "USD",
            "`autoscaler.price` × hours of all nodes that serve, boot or drain; an hour is paid in parts",
            "cost",
            "USD",
        ),
        (
            "violation_s",
            "s",
            "time in which a buffer dropped packets, or packets had to wait longer than `objective.delay.target`",
            "violation",
            "violation s",
        ),
    )
)
_FIGURES = tuple(
    Metric(
        name=f"autoscaler.{name}",
        unit=unit,
        doc=doc,
        section="Nodes",
        label=label,
        lower_is_better=True,
        key=name if column else "",
        column=column,
        varied="autoscaler." if column else "",
    )
    for name, unit, doc, label, column in (
        (
            "under_time_ratio",
            "ratio",
            "share of the time in which fewer nodes served than the load needed",
            "too few",
            "time too few",
        ),
        (
            "over_time_ratio",
            "ratio",
            "share of the time in which more nodes served than the load needed",
            "too many",
            "time too many",
        ),
        (
            "under_ratio",
            "ratio",
            "missing node-time, divided by the node-time that the load needed",
            "missing nodes",
            "missing nodes",
        ),
        (
            "over_ratio",
            "ratio",
            "surplus node-time, divided by the node-time that the load needed",
            "idle nodes",
            "idle nodes",
        ),
        (
            "overload_s",
            "s",
            "time in which the measured load was more than the serving nodes can serve together",
            "overload",
            "",
        ),
    )
)
_ORDERS = tuple(
    Metric(name=f"autoscaler.{name}", unit="count", doc=doc, section="Nodes", label=label)
    for name, doc, label in (
        ("scale_outs", "decisions of the autoscaler that added nodes", "scale-outs"),
        ("scale_ins", "decisions of the autoscaler that removed nodes", "scale-ins"),
    )
)
_READY = tuple(
    Metric(
        name=f"autoscaler.ready_ms.{part}",
        unit="ms",
        doc="from the order of a node, by the autoscaler or the scenario, to the first packet that it served; "
        "late by one sample interval at most",
        section="Nodes",
        label=f"first packet of a new node {part}",
        lower_is_better=True,
    )
    for part in ("p50", "p99")
)
_JITTER = Metric(
    name="autoscaler.jitter_per_min",
    unit="per minute",
    doc="changes of the number of serving nodes minus changes of the number needed; above 0: oscillation, below 0: lag",
    section="Nodes",
    label="scaling jitter",
)

ROWS = (*_SPENT, *_FIGURES, _JITTER, *_ORDERS, *_READY)
