"""Figures of the nodes' buffers: what they lost, what they reserved, how often they were resized."""

from __future__ import annotations

from testbed.results.metrics import Metric

ROWS = (
    Metric(
        name="buffer.policy",
        unit="name",
        doc="the buffer policy",
        section="Buffer",
        label="policy",
        line="{}",
    ),
    Metric(
        name="buffer.loss_ratio",
        unit="ratio",
        doc="packets dropped by the buffers divided by packets that arrived there; a "
        "deflected packet counts as one arrival, although two nodes count it "
        "(`arrived_pkts`)",
        section="Buffer",
        label="loss ratio",
        lower_is_better=True,
        line="loss {}",
        key="loss_ratio",
        column="loss",
    ),
    Metric(
        name="buffer.reserved_mb_s",
        unit="MB·s",
        doc="integral of the limits over the time of the traffic, summed over the nodes",
        section="Buffer",
        label="reserved memory",
        lower_is_better=True,
        line="reserved {}",
        key="reserved_mb_s",
        column="reserved MB·s",
    ),
    Metric(
        name="buffer.mean_limit_bytes",
        unit="bytes",
        doc="mean limit of a node over the time of the traffic",
        section="Buffer",
        label="mean limit of a node",
        lower_is_better=True,
        line="mean limit {}",
    ),
    Metric(
        name="buffer.resizes",
        unit="count",
        doc="number of changes of the limit of a node",
        section="Buffer",
        label="resizes",
        line="{}",
        noun="resize",
        key="resizes",
        column="resizes",
        varied="buffer.",
    ),
    Metric(
        name="buffer.expansions",
        unit="count",
        doc="number of contiguous time intervals in which the limit of a node was above `buffer.min`",
        section="Buffer",
        label="expansions",
    ),
    Metric(
        name="buffer.deflected_packets",
        unit="packets",
        doc="packets that a full node forwarded to its sibling",
        section="Buffer",
        label="deflected",
        line="{} deflected",
    ),
    Metric(
        name="buffer.marked_packets",
        unit="packets",
        doc="packets marked for congestion (ECN)",
        section="Buffer",
        label="marked",
        line="{} marked",
    ),
    Metric(
        name="buffer.wasted_expansions",
        unit="count",
        doc="expansions that were not needed: from their start to 200 ms after their end, the "
        "buffer size needed to avoid loss was at most `buffer.min`",
        section="Buffer",
        label="wasted expansions",
        lower_is_better=True,
        line="{} wasted",
        noun="expansion",
        key="wasted",
        column="wasted",
        varied="buffer.",
    ),
)
