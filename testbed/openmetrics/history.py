"""A finished run as OpenMetrics text with a time at each sample, for a backfill of Prometheus.

    python -m testbed export RUN --openmetrics -o run.om
    promtool tsdb create-blocks-from openmetrics run.om DATA

Every row of the samples and every record becomes a point of its series, so a trial of 20 s can be looked at every 10
ms.  Histograms, which have sixteen series each, get a point a second.  The run's clock counts from ``started_utc`` of
the manifest; Prometheus keeps times to the millisecond.

The format wants all points of a series together, in the order of time, so the text is made series by series.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

import numpy as np
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.exposition import generate_latest

from testbed import __version__
from testbed.errors import InputError
from testbed.openmetrics.event_counts import EventCounts
from testbed.openmetrics.families import (
    BUCKETS_S,
    BUILD,
    DELAY,
    EVENT_FAMILIES,
    SAMPLE_FAMILIES,
    VERDICT,
    Fold,
    SampleFamily,
    run_labels,
)
from testbed.records.events import Floats, Ints
from testbed.records.evidence import Evidence
from testbed.records.histogram import Histogram
from testbed.records.samples import NodeSamples
from testbed.results.recorded_run import RecordedRun
from testbed.units import NS_PER_S

_END = "# EOF\n"
_MS = 1_000_000


def exposition(run: RecordedRun) -> Iterator[str]:
    """Yield the text of a run, a metric family at a time.

    Raises:
        InputError: when a file of the run is missing or damaged.
    """
    for metric in _metrics(run):
        yield generate_latest(_One(metric)).decode().removesuffix(_END)  # type: ignore[no-untyped-call]
    yield _END


class _One:
    """A registry of one metric family."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterator[Metric]:
        yield self._metric


def _metrics(run: RecordedRun) -> Iterator[Metric]:
    facts = run.facts
    labels = run_labels(run.path.resolve().name, facts)
    start = _start(run)
    rows = run.samples_by_node()
    last_ns = max((int(of_node.t_ns[-1]) for of_node in rows.values() if len(of_node.t_ns)), default=0)
    build = Metric(BUILD.name, BUILD.doc, BUILD.kind)
    build.add_sample(BUILD.sample, {**labels, "version": __version__}, 1, start.at(last_ns))
    yield build
    for family in SAMPLE_FAMILIES:
        yield _of_samples(family, rows, labels, start)
    yield from _of_events(run, labels, start)
    evidence = run.evidence()
    if evidence is not None:
        yield _sojourn(evidence, labels, start.at(last_ns))
    yield from _of_verdict(run, labels, start.at(last_ns))


def _start(run: RecordedRun) -> _Start:
    started = run.manifest.get("started_utc")
    try:
        return _Start(datetime.fromisoformat(str(started)))
    except (ValueError, OverflowError, OSError) as error:
        happened = f"its manifest does not say when it began (started_utc: {str(started)[:40]})"
        raise InputError(f"export {run.path}", happened, "give a run of this version") from error


