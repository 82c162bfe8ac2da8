"""How well the number of nodes followed the load: elasticity in time and amount, as measured by the autoscaler.

Once a period the autoscaler measures the load (``LoadMeasured``: what reached the nodes, dropped or not) and how many
nodes serve.  With r the rate of a node, over the periods of lengths d that add up to T,

    demand = max(1, ceil(load / r))              nodes that the load of the period needed
    under  = max(0, demand - serving)            nodes that were missing,  over = max(0, serving - demand)

    time share      sum of d where under > 0 (over > 0), by T
    amount          sum of d x under (over), by the sum of d x demand
    jitter          (changes of serving - changes of demand), by T: above 0 the scaling oscillates, below it lags behind

Demand is based on the measured load, not on the planned one.  The measured load is what the autoscaler can act on, and
both engines have it; the plan does not know of packets that are lost to a fault or in the switch, and of when a burst
reaches the nodes.  For a run without such losses both give the same demand but for one period's shift.

*Overload* is the time of the periods with under > 0, in seconds; `results.violation` has the other kind of violation.

Source: these are the dimensions of N. Herbst et al., "Ready for Rain? A View from SPEC Research on the Future of Cloud
Metrics", SPEC-RG-2016-01 (2016): timeshare and accuracy of under- and over-provisioning, and jitter.  Amounts here are
relative to the demand.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from testbed.records.events import LoadMeasured, ScaleDecided
from testbed.records.facts import RunFacts
from testbed.records.samples import NodeSamples
from testbed.records.written import is_a
from testbed.results.node_time import ready_ms
from testbed.units import NS_PER_S


@dataclass(frozen=True, slots=True)
class Elasticity:
    """The figures of one run; ratios of time and of node-time.

    Attributes:
        under_time_ratio: share of the time in which nodes were missing.
        over_time_ratio: share of the time in which there were too many.
        under_ratio: missing node-time, by what was needed.
        over_ratio: node-time too many, by what was needed.
        jitter_per_min: changes of what served beyond those of what was needed, a minute.
        overload_s: time in which nodes were missing.
    """

    under_time_ratio: float
    over_time_ratio: float
    under_ratio: float
    over_ratio: float
    jitter_per_min: float
    overload_s: float


def autoscaler_section(
    lines: Iterable[Mapping[str, Any]], facts: RunFacts, rows: Mapping[str, NodeSamples]
) -> dict[str, Any] | None:
    """Return the figures of scaling; None where no node was ordered and no load measured.

    Args:
        lines: what `node_time.ClusterLines` kept.
        facts: the rates of the nodes.
        rows: the samples of each node.
    """
    lines = list(lines)
    found = elasticity(lines, next(iter(facts.node_rate_bps.values()))) if facts.node_rate_bps else None
    changes = [line["size"] - line["current"] for line in lines if is_a(line, ScaleDecided)]
    orders = {"scale_outs": sum(by > 0 for by in changes), "scale_ins": sum(by < 0 for by in changes)}
    ready = ready_ms(lines, rows)
    section = {
        **(dataclasses.asdict(found) if found else {}),
        **(orders if changes else {}),
        **({"ready_ms": ready} if ready else {}),
    }
    return section or None


def elasticity(events: Iterable[Mapping[str, Any]], node_rate_bps: int) -> Elasticity | None:
    """Return the figures of a run's records, None where no load was measured twice."""
    by_site = _periods(events, node_rate_bps)
    periods = [period for site in by_site for period in site]
    total_ns = sum(lasted_ns for lasted_ns, _, _ in periods)
    if not total_ns:
        return None
    needed = sum(lasted_ns * demand for lasted_ns, demand, _ in periods)
    lacks = [(lasted_ns, demand - serving) for lasted_ns, demand, serving in periods]
    jitter = sum(_changes([p[2] for p in site]) - _changes([p[1] for p in site]) for site in by_site)
    return Elasticity(
        under_time_ratio=sum(lasted_ns for lasted_ns, lack in lacks if lack > 0) / total_ns,
        over_time_ratio=sum(lasted_ns for lasted_ns, lack in lacks if lack < 0) / total_ns,
        under_ratio=sum(lasted_ns * max(0, lack) for lasted_ns, lack in lacks) / needed,
        over_ratio=sum(lasted_ns * max(0, -lack) for lasted_ns, lack in lacks) / needed,
        jitter_per_min=jitter * 60 * NS_PER_S / total_ns,
        overload_s=sum(lasted_ns for lasted_ns, lack in lacks if lack > 0) / NS_PER_S,
    )


def _periods(events: Iterable[Mapping[str, Any]], node_rate_bps: int) -> list[list[tuple[int, int, int]]]:
    """Return how long each period lasted, the nodes it needed, and those that served at its end, for each autoscaler.

    There is one autoscaler, or one a site; the times of all sites are summed.
    """
    before_ns: dict[str, int] = {}
    periods: dict[str, list[tuple[int, int, int]]] = {}
    for event in events:
        if is_a(event, LoadMeasured):
            scaler, now_ns = str(event.get("policy", "")), event["t_ns"]
            if scaler in before_ns:
                needed = max(1, -(-event["load_bps"] // node_rate_bps))
                periods.setdefault(scaler, []).append((now_ns - before_ns[scaler], needed, event["serving"]))
            before_ns[scaler] = now_ns
    return list(periods.values())


def _changes(sizes: list[int]) -> int:
    return sum(after != before for before, after in itertools.pairwise(sizes))
