"""The metrics of a running trial: what a scrape reads.

Samples are only kept as they come, and folded into the series when there are many or somebody scrapes: so a trial
that nobody looks at pays a list's append for each block of samples.  The trial and the scrapes are in two threads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from prometheus_client.metrics_core import Metric

from testbed import __version__
from testbed.openmetrics.event_counts import EventCounts
from testbed.openmetrics.families import (
    BUCKETS_S,
    BUILD,
    RUN,
    RUN_PLANNED,
    RUN_TIME,
    SAMPLE_FAMILIES,
    SCRAPE_CPU,
    Fold,
    RunFamily,
    SampleFamily,
)
from testbed.records.events import Floats, Ints
from testbed.units import NS_PER_S

MANY_BLOCKS = 256


class LiveMetrics:
    """The series of one trial; a collector for `prometheus_client`.

    Attributes:
        scrapes, spent_ns: how many were answered, and the processor time that took; kept by the server.

    Args:
        labels: those of every series (`families.run_labels`).
        info: what else is to be known of the run, the labels of `families.RUN`.
        planned_ns: how long traffic is planned to last.
        began_ns: when that was, on the clock of the samples.
    """

    def __init__(self, labels: Mapping[str, str], info: Mapping[str, str], planned_ns: int, began_ns: int = 0) -> None:
        self._labels, self._info, self._planned_ns = dict(labels), dict(info), planned_ns
        self._began_ns = began_ns
        self._lock = threading.Lock()
        self._waiting: list[Mapping[str, Any]] = []
        self._events = EventCounts()
        self._nodes: dict[str, int] = {}
        self._folded = {family: _FOLDS[family.fold]() for family in SAMPLE_FAMILIES}
        self._t_ns = 0
        self.scrapes, self.spent_ns = 0, 0

    # ------------------------------------------------------------------------------------------- what a trial reports

    def append_columns(self, columns: Mapping[str, object]) -> None:
        """Process rows of samples, as `engine.Writer` does."""
        with self._lock:
            self._waiting.append(columns)
            if len(self._waiting) >= MANY_BLOCKS:
                self._fold()

    def append_event(self, record: Mapping[str, Any]) -> None:
        """Process a record of an event."""
        with self._lock:
            self._events.take(record)

    # ------------------------------------------------------------------------------------------------ what is scraped

    def collect(self) -> Iterator[Metric]:
        """Yield every metric family with the values of now."""
        with self._lock:
            self._fold()
            metrics = [*self._run_metrics(), *self._sample_metrics(), *self._event_metrics()]
        yield from metrics

    def _run_metrics(self) -> Iterator[Metric]:
        yield self._of_run(BUILD, 1, {"version": __version__})
        yield self._of_run(RUN, 1, self._info)
        yield self._of_run(RUN_TIME, max(0, self._t_ns - self._began_ns) / NS_PER_S)
        yield self._of_run(RUN_PLANNED, self._planned_ns / NS_PER_S)
        yield self._of_run(SCRAPE_CPU, self.spent_ns / NS_PER_S)

    def _of_run(self, family: RunFamily, value: float, labels: Mapping[str, str] | None = None) -> Metric:
        metric = Metric(family.name, family.doc, family.kind)
        metric.add_sample(family.sample, {**self._labels, **(labels or {})}, value)
        return metric

    def _sample_metrics(self) -> Iterator[Metric]:
        for family, folded in self._folded.items():
            metric = Metric(family.name, family.doc, family.kind)
            for node, place in self._nodes.items():
                for suffix, more, value in folded.values(place, family.divisor):
                    metric.add_sample(family.name + suffix, {**self._labels, "node": node, **more}, value)
            yield metric

    def _event_metrics(self) -> Iterator[Metric]:
        for family, series in self._events.series():
            metric = Metric(family.name, family.doc, family.kind)
            for value, count in series:
                own = {family.label: value} if family.label else {}
                metric.add_sample(f"{family.name}_total", {**self._labels, **own}, count)
            yield metric

    # ------------------------------------------------------------------------------------------------ what is folded

    def _fold(self) -> None:
        waiting, self._waiting = self._waiting, []
        for columns in waiting:
            places = np.array([self._nodes.setdefault(node, len(self._nodes)) for node in columns["node"]])
            self._t_ns = max(self._t_ns, int(np.max(columns["t_ns"])))
            for family, folded in self._folded.items():
                values = numbers(columns, family)
                if values is not None:
                    folded.take(places, values, len(self._nodes))


def numbers(columns: Mapping[str, Any], family: SampleFamily) -> Floats | None:
    """Return the column of a family as float64, NaN where nothing was measured; None where nothing was at all."""
    values = columns.get(family.column)
    if values is None:
        return None
    if isinstance(values, np.ma.MaskedArray):
        return np.where(np.ma.getmaskarray(values), np.nan, values.data)
    return np.asarray(values, dtype=np.float64)


Values = Iterator[tuple[str, Mapping[str, str], float]]
"""Suffix of the sample's name, labels beside the node, value."""


