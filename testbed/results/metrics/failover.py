"""Figures of failover: how fast faults were noticed and worked around, and at what price (`results/failover.py`)."""

from __future__ import annotations

from testbed.results.metrics import Metric

_TIMES = {
    "detected": "time from the fault command until the balancer considered the node dead",
    "rerouted": "from the fault command until the switch confirmed the removal of the node",
    "recovered": "from the fault command to the planned send time of the last packet lost to that fault",
    "takeover": "from the kill of a controller until the switch confirmed the pipeline of the standby",
}

ROWS = (
    Metric(
        name="failover.count",
        unit="count",
        doc="faults that made a node unreachable",
        section="Failover",
        label="nodes made unreachable by faults",
    ),
    *(
        Metric(
            name=f"failover.{what}_ms.{part}",
            unit="ms",
            doc=doc,
            section="Failover",
            label=f"{what} {part}",
            lower_is_better=True,
        )
        for what, doc in _TIMES.items()
        for part in ("p50", "max")
    ),
    Metric(
        name="failover.lost_packets",
        unit="packets",
        doc="packets of flows of the failed nodes that were not delivered by any node",
        section="Failover",
        label="lost packets",
        lower_is_better=True,
    ),
    Metric(
        name="failover.false_suspicions",
        unit="count",
        doc="nodes removed by the failure detector or notification timeout without a fault that explains it",
        section="Failover",
        label="false suspicions",
        lower_is_better=True,
    ),
)
