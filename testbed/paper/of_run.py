"""The figures of one run: distribution of the delay, a node over time, where packets were lost, faults."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from testbed.errors import InputError
from testbed.paper.series import FigureData, Grid, Series, Span
from testbed.records.histogram import Histogram, merged
from testbed.records.samples import NodeSamples
from testbed.report import charts, fault_charts
from testbed.report.fault_courses import courses_of
from testbed.results.recorded_run import RecordedRun
from testbed.units import NS_PER_MS, NS_PER_S

_STRETCHES = 60  # of a heat map over time


def cdf(run: RecordedRun, node: str | None = None) -> FigureData:
    """Return the distribution of the one-way delay, all nodes together and each for itself."""
    evidence = run.evidence()
    nodes = () if evidence is None else [one for one in evidence.nodes if node in (None, one.node)]
    everything = merged(one.delay for one in nodes)
    if everything is None or not everything.total:
        raise _refusal(run, "it has no delays", "give a completed run")
    series = [distribution(everything, "all nodes")] if node is None else []
    series += [
        distribution(one.delay, one.node)
        for one in nodes[: charts.MAX_NODES]
        if one.delay is not None and one.delay.total
    ]
    return FigureData("cdf", "one-way delay (ms)", ["packets (%)"], series, log_x=True)


def distribution(histogram: Histogram, name: str, policy: str = "") -> Series:
    """Return a histogram of delays as a cumulative distribution: x in ms, y in percent."""
    used = np.nonzero(histogram.counts)[0]
    first, last = int(used[0]), int(used[-1])
    edges_ms = np.maximum(histogram.edges_ns[first : last + 2] / NS_PER_MS, 1e-3)
    edges_ms[-1] = max((histogram.largest_ns or 0) / NS_PER_MS, edges_ms[-2])
    below = np.concatenate(([0], np.cumsum(histogram.counts[first : last + 1]))) / histogram.total * 100
    return Series(name, edges_ms.tolist(), below.tolist(), policy=policy)


def timeline(run: RecordedRun, node: str | None = None) -> FigureData:
    """Return limit, backlog and forecast of a node over time, and what arrived and was dropped below."""
    name, rows = _node(run, node)
    thinned = charts.thin(rows)
    time = thinned.t_s.tolist()
    series = [
        Series("limit", time, thinned.limit_mb.tolist()),
        Series("backlog", time, thinned.backlog_mb.tolist()),
        Series("arrivals", time, thinned.arrived_mbit_s.tolist(), panel=1),
    ]
    if thinned.predicted_mb is not None:
        known = ~np.isnan(thinned.predicted_mb)
        forecast = Series("forecast", thinned.t_s[known].tolist(), thinned.predicted_mb[known].tolist())
        series[2:2] = [forecast] if known.any() else []
    drops = np.asarray(thinned.dropped_pkts, dtype=np.float64)
    series.append(Series("drops", time, drops.tolist(), panel=2))
    labels = [f"buffer of {name} (MB)", "arrivals (Mbit/s)", f"drops (packets\nper {thinned.stretch_ms:.3g} ms)"]
    return FigureData("timeline", "time (s)", labels, series, spans=_spans(run, name))


def fault(run: RecordedRun, node: str | None = None) -> FigureData:
    """Return loss and queueing delay over time, shaded by the faults."""
    spans = _spans(run, node)
    if not spans:
        raise _refusal(run, "no fault was commanded in it", "give a run of a scenario with faults")
    samples = run.samples_by_node()
    courses = courses_of(run, run.document("summary.json") or {})
    end_s = max(float(rows.t_ns[-1]) / NS_PER_S for rows in samples.values())
    chart = fault_charts.time_chart(courses, samples, run.facts, end_s)
    series = [
        Series(trace["name"], trace["x"], [y or 0.0 for y in trace["y"]], panel=1 if "yaxis" in trace else 0)
        for trace in chart["data"]
    ]
    labels = ["lost (% of packets)", "queueing delay (ms)"]
    return FigureData("fault", "time (s)", labels, series, spans=spans)


def bar(run: RecordedRun, node: str | None = None) -> FigureData:
    """Return the packets lost by place, of those sent."""
    summary = run.document("summary.json")
    if summary is None:
        raise _refusal(run, "it has no summary", "give a completed run")
    traffic = summary.get("traffic") or {}
    places, sent = traffic.get("dropped_packets") or {}, traffic.get("sent_packets") or 1
    values = [100 * lost / sent for lost in places.values()]
    series = [Series("lost", list(places), values)]
    return FigureData("bar", "place", ["lost (% of the packets sent)"], series)


def heatmap(run: RecordedRun, node: str | None = None) -> FigureData:
    """Return the largest backlog of each node in each stretch of time."""
    samples = run.samples_by_node()
    if not samples:
        raise _refusal(run, "it has no samples", "give a completed run")
    edges_s = np.linspace(0, max(float(rows.t_ns[-1]) for rows in samples.values()) / NS_PER_S, _STRETCHES + 1)
    values = [_largest(rows, edges_s) for rows in samples.values()]
    grid = Grid([round(float(edge), 4) for edge in edges_s[1:]], list(samples), values, "largest backlog (MB)")
    return FigureData("heatmap", "time (s)", ["node"], grid=grid)


def _largest(rows: NodeSamples, edges_s: np.ndarray) -> list[float | None]:
    most = np.zeros(len(edges_s) - 1)
    places = np.clip(np.searchsorted(edges_s, rows.t_ns / NS_PER_S) - 1, 0, len(most) - 1)
    np.maximum.at(most, places, rows.backlog_bytes / 1e6)
    return list(most.tolist())


def _spans(run: RecordedRun, node: str | None) -> Sequence[Span]:
    courses = courses_of(run, run.document("summary.json") or {})
    end_s = run.facts.duration_ns / NS_PER_S
    hit = [course for course in courses if node is None or node in course.nodes]
    return [Span(course.label, course.commanded_s, course.at_s("healed") or end_s) for course in hit]


def _node(run: RecordedRun, node: str | None) -> tuple[str, NodeSamples]:
    samples = run.samples_by_node(charts.OPTIONAL)
    if node is None and samples:
        return max(samples.items(), key=lambda item: (int(item[1].dropped_pkts.sum()), int(item[1].arrived_pkts.sum())))
    if node not in samples:
        raise _refusal(run, f"it has no node {node}", f"choose one of {', '.join(samples) or 'another run'}")
    return node, samples[node]


def _refusal(run: RecordedRun, happened: str, remedy: str) -> InputError:
    return InputError(f"plot {run.path}", happened, remedy)
