"""Figures of what decides, and of the run itself: the balancer, the agents, set-up and teardown."""

from __future__ import annotations

from testbed.results.metrics import Metric

_BALANCER = (
    Metric(
        name="balancer.policy", unit="name", doc="the balancer policy", section="Control", label="balancer", line="{}"
    ),
    Metric(
        name="balancer.max_over_mean_load",
        unit="factor",
        doc="bytes that the balancer sent to the busiest node, divided by the mean over all nodes",
        section="Control",
        label="busiest node / mean",
        lower_is_better=True,
        line="busiest node {} × the mean",
        key="max_over_mean",
        column="busiest / mean",
        varied="balancer.",
    ),
    Metric(
        name="balancer.broken_flows",
        unit="count",
        doc="flows that changed node without a fault that explains it",
        section="Control",
        label="broken flows",
        lower_is_better=True,
        line="{}",
        noun="broken flow",
        key="broken_flows",
        column="broken flows",
        varied="balancer.",
    ),
    Metric(
        name="balancer.packet_ins",
        unit="count",
        doc="packets that the switch sent to the controller (OpenFlow packet-in)",
        section="Control",
        label="packet-ins",
        lower_is_better=True,
        line="{}",
        noun="packet-in",
        key="packet_ins",
        column="packet-ins",
        varied="balancer.",
    ),
    Metric(
        name="balancer.dropped_fragments",
        unit="packets",
        doc="IP fragments that the switch dropped, because their flow is unknown",
        section="Control",
        label="dropped fragments",
        lower_is_better=True,
    ),
    *(
        Metric(
            name=f"balancer.first_packet_ms.{part}",
            unit="ms",
            doc="one-way delay of the first packet of each flow. Under `per-flow` it includes the "
            "time until the controller has chosen a node",
            section="Control",
            label=f"first packets {part}",
            lower_is_better=True,
            line="first packets p99 {}" if part == "p99" else "",
        )
        for part in ("p50", "p99")
    ),
    *(
        Metric(
            name=f"balancer.decision_us.{part}",
            unit="µs",
            doc="from the triggering event to the switch's barrier reply; emulation only",
            section="Control",
            label=f"decision {part}",
            lower_is_better=True,
            line="decision p99 {}" if part == "p99" else "",
        )
        for part in ("p50", "p99")
    ),
)
_AGENTS = tuple(
    Metric(
        name=f"control_loop_us.{part}",
        unit="µs",
        doc="duration of one iteration of an agent's control loop, from the start of the tick to the notification",
        section="Control",
        label=f"agent loop {part}",
        lower_is_better=True,
        line="agent loop p99 {}" if part == "p99" else "",
    )
    for part in ("p50", "p99")
)
_RUN = tuple(
    Metric(name=name, unit="s", doc=doc, section="Control", label=label, lower_is_better=True, count=count)
    for name, doc, label, count in (
        (
            "setup_s",
            "from the start of the set-up to the start of traffic",
            "set-up",
            lambda run: run.evidence.setup_s,
        ),
        (
            "teardown_s",
            "time from the end of the trial until all its processes and namespaces are gone",
            "teardown",
            lambda run: run.evidence.teardown_s,
        ),
    )
)

ROWS = (*_BALANCER, *_AGENTS, *_RUN)
