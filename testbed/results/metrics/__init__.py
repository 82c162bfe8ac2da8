"""The figures of ``summary.json``: one row each, which is all there is to know of a figure beside how it is counted.

Expectations, the form of the file, the terminal, the page, comparisons, sweeps and ``docs/reference/metrics.md`` read
this table, in its order.  The rows stand in the files of this folder.  `summary.py` and the files it asks count those
that are counted together; a row that stands alone, such as that of a plug-in, has a function of its own:

    Metric(name="own.peak_bytes", unit="bytes", doc="…", section="Buffer", label="peak", count=peak)

    def peak(run: Measured) -> float | None: ...       None: it does not apply to this run
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from testbed.files.records import FIGURE_BOUND
from testbed.records.evidence import Evidence
from testbed.records.facts import RunFacts
from testbed.records.samples import NodeSamples
from testbed.registry import Registry
from testbed.scenario import tables
from testbed.scenario.answers import hold, made
from testbed.scenario.tables import MetricTraits

VARIED = ("", "buffer.", "balancer.", "autoscaler.")  # where a sweep has a column; in the order of the columns
_LINE = re.compile(r"[^{}]*\{(bare)?\}[^{}]*")
_PATH = re.compile(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+)*")


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured in a run.

    Attributes:
        facts: what must be known of the scenario.
        evidence: what the engine counted.
        rows: the samples of each node.
        events: the records of ``events.jsonl``, in order; re-read on each iteration.
        summary: the figures counted before.
    """

    facts: RunFacts
    evidence: Evidence
    rows: Mapping[str, NodeSamples]
    events: Iterable[Mapping[str, Any]]
    summary: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Metric(MetricTraits):
    """A figure of a summary, and how it is counted where it stands alone.

    Attributes:
        count: returns the figure of a run, None where it has none; None: `summary.py` counts it with others.
    """

    count: Callable[[Measured], float | None] | None = None

    def defect(self) -> str:
        """Return why a plug-in cannot declare this figure, empty where it can."""
        if not _PATH.fullmatch(self.name):
            return "a metric is named like own.peak_bytes: lower-case words with dots between"
        if self.count is None or not self.is_figure:
            return "a metric of a plug-in is a number that its own function counts: count=…"
        if bool(self.key) != bool(self.column) or self.varied not in VARIED:
            return f"key and column go together, and varied is one of {', '.join(filter(None, VARIED))}"
        if self.key in {row.key for row in METRICS if row.key and row.name != self.name}:
            return f"its key {self.key} is that of another metric"
        if self.line and not _LINE.fullmatch(self.line):
            return "line has {} or {bare} where the value is, and no other brace"
        above = next((row.name for row in METRICS if _within(row.name, self.name) or _within(self.name, row.name)), "")
        return f"its name and {above} exclude each other in a summary" if above else ""


METRICS = cast("Registry[Metric]", tables.METRICS)


def counted(metric: Metric, run: Measured) -> float | None:
    """Return the figure of a run that stands alone.

    Raises:
        PolicyError: it is no number.
    """
    assert metric.count is not None, f"{metric.name} is counted with others"
    value: Any = made(metric.count, run)
    if value is None:
        return None
    if isinstance(value, bool) or not _is_figure(value):
        hold(metric.count, f"{value!r} for {metric.name}, not a number or None")
    figure: float = value.item() if hasattr(value, "item") else value  # a number of NumPy
    return figure


def _is_figure(value: Any) -> bool:
    try:
        return math.isfinite(value) and abs(value) < FIGURE_BOUND
    except (TypeError, ValueError):
        return False


def _within(inner: str, outer: str) -> bool:
    return inner.startswith(f"{outer}.")


def paths() -> tuple[str, ...]:
    """Return every figure that a summary can hold, by its path; what expectations are checked against."""
    return tuple(metric.name for metric in METRICS if metric.is_figure)


def columns() -> tuple[Metric, ...]:
    """Return the figures that comparisons and sweeps have a column for; what the buffers lose and reserve first."""
    return tuple(sorted((m for m in METRICS if m.key), key=lambda metric: metric.section != "Buffer"))
