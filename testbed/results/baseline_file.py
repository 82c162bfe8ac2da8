"""A stored baseline: figures of a run, and by how much those of a later run may be worse.

    {"schema": 1, "scenario": "burst", "engine": "simulation", "seed": 1, "plan": "sha256:…",
     "figures": {"delay_ms.p99": {"value": 80.2, "tolerance": {"ratio": 0.1, "absolute": 0.0}}, …}}

The *bound* of a figure is its value and the larger part of its tolerance, beyond it on the worse side.  Which side that
is stands in no file: the table of metrics says which way a figure is better.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from testbed.errors import InputError
from testbed.files import json_text, records, writing
from testbed.files.reading import Source
from testbed.files.records import FIGURE_BOUND, Count, Figure, Name, Text
from testbed.results.metrics import METRICS, Metric, paths

SCHEMA_VERSION = 1
_MAX_BYTES = 10**6
_REMEDY = "`testbed compare RUN --baseline FILE --write` stores one"
_Part = Annotated[float, Field(ge=0, le=FIGURE_BOUND)]


@dataclass(frozen=True, slots=True)
class Tolerance:
    """By how much a figure may be worse: a share of the baseline or an amount in its unit, whichever is more."""

    ratio: _Part = 0.0
    absolute: _Part = 0.0

    def allowed(self, value: float) -> float:
        """Return by how much a figure may be worse than `value`."""
        return max(self.absolute, self.ratio * abs(value))


@dataclass(frozen=True, slots=True)
class BaselineFigure:
    """A figure of the baseline."""

    value: Figure
    tolerance: Tolerance = field(default_factory=Tolerance)

    def bound(self, *, lower_is_better: bool) -> float:
        """Return the worst value that is no regression."""
        room = self.tolerance.allowed(self.value)
        return self.value + room if lower_is_better else self.value - room


@dataclass(frozen=True, slots=True)
class Baseline:
    """Figures of a run, and what it was a run of.

    Attributes:
        scenario, engine, seed: as in the run's manifest.
        plan: the hash of its traffic plan; None where the run has none.
        figures: by their paths in ``summary.json``.
    """

    scenario: Name
    engine: Name
    seed: Count
    plan: Text | None
    figures: Mapping[Name, BaselineFigure]


def judged_metric(name: str) -> Metric:
    """Return the row of a figure that can be better or worse.

    Raises:
        InputError: there is no such figure, or neither way is better.
    """
    if name not in paths():
        (near,) = difflib.get_close_matches(name, paths(), n=1, cutoff=0.0)
        raise InputError(f"baseline figure {name!r}", "the summary has none of that name", f"did you mean `{near}`?")
    metric = METRICS[name]
    if metric.lower_is_better is None:
        happened = "neither more nor less of it is better, so it cannot regress"
        raise InputError(f"baseline figure {name!r}", happened, "name another, or write an expectation (`expect`)")
    return metric


def read(path: Path) -> Baseline:
    """Return a stored baseline.

    Raises:
        InputError: when it is missing, damaged, of another schema, or names what is no figure.
    """
    source = Source(path, _REMEDY, f"read baseline {path}")
    record = json_text.read_object(source, _MAX_BYTES)
    if record.get("schema") != SCHEMA_VERSION:
        raise source.refusal(f"it is not of schema {SCHEMA_VERSION}")
    try:
        baseline = records.made(record, Baseline)
    except ValidationError as error:
        raise source.refusal(records.words(error)) from error
    for name in baseline.figures:
        judged_metric(name)
    return baseline


def write(path: Path, baseline: Baseline) -> Path:
    """Store a baseline, its folder made if need be, and return the path.

    Raises:
        ToolError: when it cannot be written.
    """
    elsewhere = "name another --baseline"
    writing.folder(path.parent, elsewhere=elsewhere)
    return writing.replace_json(path, {"schema": SCHEMA_VERSION, **asdict(baseline)}, elsewhere=elsewhere)
