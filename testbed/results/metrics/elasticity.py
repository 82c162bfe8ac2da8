"""Figures of scaling: how well the number of nodes followed the load; only where an autoscaler measured it."""

from __future__ import annotations

from collections.abc import Callable

from testbed.records.events import ScaleDecided
from testbed.records.written import is_a
from testbed.results.elasticity import elasticity
from testbed.results.metrics import Measured, Metric


def _figure(name: str) -> Callable[[Measured], float | None]:
    def count(run: Measured) -> float | None:
        rates = run.facts.node_rate_bps
        found = elasticity(run.events, next(iter(rates.values()))) if rates else None
        return None if found is None else getattr(found, name)

    return count


def _orders(sign: int) -> Callable[[Measured], float | None]:
    def count(run: Measured) -> float | None:
        decided = [event for event in run.events if is_a(event, ScaleDecided)]
        return sum(sign * (event["size"] - event["current"]) > 0 for event in decided) if decided else None

    return count


_FIGURES = tuple(
    Metric(
        name=f"autoscaler.{name}",
        unit=unit,
        doc=doc,
        section="Control",
        label=label,
        lower_is_better=True,
        count=_figure(name),
    )
    for name, unit, doc, label in (
        ("under_time_ratio", "ratio", "share of the time in which fewer nodes served than the load needed", "too few"),
        ("over_time_ratio", "ratio", "share of the time in which more nodes served than the load needed", "too many"),
        (
            "under_ratio",
            "ratio",
            "missing node-time, divided by the node-time that the load needed",
            "missing nodes",
        ),
        ("over_ratio", "ratio", "surplus node-time, divided by the node-time that the load needed", "idle nodes"),
    )
)
_ORDERS = tuple(
    Metric(
        name=f"autoscaler.{name}",
        unit="count",
        doc=doc,
        section="Control",
        label=label,
        count=_orders(sign),
    )
    for name, doc, label, sign in (
        ("scale_outs", "decisions of the autoscaler that added nodes", "scale-outs", 1),
        ("scale_ins", "decisions of the autoscaler that removed nodes", "scale-ins", -1),
    )
)
_JITTER = Metric(
    name="autoscaler.jitter_per_min",
    unit="per minute",
    doc="changes of the number of serving nodes minus changes of the number needed; above 0: oscillation, below 0: lag",
    section="Control",
    label="scaling jitter",
    count=_figure("jitter_per_min"),
)

ROWS = (*_FIGURES, _JITTER, *_ORDERS)
