"""Figures of several sites: what the clients of the regions got, over the WAN, and ahead of waves."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from testbed.records.evidence import Evidence
from testbed.results.metrics import Measured, Metric
from testbed.results.sites import loss_ratio, spilled_ratio
from testbed.units import NS_PER_MS


def _of_regions(count: Callable[[Evidence], float | None], run: Measured) -> float | None:
    return count(run.evidence) if run.evidence.regions else None


def _worst_p99_ms(evidence: Evidence) -> float | None:
    found = [region.delay.quantile_ns(0.99) for region in evidence.regions]
    return max((value / NS_PER_MS for value in found if value is not None), default=None)


def _figure(
    name: str,
    unit: str,
    doc: str,
    label: str,
    count: Callable[[Measured], float | None] | None,
    *,
    lower: bool | None = True,
) -> Metric:
    return Metric(
        name=f"sites.{name}", unit=unit, doc=doc, section="Sites", label=label, lower_is_better=lower, count=count
    )


ROWS = (
    _figure(
        "worst_loss_ratio",
        "ratio",
        "largest share of the packets of one region that reached no backend",
        "worst region, loss",
        partial(_of_regions, lambda evidence: max(map(loss_ratio, evidence.regions))),
    ),
    _figure(
        "worst_p99_ms",
        "ms",
        "largest 99th percentile of the one-way delay of the packets of one region, WAN included",
        "worst region, p99",
        partial(_of_regions, _worst_p99_ms),
    ),
    _figure(
        "spilled_ratio",
        "ratio",
        "share of the delivered bytes that another site than that of the region delivered",
        "served elsewhere",
        partial(_of_regions, spilled_ratio),
        lower=None,
    ),
    _figure(
        "wan_bytes",
        "bytes",
        "bytes of planned packets sent over the WAN",
        "WAN, packets",
        partial(_of_regions, lambda evidence: evidence.wan_bytes),
    ),
    _figure(
        "report_bytes",
        "bytes",
        "bytes of the reports of sites sent over the WAN, headers included",
        "WAN, reports",
        partial(_of_regions, lambda evidence: evidence.report_bytes),
    ),
    _figure(
        "lead_ms",
        "ms",
        "mean time by which a wave of demand was announced before it began; 0 for a wave that was not announced",
        "lead",
        None,
        lower=False,
    ),
    _figure(
        "announced_ratio",
        "ratio",
        "share of the waves of demand that were announced before they began",
        "waves announced",
        None,
        lower=False,
    ),
)