class _Start:
    """The time of day at which the run's clock was 0."""

    def __init__(self, started: datetime) -> None:
        self._ms = round(started.timestamp() * 1000)

    def at(self, t_ns: int) -> float:
        """Return the time of day in seconds, whole milliseconds."""
        return (self._ms + t_ns // _MS) / 1000


def _of_samples(
    family: SampleFamily, rows: Mapping[str, NodeSamples], labels: Mapping[str, str], start: _Start
) -> Metric:
    metric = Metric(family.name, family.doc, family.kind)
    for node, of_node in rows.items():
        values = _column(of_node, family.column)
        if values is None:
            continue
        points = _spread if family.fold is Fold.SPREAD else _line
        for suffix, more, t_ns, value in points(family, of_node.t_ns, values):
            metric.add_sample(family.name + suffix, {**labels, "node": node, **more}, value, start.at(t_ns))
    return metric


def _column(rows: NodeSamples, name: str) -> Floats | None:
    if name in rows.optional:
        return rows.optional[name]
    values = getattr(rows, name, None)
    return None if values is None else np.asarray(values, dtype=np.float64)


Points = Iterator[tuple[str, Mapping[str, str], int, float]]
"""Suffix of the sample's name, labels beside the node, time on the run's clock, value."""


def _line(family: SampleFamily, t_ns: Ints, values: Floats) -> Points:
    measured = ~np.isnan(values)
    t_ns, values = t_ns[measured], values[measured]
    if family.fold is Fold.SUM:
        values = np.cumsum(values)
    suffix = "" if family.fold is Fold.LAST else "_total"
    for at_ns, value in zip(*_one_a_ms(t_ns, values), strict=True):
        yield suffix, {}, int(at_ns), float(value) / family.divisor


def _one_a_ms(t_ns: Ints, values: Floats) -> tuple[Ints, Floats]:
    """Keep the last of several points of a millisecond: a series has one at a time."""
    last = np.append(np.diff(t_ns // _MS) > 0, True)[: len(t_ns)]
    return t_ns[last], values[last]


def _spread(family: SampleFamily, t_ns: Ints, values: Floats) -> Points:
    measured = ~np.isnan(values)
    t_ns, values = t_ns[measured], values[measured] / family.divisor
    seconds = np.arange(1, int(t_ns[-1]) // NS_PER_S + 2) if len(t_ns) else np.zeros(0, dtype=np.int64)
    ends = np.searchsorted(t_ns, seconds * NS_PER_S, side="left")
    for bound, text in zip((*BUCKETS_S, np.inf), (*map(str, BUCKETS_S), "+Inf"), strict=True):
        below = np.concatenate(([0], np.cumsum(values <= bound)))
        for second, end in zip(seconds.tolist(), ends.tolist(), strict=True):
            yield "_bucket", {"le": text}, second * NS_PER_S, int(below[end])
    sums = np.concatenate(([0.0], np.cumsum(values)))
    for second, end in zip(seconds.tolist(), ends.tolist(), strict=True):
        yield "_count", {}, second * NS_PER_S, end
    for second, end in zip(seconds.tolist(), ends.tolist(), strict=True):
        yield "_sum", {}, second * NS_PER_S, float(sums[end])


def _of_events(run: RecordedRun, labels: Mapping[str, str], start: _Start) -> Iterator[Metric]:
    counts = EventCounts()
    points: defaultdict[str, defaultdict[str, dict[float, int]]] = defaultdict(lambda: defaultdict(dict))
    for event in sorted(run.events(), key=lambda event: event["t_ns"]):
        for family, value in counts.take(event):
            points[family.name][value][start.at(event["t_ns"])] = counts.count(family, value)
    for family in EVENT_FAMILIES:
        metric = Metric(family.name, family.doc, family.kind)
        for value, of_series in points[family.name].items():
            own = {**labels, family.label: value} if family.label else dict(labels)
            for at_s, count in of_series.items():
                metric.add_sample(f"{family.name}_total", own, count, at_s)
        yield metric


def _sojourn(evidence: Evidence, labels: Mapping[str, str], at_s: float) -> Metric:
    metric = Metric(DELAY.name, DELAY.doc, DELAY.kind)
    for node in evidence.nodes:
        if node.delay is not None:
            for suffix, more, value in _buckets(node.delay):
                metric.add_sample(metric.name + suffix, {**labels, "node": node.node, **more}, value, at_s)
    return metric


def _buckets(histogram: Histogram) -> Iterator[tuple[str, Mapping[str, str], float]]:
    """Yield the samples of a histogram at the bucket bounds of all others; its sum is by the middles of its bins."""
    below = np.concatenate(([0], np.cumsum(histogram.counts)))
    edges_s = histogram.edges_ns / NS_PER_S
    for bound in BUCKETS_S:
        yield "_bucket", {"le": str(bound)}, int(below[int(np.searchsorted(edges_s, bound, side="right")) - 1])
    yield "_bucket", {"le": "+Inf"}, histogram.total
    yield "_count", {}, histogram.total
    middles_s = (edges_s[:-1] + edges_s[1:]) / 2
    yield "_sum", {}, float(np.dot(middles_s, histogram.counts))


def _of_verdict(run: RecordedRun, labels: Mapping[str, str], at_s: float) -> Iterator[Metric]:
    fidelity = run.document("fidelity.json")
    if fidelity is None:
        return
    metric = Metric(VERDICT.name, VERDICT.doc, VERDICT.kind)
    for check in _judged(fidelity.get("checks", ())):
        metric.add_sample(metric.name, {**labels, **check}, 1, at_s)
    yield metric


def _judged(checks: Iterable[Mapping[str, object]]) -> Iterator[dict[str, str]]:
    for check in checks:
        if check["verdict"] is not None:
            yield {"check": str(check["name"]), "verdict": str(check["verdict"])}
