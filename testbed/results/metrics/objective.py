"""Figures of the cost of a run: what it lost, how long bytes waited and what it reserved, weighed by `objective`."""

from __future__ import annotations

from testbed.results.metrics import Metric

_PARTS = (
    ("loss", "cost of loss", "`objective.loss` × MB that the buffers dropped"),
    ("delay", "cost of delay", "`objective.delay.weight` × MB·s queued beyond `objective.delay.target`"),
    ("memory", "cost of memory", "`objective.memory` × reserved MB·s"),
)

ROWS = (
    Metric(
        name="objective.cost",
        unit="MB",
        doc="weighted sum of loss, delay and memory (`objective`), in MB of equivalent loss",
        section="Objective",
        label="cost",
        lower_is_better=True,
        line="cost {}",
        key="cost",
        column="cost MB",
    ),
    *(
        Metric(
            name=f"objective.{name}",
            unit="MB",
            doc=doc,
            section="Objective",
            label=label,
            lower_is_better=True,
            line=f"{name} {{}}",
            key=f"cost_{name}",
            column=label,
        )
        for name, label, doc in _PARTS
    ),
    Metric(
        name="objective.late_mb_s",
        unit="MB·s",
        doc="for each byte on each node, the part of its queueing time above "
        "`objective.delay.target`, summed over all bytes",
        section="Objective",
        label="queued beyond the target",
        lower_is_better=True,
    ),
)
