"""Is a run worse than its baseline by more than the tolerance?

The traffic must be the same packet by packet, and the engine, or a difference says nothing of the code.  Only the worse
side of a figure is bounded: an improvement is no regression.  A figure that the baseline has and the run lacks is one.
Runs that do not count (INVALID, or without an end) are not judged and never stored.

Without figures that are named, those are taken that `reproduce` and `agree` compare, with the same tolerance.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from testbed.errors import (
    EXIT_EXPECTATION_FAILED,
    EXIT_INVALID,
    EXIT_OK,
    EXIT_TOOL_FAILED,
    InputError,
)
from testbed.report.agreement import BOUNDS
from testbed.report.written import figure
from testbed.results import baseline_file
from testbed.results.baseline_file import Baseline, BaselineFigure, Tolerance, judged_metric
from testbed.results.metrics import columns
from testbed.results.outcome import EndedRun, ended
from testbed.results.recorded_run import RecordedRun

_USUAL = Tolerance(ratio=0.1)
_AMOUNT = re.compile(r"([0-9]+(?:\.[0-9]*)?)(%?)")


@dataclass(frozen=True, slots=True)
class FigureResult:
    """One figure of one run against the baseline.

    Attributes:
        run: its directory.
        outcome: how it ended, see `EndedRun`.
        figure: the path in ``summary.json``.
        value: in the run, None where it has none.
        baseline: in the baseline.
        bound: the worst value that is no regression.
        lower_is_better: which side of the bound is the worse.
        passed: None where the run does not count.
    """

    run: str
    outcome: str
    figure: str
    value: float | None
    baseline: float
    bound: float
    lower_is_better: bool
    passed: bool | None

    @property
    def words(self) -> str:
        """Return figure, baseline and bound in words, in the units of ``summary.json``."""
        value = "absent" if self.value is None else f"{self.value:.6g}"
        side = "most" if self.lower_is_better else "least"
        return f"{self.figure} is {value}, the baseline {self.baseline:.6g}, allowed at {side} {self.bound:.6g}"


@dataclass(frozen=True, slots=True)
class Judged:
    """Runs against a baseline.

    Attributes:
        source: where the baseline is from.
        results: each figure of each run.
        notes: in what baseline and runs differ, where that was allowed.
    """

    source: str
    results: tuple[FigureResult, ...]
    notes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """Return what the command should exit with; a run that does not count says nothing, so that comes first."""
        not_counting = {result.outcome for result in self.results if result.passed is None}
        if not_counting:
            return EXIT_INVALID if not_counting == {"INVALID"} else EXIT_TOOL_FAILED
        held = all(result.passed for result in self.results)
        return EXIT_OK if held else EXIT_EXPECTATION_FAILED

    def text(self) -> str:
        """Return a line for each figure."""
        words = {True: "ok", False: "REGRESSION", None: "not judged"}
        runs = {result.run for result in self.results}
        lines = [
            f"{words[one.passed]:10}  {f'{one.run}: ' if len(runs) > 1 else ''}{one.words}"
            + (f"; the run is {one.outcome}" if one.passed is None else "")
            for one in self.results
        ]
        return "\n".join([f"baseline {self.source}", *lines, *(f"note: {note}" for note in self.notes)])

    def to_record(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return asdict(self)


def judge(source: Path, runs: Sequence[Path], figures: Sequence[str] = (), *, allow_different: bool = False) -> Judged:
    """Return each figure of runs against a baseline.

    Args:
        source: a stored baseline, or the directory of a run that is one.
        runs: run directories.
        figures: ``NAME[=TOLERANCE]``, where the baseline is a run; a stored one names its own.
        allow_different: judge although scenario, engine or traffic differ, with a note.

    Raises:
        InputError: when the baseline or a run cannot be read, or they differ and that was not allowed.
    """
    baseline = _baseline(source, figures)
    found = [ended(RecordedRun.open(path)) for path in runs]
    notes = [note for run in found for note in _unlike(run.run, baseline)]
    if notes and not allow_different:
        raise InputError(f"compare with baseline {source}", notes[0], "compare runs of one plan, or --allow-different")
    results = [_result(run, name, of) for run in found for name, of in baseline.figures.items()]
    return Judged(str(source), tuple(results), tuple(notes))


def store(target: Path, runs: Sequence[Path], figures: Sequence[str] = ()) -> Path:
    """Store the figures of a run as a baseline and return the path; `figures` as of `judge`.

    Raises:
        InputError: when there is not exactly one run, it does not count or lacks a figure, or `target` is a directory.
        ToolError: when it cannot be written.
    """
    if len(runs) != 1:
        raise InputError(f"--write {target}", f"{len(runs)} runs were named", "name the one that is to be the baseline")
    if target.is_dir():
        raise InputError(f"--write {target}", "it is a directory", "name a file")
    return baseline_file.write(target, baseline_of(ended(RecordedRun.open(runs[0])), figures))


def baseline_of(run: EndedRun, figures: Sequence[str] = ()) -> Baseline:
    """Return a run as a baseline.

    Raises:
        InputError: when it does not count, or lacks a figure that was named.
    """
    attempted = f"take {run.run.path} as a baseline"
    if not run.counts:
        raise InputError(attempted, f"it is {run.outcome}", "take a run that is VALID or DEGRADED")
    named = dict(map(_named, figures))
    tolerances = named or usual_tolerances()
    found = {name: figure(run.summary, name) for name in tolerances}
    absent = [name for name in named if found[name] is None]
    if absent:
        raise InputError(attempted, f"its summary has no {absent[0]}", "name figures that it has")
    kept = {name: BaselineFigure(value, tolerances[name]) for name, value in found.items() if value is not None}
    facts = run.run.facts
    return Baseline(facts.scenario, facts.engine, facts.seed, run.run.plan_hash, kept)


def usual_tolerances() -> Mapping[str, Tolerance]:
    """Return the figures that are compared when none is named."""
    names = {metric.key: metric.name for metric in columns()}
    return {names[bound.figure]: Tolerance(bound.ratio, bound.absolute) for bound in BOUNDS}


def _baseline(source: Path, figures: Sequence[str]) -> Baseline:
    if source.is_dir():
        return baseline_of(ended(RecordedRun.open(source)), figures)
    if figures:
        happened = f"{source} has its own figures and tolerances"
        raise InputError(f"--figure {figures[0]}", happened, "edit it, or store it anew with --write")
    return baseline_file.read(source)


def _named(text: str) -> tuple[str, Tolerance]:
    """Return figure and tolerance of ``NAME``, ``NAME=5%`` or ``NAME=0.2``, the last in the unit of the figure."""
    name, equals, allowed = text.partition("=")
    judged_metric(name)
    amount = _AMOUNT.fullmatch(allowed)
    if not equals:
        return name, _USUAL
    if amount is None:
        raise InputError(f"--figure {text}", f"{allowed!r} is no tolerance", "write for example delay_ms.p99=5% or =2")
    value = float(amount[1])
    return name, Tolerance(ratio=value / 100) if amount[2] else Tolerance(absolute=value)


def _unlike(run: RecordedRun, baseline: Baseline) -> Iterator[str]:
    """Yield what makes a run and the baseline incomparable."""
    facts = run.facts
    for what, ours, theirs in (
        ("scenario", facts.scenario, baseline.scenario),
        ("engine", facts.engine, baseline.engine),
        ("seed", facts.seed, baseline.seed),
    ):
        if ours != theirs:
            yield f"{what} of {run.path} is {ours}, that of the baseline {theirs}"
            return
    if run.plan_hash is None or run.plan_hash != baseline.plan:
        yield f"{run.path} and the baseline have different traffic, or no hash of their traffic plan"


def _result(run: EndedRun, name: str, of: BaselineFigure) -> FigureResult:
    lower = bool(judged_metric(name).lower_is_better)
    bound, value = of.bound(lower_is_better=lower), figure(run.summary, name)
    within = value is not None and (value <= bound if lower else value >= bound)
    passed = within if run.counts else None
    return FigureResult(str(run.run.path), run.outcome, name, value, of.value, bound, lower, passed)
