"""Whether two engines say the same of one sweep: every combination's figures side by side, with a verdict each.

The engines carried out the same packets under the same seeds, so a combination is judged by its means over the seeds:

    loss ratio          within 1 percentage point or 10 % of the emulated one
    p99 delay           within 10 %
    reserved memory     within 5 %
    cost                within 10 % or 0.1 MB

**Decided or not.**  The seeds are the same in both engines, so the differences are taken seed by seed, and their mean
has a 95 % interval.  The engines *agree* where the whole interval lies within what is allowed, they *differ* where all
of it lies beyond, and the figure is *undecided* where it holds the bound: more seeds would decide.  One seed has no
interval; it decides only where both engines gave the very same value.

**Ranking.**  Whoever compares policies needs their order more than their figures.  Policies that differ in nothing else
are ranked by loss, memory and cost; two of them are *reversed* when the engines put them in opposite order and both put
more between them than the bounds above allow for noise and than their intervals are wide.  Policies that one engine
cannot tell apart are a tie there (≈) and have no order.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from testbed.errors import InputError
from testbed.report.compare import Row, aligned
from testbed.report.sweep_table import CombinationRow, SweepTable
from testbed.report.written import percent, short
from testbed.results.conditions import differences_of
from testbed.results.confidence import Estimate, estimate
from testbed.scenario.sweep import MEAN, POLICY

HEADERS = ("figure", "emulated", "simulated", "difference", "allowed", "verdict")


@dataclass(frozen=True, slots=True)
class Bound:
    """How far two engines may differ in a figure.

    Attributes:
        figure: by its key, see `figure_columns`.
        title: as people read it.
        ratio: of the emulated value.
        absolute: whichever is more; 0 for none.
    """

    figure: str
    title: str
    ratio: float
    absolute: float = 0.0

    def allowed(self, emulated: float) -> float:
        """Return by how much the simulated value may be off."""
        return max(self.absolute, self.ratio * abs(emulated))

    def written(self, value: float) -> str:
        """Return a value as text."""
        return percent(value) if self.figure == "loss_ratio" else short(value)


LOSS = Bound("loss_ratio", "loss", 0.10, 0.01)
MEMORY = Bound("reserved_mb_s", "reserved MB·s", 0.05)
COST = Bound("cost", "cost MB", 0.10, 0.1)
BOUNDS = (LOSS, Bound("p99_ms", "p99 delay ms", 0.10), MEMORY, COST)
RANKED = (LOSS, MEMORY, COST)


@dataclass(frozen=True, slots=True)
class Judgement:
    """One figure of one combination, or the ranking by one figure, in both engines.

    Attributes:
        sweep, combination: what was compared.
        figure: its title.
        emulated, simulated, difference, allowed: as text.
        agrees: None when it was not run in both, or is undecided.
        undecided: the seeds say neither that the engines agree nor that they differ.
        note: what else than the engine was different, "" for nothing.
    """

    sweep: str
    combination: str
    figure: str
    emulated: str
    simulated: str
    difference: str
    allowed: str
    agrees: bool | None
    note: str = ""
    undecided: bool = False

    @property
    def cells(self) -> list[str]:
        """Return the row of the table."""
        open_word = "undecided" if self.undecided else "not run"
        verdict = {True: "agrees", False: "DIFFERS", None: open_word}[self.agrees]
        figures = [self.figure, self.emulated, self.simulated, self.difference, self.allowed, verdict]
        return [self.sweep, self.combination, *figures]


def judge(emulated: SweepTable, simulated: SweepTable) -> list[Judgement]:
    """Return every judgement of one sweep.

    Raises:
        InputError: when the two are not of one sweep, or a seed had other packets or settings.
    """
    _refuse_unlike(emulated, simulated)
    note = _refuse_other_conditions(emulated, simulated)
    pairs = list(zip(emulated.combinations, simulated.combinations, strict=True))
    found = _paired(emulated, simulated)
    figures = [_judged(emulated.name, a, b, bound, found) for a, b in pairs for bound in BOUNDS if _has(a, bound)]
    return [replace(judgement, note=note) for judgement in (*figures, *_rankings(emulated.name, pairs))]


def text(judgements: Sequence[Judgement]) -> str:
    """Return the table as text, and how many agree."""
    table = [["sweep", "combination", *HEADERS], *(judgement.cells for judgement in judgements)]
    return "\n".join(
        [*aligned(table, 3), "", summary_of(judgements), *(f"note: {note}" for note in notes_of(judgements))]
    )


def notes_of(judgements: Sequence[Judgement]) -> list[str]:
    """Return what was different in whole sweeps, beside the engine."""
    return list(dict.fromkeys(f"{one.sweep}: {one.note}" for one in judgements if one.note))


def summary_of(judgements: Sequence[Judgement]) -> str:
    """Return how many agree, in words."""
    run = [judgement for judgement in judgements if judgement.agrees is not None or judgement.undecided]
    agree, undecided = (sum(bool(getattr(one, name)) for one in run) for name in ("agrees", "undecided"))
    missing = len(judgements) - len(run)
    parts = [f"{agree} of {len(run)} agree", f"{undecided} are undecided: more seeds are needed" if undecided else ""]
    return "; ".join([*filter(None, parts), *([f"{missing} have not been run yet"] if missing else [])])


def to_record(judgements: Sequence[Judgement]) -> list[dict[str, Any]]:
    """Return the judgements as JSON data."""
    return [asdict(judgement) for judgement in judgements]


def _refuse_unlike(emulated: SweepTable, simulated: SweepTable) -> None:
    def unlike(what: str) -> InputError:
        return InputError(f"comparing the engines by {emulated.name}", what, "run it with a new --out")

    ours, theirs = ([row.parameters for row in table.combinations] for table in (emulated, simulated))
    if emulated.name != simulated.name or ours != theirs:
        raise unlike(f"{simulated.name} has other combinations")
    plans = {trial.traffic: trial.plan_hash for trial in emulated.trials}
    if any(plans.get(trial.traffic, trial.plan_hash) != trial.plan_hash for trial in simulated.trials):
        raise unlike("the engines had different traffic under one seed")


def _refuse_other_conditions(emulated: SweepTable, simulated: SweepTable) -> str:
    """Refuse runs of one seed that differ in more than the engine and the version; return how they differ in that.

    BPF programs are the emulation's alone.
    """
    ours = {(_label(trial.parameters), trial.row.seed): trial.conditions for trial in emulated.trials}
    notes: dict[str, None] = {}
    for trial in simulated.trials:
        other = ours.get((_label(trial.parameters), trial.row.seed), trial.conditions)
        for one in differences_of([other, trial.conditions]):
            if one.key == "version":
                notes[str(one)] = None
            elif one.key not in ("engine", MEAN):
                attempted = f"comparing the engines by {emulated.name}"
                raise InputError(attempted, f"{trial.row.name}: {one}", "run it with a new --out")
    return "; ".join(notes)


_Pairs = Mapping[str, Sequence[tuple[Row, Row]]]


def _paired(emulated: SweepTable, simulated: SweepTable) -> _Pairs:
    """Return the runs of both engines seed by seed, by the label of their combination."""
    ours = {(_label(trial.parameters), trial.row.seed): trial.row for trial in emulated.trials}
    pairs: dict[str, list[tuple[Row, Row]]] = {}
    for trial in simulated.trials:
        label = _label(trial.parameters)
        if (label, trial.row.seed) in ours:
            pairs.setdefault(label, []).append((ours[label, trial.row.seed], trial.row))
    return pairs


def _judged(sweep: str, emulated: CombinationRow, simulated: CombinationRow, bound: Bound, pairs: _Pairs) -> Judgement:
    ours, theirs = emulated.figures[bound.figure], simulated.figures[bound.figure]
    head = (sweep, _label(emulated.parameters), bound.title)
    if ours is None or theirs is None or emulated.seeds != simulated.seeds:
        return Judgement(*head, _written(ours, bound), _written(theirs, bound), "", "", None)
    off, allowed = theirs.mean - ours.mean, bound.allowed(ours.mean)
    width = _width(ours, theirs, bound, pairs.get(head[1], ()))
    sign = "+" if off > 0 else "−" if off < 0 else ""
    interval = f" ± {bound.written(width)}" if width else ""
    difference, at_most = sign + bound.written(abs(off)) + interval, "± " + bound.written(allowed)
    agrees = _within(abs(off), width, allowed)
    figures = (_written(ours, bound), _written(theirs, bound), difference, at_most)
    return Judgement(*head, *figures, agrees, undecided=agrees is None)


def _has(row: CombinationRow, bound: Bound) -> bool:
    """Return whether the figure exists; runs of earlier versions have no cost."""
    return bound.figure in row.figures


def _width(ours: Estimate, theirs: Estimate, bound: Bound, pairs: Sequence[tuple[Row, Row]]) -> float | None:
    """Return half of the interval of the difference, None where one seed leaves it unknown."""
    values = [(a.value(bound.figure), b.value(bound.figure)) for a, b in pairs]
    differences = [b - a for a, b in values if a is not None and b is not None]
    if differences and len(differences) == ours.count:
        found = estimate(differences)
        return None if found is None else found.half_width
    known = ours.half_width, theirs.half_width
    return None if known[0] is None or known[1] is None else math.hypot(known[0], known[1])


def _within(off: float, width: float | None, allowed: float) -> bool | None:
    """Return whether a difference is allowed, None where its interval holds the bound."""
    if width is None:
        return off <= allowed if not off else None
    if off + width <= allowed:
        return True
    return False if off - width > allowed else None


def _rankings(sweep: str, pairs: Sequence[tuple[CombinationRow, CombinationRow]]) -> Iterator[Judgement]:
    """Yield the order of the policies in each group that differs in nothing else."""
    groups: dict[str, list[tuple[CombinationRow, CombinationRow]]] = {}
    for pair in pairs:
        others = {key: value for key, value in pair[0].parameters.items() if key != POLICY}
        if POLICY in pair[0].parameters:
            groups.setdefault(_label(others), []).append(pair)
    for label, members in groups.items():
        for bound in (one for one in RANKED if any(_has(a, one) for a, _ in members)):
            yield _ranking(sweep, label, members, bound)


def _ranking(sweep: str, label: str, pairs: Sequence[tuple[CombinationRow, CombinationRow]], bound: Bound) -> Judgement:
    head = (sweep, label, f"ranking by {bound.title}")
    ranked = [
        _Ranked(a.parameters[POLICY], (ours, theirs))
        for a, b in pairs
        if (ours := a.figures[bound.figure]) is not None and (theirs := b.figures[bound.figure]) is not None
    ]
    if len(ranked) < len(pairs):
        return Judgement(*head, "", "", "", "", None)
    reversed_pairs = [f"{a.name}/{b.name}" for a, b in itertools.combinations(ranked, 2) if _reversed(a, b, bound)]
    order, other = (_order(ranked, k, bound) for k in (0, 1))
    return Judgement(*head, order, other, ", ".join(reversed_pairs) or "none reversed", "none", not reversed_pairs)


@dataclass(frozen=True, slots=True)
class _Ranked:
    """A policy and its figure in both engines, the emulation first."""

    name: str
    found: tuple[Estimate, Estimate]


def _order(ranked: Sequence[_Ranked], engine: int, bound: Bound) -> str:
    """Return the policies from the least value on, those that the engine does not tell apart joined by ≈."""
    rising = sorted(ranked, key=lambda row: row.found[engine].mean)
    words = [rising[0].name] if rising else []
    for a, b in itertools.pairwise(rising):
        words.append(f"{'<' if _apart(a.found[engine], b.found[engine], bound) else '≈'} {b.name}")
    return " ".join(words)


def _apart(a: Estimate, b: Estimate, bound: Bound) -> bool:
    """Return whether two policies have an order in one engine: more between them than chance, or one seed, explains."""
    off = abs(a.mean - b.mean)
    if a.half_width is None or b.half_width is None:
        return off > bound.allowed(min(a.mean, b.mean))
    return off > math.hypot(a.half_width, b.half_width)


def _reversed(a: _Ranked, b: _Ranked, bound: Bound) -> bool:
    ours, theirs = (a.found[k].mean - b.found[k].mean for k in (0, 1))
    noise = [bound.allowed(min(a.found[k].mean, b.found[k].mean)) for k in (0, 1)]
    ordered = all(_apart(a.found[k], b.found[k], bound) for k in (0, 1))
    return ordered and ours * theirs < 0 and abs(ours) > noise[0] and abs(theirs) > noise[1]


def _written(found: Estimate | None, bound: Bound) -> str:
    if found is None:
        return "–"
    if not found.half_width:
        return bound.written(found.mean)
    interval = found.interval_text(bound.written)
    return f"{bound.written(found.mean)} {interval if interval.startswith('±') else f'({interval})'}"


def _label(parameters: Mapping[str, str]) -> str:
    return ", ".join(parameters.values()) or "all"
