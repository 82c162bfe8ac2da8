"""The runs that a sweep directory holds, and what they say of its trials: see `sweep`."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from testbed.errors import InputError
from testbed.files import writing
from testbed.files.reading import Source
from testbed.report.written import figure
from testbed.results.conditions import settings_differing
from testbed.results.outcome import COUNTING, ended_if_readable, outcome_of
from testbed.results.recorded_run import RecordedRun
from testbed.results.sweep_file import MANIFEST, read_manifest
from testbed.scenario.document import MAX_BYTES, parse
from testbed.scenario.loading import LoadedScenario
from testbed.scenario.sweep import LoadedSweep, TrialSpec
from testbed.trials.inputs import hashes_of_inputs

MOST_INVALID = 2
COPY = "sweep.yaml"
_FILES = (MANIFEST, COPY, "sweep.txt", "table.json", "sweep.html")


class SweepRuns:
    """The runs of a sweep in its directory.

    Attributes:
        under_way: runs that are being made; until each was taken in it counts as not begun, whatever it has written.
    """

    def __init__(self, loaded: LoadedSweep, out: Path, engine: str) -> None:
        """Look into `out` for runs of a sweep by an engine; nothing is kept but how runs that are over ended."""
        self._loaded, self._out, self._engine = loaded, out, engine
        self._by_name = {trial.name: trial for trial in loaded.trials}
        self._outcomes: dict[Path, str] = {}  # of runs that are over
        self.under_way: set[Path] = set()

    def runs(self, trial: TrialSpec) -> list[tuple[Path, str]]:
        """Return the runs made of a trial and how they ended."""
        return [(path, self.outcome(path)) for path in self.paths(trial) if self._there(path)]

    def outcome(self, path: Path) -> str:
        """Return how the run in `path` ended, in a word."""
        if path not in self._outcomes:
            outcome = outcome_of(path)
            if outcome == "running":
                return outcome
            self._outcomes[path] = outcome
        return self._outcomes[path]

    def paths(self, trial: TrialSpec) -> Iterator[Path]:
        """Yield where the runs of a trial are, up to the first that is still to be made."""
        path, number = self._out / trial.name, 1
        while self._there(path):
            yield path
            number += 1
            path = self._out / f"{trial.name},try={number}"
        yield path

    def _there(self, path: Path) -> bool:
        return path not in self.under_way and path.exists()

    def chosen(self, name: str) -> Path | None:
        """Return the run that stands for the trial of that name, None while there is none."""
        return next((path for path, outcome in self.runs(self._by_name[name]) if outcome in COUNTING), None)

    def settled(self, trial: TrialSpec) -> bool:
        """Return whether a trial has its result, or is not to have one."""
        outcomes = [outcome for _, outcome in self.runs(trial)]
        return any(outcome in COUNTING for outcome in outcomes) or outcomes.count("INVALID") >= MOST_INVALID

    def open(self, trial: TrialSpec) -> bool:
        """Return whether another call would run the trial: it is not settled, and a run that it needs is possible."""
        source = self._by_name[trial.mean_from] if trial.mean_from else None
        impossible = source is not None and self.settled(source) and self.chosen(source.name) is None
        return not self.settled(trial) and not impossible

    def refuse_another_sweep(self) -> None:
        """Refuse a directory that holds something else.

        Raises:
            InputError: names what it holds.
        """
        attempted, remedy = f"--out {self._out}", "choose a new directory"
        name = self._name_there()
        if name not in (None, self._loaded.spec.name):
            raise InputError(attempted, f"it contains the sweep {name}, not {self._loaded.spec.name}", remedy)
        if name is None and any(self._out.iterdir()) and not self._may_be_ours():
            raise InputError(attempted, f"it is not empty and contains no {MANIFEST}", remedy)

    def _name_there(self) -> str | None:
        """Return the name of the sweep in the directory, by what of it can be read; None when nothing says so."""
        try:
            return str(read_manifest(self._out)["name"])
        except InputError:
            pass
        source = Source(self._out / COPY, "", follow=False)
        try:
            name = parse(source.read(MAX_BYTES), COPY).data.get("name")
        except InputError:
            return None
        return name if isinstance(name, str) else None

    def _may_be_ours(self) -> bool:
        """Return whether a directory without a sweep.json holds runs of this sweep, or its files and no others."""
        names = {path.name for path in self._out.iterdir()}
        return bool(names & self._by_name.keys()) or names <= {MANIFEST, COPY, *(f".{one}.new" for one in _FILES)}

    def refuse_stale(self, trial: TrialSpec) -> None:
        """Refuse runs of an earlier form of the sweep or its scenario: they answer another question.

        Raises:
            InputError: names the run and the first key, or the input, that is another one.
        """
        mean = self.mean_bytes(trial)
        for path, outcome in self.runs(trial):
            if outcome == "running":
                raise InputError(f"--out {self._out}", f"{path.name} is still running", "wait for it, or end it")
            if outcome in (*COUNTING, "INVALID") and (mean is not None or trial.mean_from is None):
                key = _difference(path, self._loaded.load(trial, mean), self._engine)
                if key:
                    happened = f"{path.name} was run with a different `{key}` than now"
                    raise InputError(f"resuming {self._out}", happened, "choose a new --out, or remove that run")

    def mean_bytes(self, trial: TrialSpec) -> int | None:
        """Return the size a trial takes from another one's run, None while there is no such run or no need of it.

        Raises:
            InputError: that run has no mean limit.
        """
        source = self.chosen(trial.mean_from) if trial.mean_from else None
        if source is None:
            return None
        mean = figure(summary_of(source), "buffer.mean_limit_bytes")
        if mean is None:
            happened = f"the summary of {source.name} has no buffer.mean_limit_bytes"
            raise InputError(f"resuming {self._out}", happened, "remove that run")
        return int(mean)


@contextmanager
def held(out: Path) -> Iterator[None]:
    """Hold a sweep directory (made if need be) for this process alone.

    Raises:
        InputError: when it cannot be made, or another sweep works in it.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(out, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        if writing.is_full(error):
            raise writing.refusal(out, error, "choose another --out") from error
        raise InputError("--out", f"cannot make {out}: {error.strerror}", "choose a writable directory") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise InputError(
            f"--out {out}", "another sweep is using it", "wait for it, or choose another directory"
        ) from error
    finally:
        os.close(descriptor)


def summary_of(path: Path) -> Mapping[str, Any]:
    """Return the summary of the run in `path`, empty where there is none that can be read."""
    found = ended_if_readable(path)
    return {} if found is None else found.summary


def _difference(path: Path, wanted: LoadedScenario, engine: str) -> str:
    """Return the first key in which a run is not the one wanted, "" when there is none."""
    run = RecordedRun.open(path)
    if run.facts.engine != engine:
        return "--engine"
    try:
        found = run.scenario()
    except InputError:
        return "scenario.yaml"
    settings = next(settings_differing(*(_without_files(one.resolved()) for one in (found, wanted.scenario))), "")
    return settings or _hash_that_differs(run.manifest.get("hashes", {}), wanted)


def _without_files(resolved: dict[str, Any]) -> dict[str, Any]:
    """Leave out the names of plug-ins, model and traces, which a run has under others; they are compared by hashes."""
    traffic = [{**source, "trace": None} if "trace" in source else source for source in resolved["traffic"]]
    return {**resolved, "plugins": [], "traffic": traffic, "buffer": resolved["buffer"] | {"model": None}}


def _hash_that_differs(recorded: Mapping[str, str], wanted: LoadedScenario) -> str:
    """Return what a run read, model or trace, that has changed since, as far as hashes show it."""
    return next((name for name, now in hashes_of_inputs(wanted).items() if recorded.get(name, now) != now), "")
