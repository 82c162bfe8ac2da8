"""How several sites served the clients of all regions: by region, over the WAN, and ahead of waves.

*Loss* of a region is the share of the packets of its clients that reached no backend, whatever lost them.  *Spilled* is
the share of the delivered bytes that another site than that of the region delivered.

*Lead*: a wave begins in a region when its demand rises through half of its highest demand.  It was announced if the
demand expected there (`DemandExpected`) was at least as high by then, and its lead is how long that had been so.  A
wave that was not announced has a lead of 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from testbed.records.events import DemandExpected, SitesHeard
from testbed.records.evidence import Evidence, RegionEvidence
from testbed.records.written import is_a
from testbed.units import NS_PER_MS

TRAVEL = "travel"  # ends the name of the policy that forecasts waves


class TravelLines:
    """The lines about waves that travel, kept while others read the events."""

    def __init__(self) -> None:
        self.lines: list[Mapping[str, Any]] = []

    def passing(self, events: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
        """Yield all events."""
        for event in events:
            if is_a(event, SitesHeard, DemandExpected) and str(event.get("policy", "")).endswith(TRAVEL):
                self.lines.append(event)
            yield event


def sites_section(evidence: Evidence, lines: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return the table of regions and the figures of waves; None for a run in one place."""
    if not evidence.regions:
        return None
    names, leads = [region.region for region in evidence.regions], leads_ns(lines)
    waves = {
        "lead_ms": sum(leads) / max(1, len(leads)) / NS_PER_MS,
        "announced_ratio": sum(lead > 0 for lead in leads) / max(1, len(leads)),
    }
    return {"regions": [_region(region, names) for region in evidence.regions], **(waves if leads else {})}


def loss_ratio(region: RegionEvidence) -> float:
    """Return the share of the packets of a region that was not delivered."""
    return 1 - region.delivered_pkts / region.sent_pkts if region.sent_pkts else 0.0


def spilled_ratio(evidence: Evidence) -> float | None:
    """Return the share of the delivered bytes that another site than that of the region delivered."""
    every = sum(sum(region.delivered_bytes) for region in evidence.regions)
    own = sum(region.delivered_bytes[row] for row, region in enumerate(evidence.regions))
    return 1 - own / every if every else None


def _region(region: RegionEvidence, sites: list[str]) -> dict[str, Any]:
    total = max(1, sum(region.delivered_bytes))
    quantiles = ((name, region.delay.quantile_ns(ratio)) for name, ratio in (("p50", 0.5), ("p99", 0.99)))
    return {
        "region": region.region,
        "sent_packets": region.sent_pkts,
        "loss_ratio": loss_ratio(region),
        "delay_ms": {name: value / NS_PER_MS for name, value in quantiles if value is not None},
        "shares": {site: amount / total for site, amount in zip(sites, region.delivered_bytes, strict=True) if amount},
    }


@dataclass(slots=True)
class _Course:
    """The demand of a region over time, and since when at least so much was expected."""

    demand: list[tuple[int, int, int]] = field(default_factory=list)  # time, demand, expected demand
    expected_bps: int = 0


def leads_ns(events: Iterable[Mapping[str, Any]]) -> list[int]:
    """Return the lead of every wave of every region, 0 for one that was not announced."""
    courses: dict[str, _Course] = {}
    for event in events:
        region, _, policy = str(event.get("policy", "")).partition("/")
        if policy != TRAVEL:
            continue
        course = courses.setdefault(region, _Course())
        if is_a(event, SitesHeard):
            own = event["demand_bps"][event["sites"].index(region)]
            course.demand.append((event["t_ns"], own, course.expected_bps))
        elif is_a(event, DemandExpected):
            course.expected_bps = event["expected_bps"]
    return [lead for course in courses.values() for lead in _leads(course.demand)]


def _leads(course: list[tuple[int, int, int]]) -> Iterator[int]:
    level = max((demand for _, demand, _ in course), default=0) / 2
    since_ns: int | None = None  # the level is expected
    before = level
    for t_ns, demand, expected in course:
        since_ns = None if expected < level else t_ns if since_ns is None else since_ns
        if before < level <= demand:
            yield 0 if since_ns is None else t_ns - since_ns
        before = demand
