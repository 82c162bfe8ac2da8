"""A sweep as a table: for each combination of parameters the mean over the seeds and how far it may be off.

Everything is read from the sweep directory: ``sweep.json`` names the trials and the runs made for each, the runs have
the figures.  A trial is stood for by its first run that is VALID or DEGRADED; INVALID and unfinished ones are named and
enter nothing.

Runs that share a seed must carry the same hash of their traffic plan, or nothing is compared at all; runs whose
parameters change the traffic itself (anything but ``buffer.…`` and ``balancer.…``) are held together per value.

A sweep with a *baseline* has a second table: how far each combination is from it.  The runs of one seed had the same
packets, so the differences are taken seed by seed and then averaged (`sweep_baseline`).

*Gain* (see `compare`) is computed for each seed by itself, between runs that differ in ``buffer.policy`` alone, and
then averaged over the seeds where static-min and oracle do not lose the same.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from testbed.errors import InputError
from testbed.report.compare import FIGURES, Row, aligned, gain, row_of
from testbed.report.sweep_baseline import differences_of
from testbed.report.sweep_cells import DIFFERENCES, cells_of, difference_cells_of
from testbed.report.written import many
from testbed.results.confidence import Estimate, estimate
from testbed.results.recorded_run import RecordedRun

MANIFEST = "sweep.json"
POLICY = "buffer.policy"
SAME_TRAFFIC = ("buffer.", "balancer.")  # parameters that leave the traffic as it is
_NAMED = 3  # runs that a note names; the page lists all
Estimates = Mapping[str, "Estimate | None"]


@dataclass(frozen=True, slots=True)
class TrialRow:
    """The run that stands for a trial.

    Attributes:
        parameters: value by key, as text.
        row: its figures.
        plan_hash: of its traffic.
        origin: what else must be the same for runs to be compared: name and hash of every program and model.
    """

    parameters: Mapping[str, str]
    row: Row
    plan_hash: str | None
    origin: Mapping[str, str]

    @property
    def traffic(self) -> tuple[Any, ...]:
        """Return what decides the traffic: trials that agree in it must have the same plan."""
        return (self.row.seed, *((k, v) for k, v in self.parameters.items() if not k.startswith(SAME_TRAFFIC)))

    @property
    def rivals(self) -> tuple[Any, ...]:
        """Return what trials share that are compared with each other: all but the policy."""
        return (self.row.seed, *((key, value) for key, value in self.parameters.items() if key != POLICY))


@dataclass(frozen=True, slots=True)
class CombinationRow:
    """One combination of parameters over its seeds.

    Attributes:
        parameters: value by key, as text.
        seeds: of the runs that count.
        planned: how many seeds there are to be.
        figures: by the names of `compare.FIGURES` and ``gain_ratio``; None where a run lacks the figure.
        differences: the same of the differences from the baseline; empty for the baseline and without one.
    """

    parameters: Mapping[str, str]
    seeds: tuple[int, ...]
    planned: int
    figures: Estimates
    differences: Estimates = field(default_factory=dict)


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
    combinations = tuple(_combinations(manifest, trials))
    notes = (*_notes(manifest, trials, combinations, missing), *_left_out(left_out))
    head = (manifest["name"], manifest["scenario"]["name"], manifest["question"])
    return SweepTable(*head, keys, combinations, tuple(trials), tuple(left_out), notes)


def read_manifest(path: Path) -> dict[str, Any]:
    """Return ``sweep.json`` of a sweep directory.

    Raises:
        InputError: when it is missing or of another schema.
    """
    attempted, remedy = f"read sweep {path}", "name a directory that `testbed sweep` made"
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(attempted, f"it has no {MANIFEST}", remedy) from None
    except (OSError, ValueError) as error:
        raise InputError(attempted, f"its {MANIFEST} cannot be read: {error}", remedy) from error
    if not isinstance(manifest, dict) or manifest.get("schema") != 1:
        raise InputError(attempted, f"its {MANIFEST} is not of schema 1", remedy)
    return manifest


def _runs_of(path: Path, entry: Mapping[str, Any]) -> tuple[TrialRow | None, list[Row]]:
    """Return the run that stands for a trial, and those that do not count."""
    chosen: TrialRow | None = None
    others: list[Row] = []
    for made in entry["runs"]:
        run = _open(path / made["path"])
        if run is None:
            continue
        row = row_of(run)
        if row.counts and chosen is None:
            chosen = TrialRow(entry["parameters"], row, run.plan_hash, _origin(run))
        elif not row.counts:
            others.append(row)
    return chosen, others


def _open(path: Path) -> RecordedRun | None:
    """Return a run, None when it never got as far as its manifest."""
    try:
        run = RecordedRun.open(path)
        return run if run.facts else None
    except InputError:
        return None


def _origin(run: RecordedRun) -> dict[str, str]:
    hashes = {name: value for name, value in run.manifest.get("hashes", {}).items() if name not in ("plan", "scenario")}
    project = run.manifest.get("project", {})
    version = " ".join(str(project[key]) for key in ("version", "git_commit") if key in project)
    return {**hashes, **({"version": version} if version else {})}


def _refuse_other_traffic(trials: Iterable[TrialRow]) -> None:
    first: dict[tuple[Any, ...], TrialRow] = {}
    for trial in trials:
        other = first.setdefault(trial.traffic, trial)
        if trial.plan_hash is None:
            raise InputError("compare", f"{trial.row.name} has no hash of its traffic plan", "remove that run")
        if trial.plan_hash != other.plan_hash:
            happened = f"{other.row.name} and {trial.row.name} have the same seed and different traffic"
            raise InputError("compare", happened, "run the sweep into a new --out")


def _with_gains(trials: Sequence[TrialRow]) -> list[TrialRow]:
    losses: dict[tuple[Any, ...], dict[str, float | None]] = defaultdict(dict)
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
        rows = [trial.row for trial in trials if trial.parameters == parameters]
        seeds = tuple(row.seed for row in rows if row.seed is not None)
        differences = differences_of(parameters, manifest.get("baseline") or {}, trials)
        yield CombinationRow(parameters, seeds, planned[values], _figures(rows), differences)


def _figures(rows: Sequence[Row]) -> dict[str, Estimate | None]:
    figures = {name: _estimated([getattr(row, name) for row in rows]) for name in FIGURES}
    gains = [row.gain_ratio for row in rows if row.gain_ratio is not None]
    return {**figures, "gain_ratio": estimate(gains)}


def _estimated(values: Sequence[float | None]) -> Estimate | None:
    """Return the estimate, None when a run lacks the figure: a mean over some of the runs compares unlike things."""
    known = [value for value in values if value is not None]
    return estimate(known) if len(known) == len(values) else None


# -------------------------------------------------------------------------------------------------------- notes


def _notes(
    manifest: Mapping[str, Any], trials: Sequence[TrialRow], combinations: Sequence[CombinationRow], missing: int
) -> Iterable[str]:
    if manifest["fixed"]:
        yield "in all trials " + ", ".join(f"{key}={value}" for key, value in manifest["fixed"].items())
    yield "± is half of the 95 % confidence interval of a mean over seeds (Student t)"
    if manifest.get("baseline"):
        against = ", ".join(f"{key}={value}" for key, value in manifest["baseline"].items())
        yield f"differences are those to {against} under the same seed; * where the interval does not hold 0"
    if trials:
        yield _proof(trials, manifest["parameters"])
    if manifest["mean_from"]:
        yield f"static-mean has the mean limit of {manifest['mean_from']} under the same seed"
    if missing:
        yield f"{missing} of {len(manifest['trials'])} trials have no run that counts"
    if len({row.seeds for row in combinations if row.seeds}) > 1:
        yield "the means do not all stand on the same seeds: compare rows of equal seeds, or run what is missing"
    degraded = [trial.row.name for trial in trials if trial.row.verdict == "DEGRADED"]
    if degraded:
        yield f"{len(degraded)} of {len(trials)} runs are DEGRADED"
    undefined = sum(len(row.seeds) - _count(row.figures["gain_ratio"]) for row in combinations)
    if undefined and {"static-min", "oracle"} <= {trial.row.policy for trial in trials}:
        yield f"{many(undefined, 'run')} without a gain: static-min or oracle is missing, or they lost the same"
    yield from _mixed_origins(trials)


def _proof(trials: Sequence[TrialRow], parameters: Iterable[str]) -> str:
    plans = many(len({trial.plan_hash for trial in trials}), "traffic plan")
    each = " and ".join(["seed", *(key for key in parameters if not key.startswith(SAME_TRAFFIC))])
    return f"identical traffic: by their hashes {many(len(trials), 'run')} had {plans}, one for each {each}"


def _count(found: Estimate | None) -> int:
    return 0 if found is None else found.count


def _mixed_origins(trials: Sequence[TrialRow]) -> Iterable[str]:
    seen: dict[str, set[str]] = defaultdict(set)
    for trial in trials:
        for name, value in trial.origin.items():
            seen[name].add(value)
    for name, values in seen.items():
        if len(values) > 1:
            yield f"runs differ in {name}: {', '.join(sorted(values))}"


def _left_out(rows: Sequence[Row]) -> Iterable[str]:
    by_verdict: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        by_verdict[row.verdict].append(row.name)
    for verdict, names in by_verdict.items():
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        yield f"in no mean, {verdict}: {', '.join(names[:_NAMED])}{more}"
