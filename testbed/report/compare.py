"""Several runs of one scenario side by side.

A comparison of policies is worth something only if the traffic was the same, so runs of one seed must carry the same
hash of their traffic plan, and runs of different seeds the same settings of their traffic; others are refused, or named
as different when the caller insists.  Whatever else differs is named (`results.conditions`), but for the policies, the
seed and the engine, which have columns.  Means are over runs that differ in the seed alone.  INVALID runs are shown and
marked, and enter no mean and no baseline.

*Gain* places a policy between the floor and the oracle by loss: ``(ours − static-min) / (oracle − static-min)``, 0 as
bad as never expanding, 1 as good as knowing the traffic; between runs that differ in nothing but the buffer's policy.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from testbed.errors import InputError
from testbed.report.answer import answer_of_rows, answer_of_run
from testbed.report.figure_columns import GAIN, FigureColumn, figure_columns
from testbed.report.written import figure
from testbed.results.conditions import Conditions, Difference, conditions_of, differences_of, surroundings_of
from testbed.results.metrics import columns
from testbed.results.outcome import COUNTING, EndedRun, ended
from testbed.results.recorded_run import RecordedRun

_IN_COLUMNS = frozenset(
    {*("buffer.policy", "balancer.policy", "engine", "seed", "name"), *("buffer_policy", "balancer_policy")}
)
OF_THE_POLICY = ("buffer.policy", "buffer_policy", "buffer.mean", "model")  # follows the policy, and differs with it
_OF_THE_TRAFFIC = ("traffic", "duration", "trace/")


@dataclass(frozen=True, slots=True)
class Row:
    """One run, or the mean of several (`runs` > 1).  A figure the run does not have is None.

    Attributes:
        name: the run directory's name, or what was averaged.
        policy, balancer, engine, seed: what was compared; seed None for means.
        verdict: VALID, DEGRADED, INVALID, or the status of a run that has no summary.
        runs: how many runs the figures stand on.
        figures: of the summary, by the keys of `results.metrics.columns`.
        gain_ratio: see the head of this module.
        why: the gravest reason of a run that does not count.
    """

    name: str
    policy: str
    balancer: str
    engine: str
    seed: int | None
    verdict: str
    runs: int = 1
    figures: Mapping[str, float | None] = field(default_factory=dict)
    gain_ratio: float | None = None
    why: str = ""

    @property
    def counts(self) -> bool:
        """Return whether the run may enter means and baselines."""
        return self.verdict in COUNTING

    @property
    def loss_ratio(self) -> float | None:
        """Return what the buffers lost."""
        return self.figures.get("loss_ratio")

    @property
    def reserved_mb_s(self) -> float | None:
        """Return what they reserved."""
        return self.figures.get("reserved_mb_s")

    def value(self, key: str) -> float | None:
        """Return a figure by its key, or the gain."""
        return self.gain_ratio if key == GAIN else self.figures.get(key)

    def to_record(self) -> dict[str, Any]:
        """Return the row as JSON data, the figures beside the rest."""
        record = asdict(self)
        figures, gained = record.pop("figures"), record.pop(GAIN)
        return {**record, **figures, GAIN: gained}


@dataclass(frozen=True, slots=True)
class Comparison:
    """Runs side by side.

    Attributes:
        scenario: the name (names, when different ones were allowed).
        rows: one for each run, in the order given.
        means: one for each group of at least two runs that count and differ in the seed alone.
        notes: what a reader must know: differences between the runs, runs left out of the means.
        differences: every key in which the runs differ, columns of the table aside.
        question: what the scenario asks.
        answer: what these runs say to it, in one sentence.
    """

    scenario: str
    rows: tuple[Row, ...]
    means: tuple[Row, ...]
    notes: tuple[str, ...]
    differences: tuple[Difference, ...] = ()
    question: str = ""
    answer: str = ""

    def to_record(self) -> dict[str, Any]:
        """Return the comparison as JSON data."""
        rows = {name: [row.to_record() for row in part] for name, part in (("rows", self.rows), ("means", self.means))}
        return {**asdict(self), **rows}

    def text(self) -> str:
        """Return the comparison as a text table."""
        lines = [f"scenario {self.scenario}", *aligned(_table(self.rows))]
        if self.means:
            lines += ["", "means", *aligned(_table(self.means))]
        said = [f"note: {note}" for note in self.notes]
        if all(row.gain_ratio is None for row in self.rows):
            said.append("gain needs a run of static-min and one of oracle beside each run")
        said += [f"question: {paragraph_of(self.question)}"] if self.question else []
        said += [f"answer: {self.answer}"] if self.answer else []
        return "\n".join([*lines, "", *said])


def compare(run_dirs: Sequence[Path], *, allow_different: bool = False) -> Comparison:
    """Return the comparison of run directories.

    Args:
        run_dirs: at least one.
        allow_different: show runs of different scenarios or traffic anyway, with a note.

    Raises:
        InputError: when a directory is no run, or the runs' scenario or traffic differ and that was not allowed.
    """
    runs = [RecordedRun.open(path) for path in run_dirs]
    conditions = [conditions_of(run) for run in runs]
    different = list(_incomparable(runs, conditions))
    if different and not allow_different:
        raise InputError("compare", different[0], "compare runs of one plan, or pass --allow-different")
    rows = _with_gains([row_of(ended(run)) for run in runs], conditions)
    found = [one for one in differences_of(conditions) if one.key not in _IN_COLUMNS]
    around = surroundings_of(conditions)
    notes = [*different, *(one.told([row.name for row in rows]) for one in (*found, *around)), *_left_out(rows)]
    names = sorted({run.facts.scenario for run in runs})
    means = _means(rows, conditions, [run.plan_hash for run in runs])
    question = "\n\n".join(dict.fromkeys(run.facts.question for run in runs))
    tables = (tuple(rows), tuple(means), tuple(notes), (*found, *around))
    return Comparison(", ".join(names), *tables, question, _answer(runs, rows))


def _answer(runs: Sequence[RecordedRun], rows: Sequence[Row]) -> str:
    """Return the answer of these runs; a name for each has what differs between them: policy, balancer, engine."""
    if len(rows) == 1:
        return answer_of_run(runs[0].document("summary.json") or {})
    words = [(row.policy, row.balancer, row.engine) for row in rows]
    varied = [k for k in range(3) if len({word[k] for word in words}) > 1] or [0]
    losses: dict[str, list[float]] = {", ".join(word[k] for k in varied): [] for word in words}
    for row, word in zip(rows, words, strict=True):
        if row.counts and row.loss_ratio is not None:
            losses[", ".join(word[k] for k in varied)].append(row.loss_ratio)
    return answer_of_rows(losses)


def paragraph_of(question: str) -> str:
    """Return the first paragraph of a question, in one line: what is asked."""
    return " ".join(question.partition("\n\n")[0].split())


def row_of(ended: EndedRun) -> Row:
    """Return the figures of a run; the gain needs others and is None."""
    facts = ended.run.facts
    figures = {metric.key: figure(ended.summary, metric.name) for metric in columns()}
    return Row(
        name=ended.run.path.name or str(ended.run.path),
        policy=facts.buffer_policy,
        balancer=facts.balancer_policy,
        engine=facts.engine,
        seed=facts.seed,
        verdict=ended.outcome,
        figures=figures,
        why="" if ended.counts else why_not_counted(ended),
    )


def why_not_counted(ended: EndedRun) -> str:
    """Return the gravest reason why a run does not count."""
    reasons = ended.summary.get("verdict_reasons") or ()
    return str(reasons[0]) if reasons else f"it was {ended.outcome} before it had a verdict"


def _incomparable(runs: Sequence[RecordedRun], conditions: Sequence[Conditions]) -> Iterable[str]:
    """Yield what makes the runs incomparable: another scenario, or other traffic."""
    first_of_seed: dict[int, RecordedRun] = {}
    for run in runs:
        if run.facts.scenario != runs[0].facts.scenario:
            yield f"{run.path} is of scenario {run.facts.scenario}, {runs[0].path} of {runs[0].facts.scenario}"
            continue
        first = first_of_seed.setdefault(run.facts.seed, run)
        if run.plan_hash is None:
            yield f"{run.path} has no hash of its traffic plan"
        elif run.plan_hash != first.plan_hash:
            yield f"{run.path} and {first.path} have the same seed and different traffic"
    if len(first_of_seed) > 1:
        for one in differences_of(conditions):
            if one.key.startswith(_OF_THE_TRAFFIC):
                yield f"the runs have different traffic: {one}"


def _left_out(rows: Sequence[Row]) -> Iterable[str]:
    out = [row.name for row in rows if not row.counts]
    if out:
        yield f"in no mean and no baseline: {', '.join(out)}"


def _with_gains(rows: Sequence[Row], conditions: Sequence[Conditions]) -> list[Row]:
    rivals = [one.without(*OF_THE_POLICY) for one in conditions]  # the seed is in it
    losses: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row, rival in zip(rows, rivals, strict=True):
        if row.counts and row.loss_ratio is not None:
            losses[rival, row.policy].append(row.loss_ratio)

    def gained(row: Row, rival: str) -> Row:
        floor, oracle = (losses.get((rival, policy)) for policy in ("static-min", "oracle"))
        ends = (fmean(floor) if floor else None, fmean(oracle) if oracle else None)
        return dataclasses.replace(row, gain_ratio=gain(row.loss_ratio, *ends))

    return [gained(row, rival) for row, rival in zip(rows, rivals, strict=True)]


def gain(ours: float | None, floor: float | None, oracle: float | None) -> float | None:
    """Return how far `ours` is on the way from `floor` to `oracle`, None where that is undefined."""
    if ours is None or floor is None or oracle is None or floor == oracle:
        return None
    return (ours - floor) / (oracle - floor) + 0.0  # no minus before a zero


def _means(rows: Sequence[Row], conditions: Sequence[Conditions], plans: Sequence[str | None]) -> Iterable[Row]:
    """Yield the mean of each group of runs that differ in the seed alone; runs of one seed must have had one plan."""
    groups: dict[str, list[tuple[Row, str | None]]] = defaultdict(list)
    for row, one, plan in zip(rows, conditions, plans, strict=True):
        if row.counts:
            groups[one.without("seed")].append((row, plan))
    for members in groups.values():
        plans_of_seeds = {(row.seed, plan) for row, plan in members}
        if len(members) > 1 and len(plans_of_seeds) == len({seed for seed, _ in plans_of_seeds}):
            yield _mean_of([row for row, _ in members])


def _mean_of(rows: Sequence[Row]) -> Row:
    verdict = "DEGRADED" if any(row.verdict == "DEGRADED" for row in rows) else "VALID"
    figures = {metric.key: _mean(row.value(metric.key) for row in rows) for metric in columns()}
    first, gained = rows[0], _mean(row.gain_ratio for row in rows)
    name = f"mean of {len(rows)}"
    return Row(name, first.policy, first.balancer, first.engine, None, verdict, len(rows), figures, gained)


def _mean(values: Iterable[Any]) -> float | None:
    """Return the mean, None when a member lacks the figure: a mean over some of the runs compares unlike things."""
    known = list(values)
    return None if None in known else fmean(known)


# ------------------------------------------------------------------------------------------------- as text

_WORDS: tuple[tuple[str, Callable[[Row], str]], ...] = (
    ("run", lambda row: row.name),
    ("engine", lambda row: row.engine),
    ("seed", lambda row: "" if row.seed is None else str(row.seed)),
    ("buffer", lambda row: row.policy),
    ("balancer", lambda row: row.balancer),
    ("verdict", lambda row: row.verdict),
)
TEXT_COLUMNS = len(_WORDS)  # they stand to the left, numbers to the right


def _table(rows: Iterable[Row]) -> list[list[str]]:
    """Return header and cells; figures of the balancer only where a sweep varies it, so not here."""
    headers, cells = cells_of(rows)
    return [headers, *cells]


def cells_of(rows: Iterable[Row]) -> tuple[list[str], list[list[str]]]:
    """Return the headers and the cells of rows, as text."""
    rows = list(rows)
    shown = {"", "buffer.", *(["autoscaler."] if any(row.value("over_ratio") is not None for row in rows) else [])}
    figures = [figure for figure in figure_columns() if figure.varied in shown]
    headers = [*(header for header, _ in _WORDS), *(figure.header for figure in figures)]
    return headers, [[*(write(row) for _, write in _WORDS), *(_cell(row, one) for one in figures)] for row in rows]


def _cell(row: Row, column: FigureColumn) -> str:
    value = row.value(column.key)
    return "–" if value is None else column.write(value)


def aligned(table: Sequence[Sequence[str]], text_columns: int = TEXT_COLUMNS) -> list[str]:
    """Return the lines of a table whose first row is the header."""
    widths = [max(len(row[k]) for row in table) for k in range(len(table[0]))]
    pads = [str.ljust if k < text_columns else str.rjust for k in range(len(widths))]
    lines = ["  ".join(pads[k](cell, widths[k]) for k, cell in enumerate(row)).rstrip() for row in table]
    return [lines[0], "  ".join("-" * width for width in widths), *lines[1:]]