class _Last:
    def __init__(self) -> None:
        self._values: Floats = np.zeros(0)

    def take(self, places: Ints, values: Floats, nodes: int) -> None:
        self._values = _grown(self._values, nodes, np.nan)
        measured = ~np.isnan(values)
        self._values[places[measured]] = values[measured]  # of several rows of a node the last one stays

    def values(self, place: int, divisor: int) -> Values:
        if place < len(self._values) and not np.isnan(self._values[place]):
            yield self._suffix, {}, self._values[place] / divisor

    _suffix = ""


class _Running(_Last):
    _suffix = "_total"


class _Sum:
    def __init__(self) -> None:
        self._values: Floats = np.zeros(0)
        self._measured = False

    def take(self, places: Ints, values: Floats, nodes: int) -> None:
        self._values = _grown(self._values, nodes, 0.0)
        self._values += np.bincount(places, weights=np.nan_to_num(values), minlength=nodes)
        self._measured = True

    def values(self, place: int, divisor: int) -> Values:
        if self._measured and place < len(self._values):
            yield "_total", {}, self._values[place] / divisor


class _Spread:
    def __init__(self) -> None:
        self._counts: Ints = np.zeros((0, len(BUCKETS_S) + 1), dtype=np.int64)
        self._sums: Floats = np.zeros(0)

    def take(self, places: Ints, values: Floats, nodes: int) -> None:
        self._counts, self._sums = _grown(self._counts, nodes, 0), _grown(self._sums, nodes, 0.0)
        measured = ~np.isnan(values)
        buckets = np.searchsorted(_BUCKETS_NS, values[measured], side="left")
        np.add.at(self._counts, (places[measured], buckets), 1)
        self._sums += np.bincount(places[measured], weights=values[measured], minlength=nodes)

    def values(self, place: int, divisor: int) -> Values:
        if place >= len(self._sums) or not self._counts[place].any():
            return
        below = np.cumsum(self._counts[place]).tolist()
        for bound, count in zip((*map(str, BUCKETS_S), "+Inf"), below, strict=True):
            yield "_bucket", {"le": bound}, count
        yield "_count", {}, below[-1]
        yield "_sum", {}, self._sums[place] / divisor


_BUCKETS_NS = np.array(BUCKETS_S) * NS_PER_S
_FOLDS: Mapping[Fold, Callable[[], _Last | _Sum | _Spread]] = {
    Fold.LAST: _Last,
    Fold.SUM: _Sum,
    Fold.RUNNING: _Running,
    Fold.SPREAD: _Spread,
}


def _grown(values: Any, nodes: int, fill: float) -> Any:
    missing = nodes - len(values)
    if missing <= 0:
        return values
    return np.concatenate((values, np.full((missing, *values.shape[1:]), fill, dtype=values.dtype)))
