"""A sweep as a table: for each combination of parameters the mean over the seeds and how far it may be off.

Everything is read from the sweep directory: ``sweep.json`` names the trials and the runs made for each, the runs have
the figures.  A trial is stood for by its first run that is VALID or DEGRADED; INVALID and unfinished ones are named and
enter nothing.

Runs that share a seed must carry the same hash of their traffic plan, or nothing is compared at all; runs whose
parameters change the traffic itself (anything but those of `SAME_TRAFFIC`) are held together per value.  The whole
scenario of every run is compared, and what carried it out: what differs beside the parameters is named, and runs of one
combination that differ in more than the seed have no mean.

A sweep with a *baseline* has a second table: how far each combination is from it.  The runs of one seed had the same
packets, so the differences are taken seed by seed and then averaged (`sweep_baseline`).

*Gain* (see `compare`) is computed for each seed by itself, between runs that differ in ``buffer.policy`` alone, and
then averaged over the seeds where static-min and oracle do not lose the same.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from testbed.errors import InputError
from testbed.report.compare import OF_THE_POLICY, Row, aligned, gain, row_of
from testbed.report.figure_columns import GAIN, figure_columns
from testbed.report.sweep_baseline import baseline_differences_of, corrected
from testbed.report.sweep_cells import DIFFERENCES, cells_of, difference_cells_of
from testbed.report.written import many
from testbed.results.conditions import NOT_KNOWN, Conditions, conditions_of, differences_of
from testbed.results.confidence import Estimate, estimate
from testbed.results.differences import POWER, Difference
from testbed.results.metrics import columns
from testbed.results.outcome import ended_if_readable
from testbed.results.sweep_file import read_manifest
from testbed.scenario.sweep import MEAN

SAME_TRAFFIC = ("buffer.", "balancer.", "autoscaler.", "objective.")  # parameters that leave the traffic as it is
_NAMED = 3  # runs that a note names; the page lists all
_NAMED_KEYS = 8
Estimates = Mapping[str, "Estimate | None"]


@dataclass(frozen=True, slots=True)
class TrialRow:
    """The run that stands for a trial.

    Attributes:
        parameters: value by key, as text.
        row: its figures.
        plan_hash: of its traffic.
        origin: what carried it out: version, and hash of every program, model and trace.
        conditions: that, and all that was set.
    """

    parameters: Mapping[str, str]
    row: Row
    plan_hash: str | None
    origin: Mapping[str, str]
    conditions: Conditions = NOT_KNOWN

    @property
    def traffic(self) -> tuple[Any, ...]:
        """Return what decides the traffic: trials that agree in it must have the same plan."""
        return (self.row.seed, *((k, v) for k, v in self.parameters.items() if not k.startswith(SAME_TRAFFIC)))

    @property
    def rivals(self) -> str:
        """Return what trials share that are compared with each other: all but the policy."""
        return self.conditions.without(*OF_THE_POLICY)


@dataclass(frozen=True, slots=True)
class CombinationRow:
    """One combination of parameters over its seeds.

    Attributes:
        parameters: value by key, as text.
        seeds: of the runs that count.
        planned: how many seeds there are to be.
        figures: by the keys of `figure_columns`; None where a run lacks the figure.
        differences: the same of the differences from the baseline; empty for the baseline and without one.
    """

    parameters: Mapping[str, str]
    seeds: tuple[int, ...]
    planned: int
    figures: Estimates
    differences: Mapping[str, Difference | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SweepTable:
    """A sweep as far as it has been run.

    Attributes:
        name, scenario, question: as the sweep has them.
        keys: the parameters, in the order of the columns.
        combinations: the table.
        trials: the single runs behind it.
        left_out: runs that do not count.
        notes: what a reader must know.
    """

    name: str
    scenario: str
    question: str
    keys: tuple[str, ...]
    combinations: tuple[CombinationRow, ...]
    trials: tuple[TrialRow, ...]
    left_out: tuple[Row, ...]
    notes: tuple[str, ...]

    def text(self) -> str:
        """Return the table as text."""
        headers, cells = cells_of(self)
        lines = [f"sweep {self.name} of scenario {self.scenario}", *aligned([headers, *cells], len(self.keys) + 1)]
        headers, cells = difference_cells_of(self)
        if cells:
            lines += ["", DIFFERENCES.lower(), *aligned([headers, *cells], len(self.keys) + 1)]
        return "\n".join([*lines, "", *(f"note: {note}" for note in self.notes)])

    def to_record(self) -> list[dict[str, Any]]:
        """Return the table as JSON data, one object a combination."""
        return [asdict(combination) for combination in self.combinations]


def tabulate(path: Path) -> SweepTable:
    """Return the table of a sweep directory.

    Raises:
        InputError: when it is none, or runs of one seed had different traffic.
    """
    manifest = read_manifest(path)
    trials: list[TrialRow] = []
    left_out: list[Row] = []
    missing = 0
    for entry in manifest["trials"]:
        chosen, others = _runs_of(path, entry)
        left_out += others
        missing += chosen is None
        trials += [chosen] if chosen is not None else []
    _refuse_other_traffic(trials)
    trials = _with_gains(trials)
    keys = tuple(manifest["parameters"])
    combinations = corrected(tuple(_combinations(manifest, trials)))
    notes = (*_notes(manifest, trials, combinations, missing), *_left_out(left_out))
    head = (manifest["name"], manifest["scenario"]["name"], manifest["question"])
    return SweepTable(*head, keys, combinations, tuple(trials), tuple(left_out), notes)


def _runs_of(path: Path, entry: Mapping[str, Any]) -> tuple[TrialRow | None, list[Row]]:
    """Return the run that stands for a trial, and those that do not count; one that is damaged is not shown."""
    chosen: TrialRow | None = None
    others: list[Row] = []
    for made in entry["runs"]:
        found = ended_if_readable(path / made["path"])
        if found is None:
            continue
        row = row_of(found)
        if row.counts and chosen is None:
            known = conditions_of(found.run)
            chosen = TrialRow(entry["parameters"], row, found.run.plan_hash, known.carried_out, known)
        elif not row.counts:
            others.append(row)
    return chosen, others


def _refuse_other_traffic(trials: Iterable[TrialRow]) -> None:
    first: dict[tuple[Any, ...], TrialRow] = {}
    for trial in trials:
        other = first.setdefault(trial.traffic, trial)
        if trial.plan_hash is None:
            raise InputError("compare", f"{trial.row.name} has no hash of its traffic plan", "remove that run")
        if trial.plan_hash != other.plan_hash:
            happened = f"{other.row.name} and {trial.row.name} have the same seed and different traffic"
            raise InputError("compare", happened, "run the sweep with a new --out")


def _with_gains(trials: Sequence[TrialRow]) -> list[TrialRow]:
    losses: dict[str, dict[str, float | None]] = defaultdict(dict)
    for trial in trials:
        losses[trial.rivals][trial.row.policy] = trial.row.loss_ratio

    def gained(trial: TrialRow) -> TrialRow:
        known = losses[trial.rivals]
        ratio = gain(trial.row.loss_ratio, known.get("static-min"), known.get("oracle"))
        return replace(trial, row=replace(trial.row, gain_ratio=ratio))

    return [gained(trial) for trial in trials]


def _combinations(manifest: Mapping[str, Any], trials: Sequence[TrialRow]) -> Iterable[CombinationRow]:
    planned: dict[tuple[str, ...], int] = defaultdict(int)
    for entry in manifest["trials"]:
        planned[tuple(entry["parameters"].values())] += 1
    # `trials` runs static-mean late; the table keeps the order of the values in the file
    ranks = [list(values).index for values in manifest["parameters"].values()]
    for values in sorted(planned, key=lambda values: [rank(value) for rank, value in zip(ranks, values, strict=True)]):
        parameters = dict(zip(manifest["parameters"], values, strict=True))
        members = _of(trials, parameters)
        rows = [trial.row for trial in members]
        seeds = tuple(row.seed for row in rows if row.seed is not None)
        figures = _figures(rows) if alike(members) else dict.fromkeys(column.key for column in figure_columns())
        differences = baseline_differences_of(parameters, manifest.get("baseline") or {}, trials)
        yield CombinationRow(parameters, seeds, planned[values], figures, differences)


def _figures(rows: Sequence[Row]) -> dict[str, Estimate | None]:
    figures = {one.key: _estimated([row.value(one.key) for row in rows]) for one in columns()}
    gains = [row.gain_ratio for row in rows if row.gain_ratio is not None]
    return {**figures, GAIN: estimate(gains)}


def _estimated(values: Sequence[float | None]) -> Estimate | None:
    """Return the estimate, None when a run lacks the figure: a mean over some of the runs compares unlike things."""
    known = [value for value in values if value is not None]
    return estimate(known) if len(known) == len(values) else None


# -------------------------------------------------------------------------------------------------------- notes


def _notes(
    manifest: Mapping[str, Any], trials: Sequence[TrialRow], combinations: Sequence[CombinationRow], missing: int
) -> Iterable[str]:
    if manifest["fixed"]:
        yield "all trials: " + ", ".join(f"{key}={value}" for key, value in manifest["fixed"].items())
    yield "± is half of the 95 % confidence interval of a mean over seeds (Student t)"
    if manifest.get("baseline"):
        against = ", ".join(f"{key}={value}" for key, value in manifest["baseline"].items())
        yield f"differences are relative to {against} under the same seed, with 95 % intervals of the paired t test"
        yield "* is significant at 5 % after Holm's correction over the combinations, for each figure; n.s. is not"
        yield f"d is the effect size, mean / deviation; this number of seeds detects it with probability {POWER}"
        yield "the number of seeds is for a single comparison; Holm's correction over several needs more"
    if trials:
        yield _proof(trials, manifest["parameters"])
    if manifest["mean_from"]:
        yield f"static-mean has the mean limit of {manifest['mean_from']} under the same seed"
    if missing:
        yield f"{missing} of {len(manifest['trials'])} trials have no valid run"
    if len({row.seeds for row in combinations if row.seeds}) > 1:
        yield "the means are over different sets of seeds: compare rows of equal seeds, or run the missing trials"
    degraded = [trial.row.name for trial in trials if trial.row.verdict == "DEGRADED"]
    if degraded:
        yield f"{len(degraded)} of {len(trials)} runs are DEGRADED"
    undefined = sum(len(row.seeds) - _count(row.figures[GAIN]) for row in combinations)
    if undefined and {"static-min", "oracle"} <= {trial.row.policy for trial in trials}:
        yield f"{many(undefined, 'run')} without a gain: static-min or oracle is missing, or they lost the same"
    yield from _mixed_conditions(manifest, trials)


def _proof(trials: Sequence[TrialRow], parameters: Iterable[str]) -> str:
    plans = many(len({trial.plan_hash for trial in trials}), "traffic plan")
    each = " and ".join(["seed", *(key for key in parameters if not key.startswith(SAME_TRAFFIC))])
    return f"identical traffic: by their hashes {many(len(trials), 'run')} had {plans}, one for each {each}"


def _count(found: Estimate | None) -> int:
    return 0 if found is None else found.count


def _mixed_conditions(manifest: Mapping[str, Any], trials: Sequence[TrialRow]) -> Iterable[str]:
    """Yield what the runs differ in that the sweep did not set, and which combinations have no means for it."""
    if not trials:
        return
    varied = {trials[0].conditions.key_of(key) for key in manifest["parameters"]} | {"seed"}
    varied |= {MEAN} if manifest["mean_from"] else set()
    found = [one for one in differences_of([trial.conditions for trial in trials]) if not _within(one.key, varied)]
    for one in found[:_NAMED_KEYS]:
        yield f"runs differ in {one.key}: {', '.join(sorted({str(value or 'absent') for value in one.values}))}"
    if len(found) > _NAMED_KEYS:
        yield f"runs differ in {len(found) - _NAMED_KEYS} more keys"
    if found and any(not alike(_of(trials, trial.parameters)) for trial in trials):
        yield "combinations whose runs differ in more than the seed have no mean: remove the runs that differ"


def _within(key: str, varied: set[str]) -> bool:
    return any(key == one or key.startswith(f"{one}.") for one in varied)


def _of(trials: Sequence[TrialRow], parameters: Mapping[str, str]) -> list[TrialRow]:
    return [trial for trial in trials if trial.parameters == parameters]


def alike(trials: Sequence[TrialRow]) -> bool:
    """Return whether runs of one combination differ in the seed alone, and in the mean that each takes from another."""
    return len({trial.conditions.without("seed", MEAN) for trial in trials}) <= 1


def _left_out(rows: Sequence[Row]) -> Iterable[str]:
    by_verdict: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        by_verdict[row.verdict].append(row.name)
    for verdict, names in by_verdict.items():
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        yield f"excluded from the means, {verdict}: {', '.join(names[:_NAMED])}{more}"
