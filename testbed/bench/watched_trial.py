"""A whole trial, and what each kind of its processes cost while traffic flowed.

Another process looks at the trial's processes from outside, four times a second; afterwards the looks nearest to the
beginning and the end of the traffic are taken.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import yaml

from testbed.capacity.spent import ProcessTree, Spent, kind_of
from testbed.results.recorded_run import RecordedRun
from testbed.scenario.loading import LoadedScenario, load
from testbed.trials.run import RunOptions
from testbed.trials.run import run as run_trial
from testbed.units import NS_PER_MS, NS_PER_S

_LOOK_S = 0.25


@dataclass(frozen=True, slots=True)
class WatchedTrial:
    """What came of a trial.

    Attributes:
        summary: ``summary.json``.
        cores: share of a core that each kind of process took while traffic flowed.
        pss_bytes: memory of each kind at the end.
        setup: the course of the set-up, as the manifest has it.
    """

    summary: Mapping[str, Any]
    cores: Mapping[str, float]
    pss_bytes: Mapping[str, int]
    setup: Mapping[str, Any]


def load_of_data(scenario: Mapping[str, Any], folder: Path) -> LoadedScenario:
    """Return a scenario given as data, written to a file of `folder`."""
    source = folder / "trial.yaml"
    source.write_text(yaml.safe_dump({"version": 1, **scenario}), encoding="utf-8")
    return load(source)


def watched(scenario: Mapping[str, Any]) -> WatchedTrial:
    """Run a scenario and return what came of it.

    Raises:
        TestbedError: the run failed.
    """
    with tempfile.TemporaryDirectory(prefix="testbed-bench-") as name:
        folder = Path(name)
        loaded = load_of_data(scenario, folder)
        ours, theirs = multiprocessing.Pipe()
        watcher = multiprocessing.get_context("fork").Process(target=_watch, args=(theirs, os.getpid()), daemon=True)
        watcher.start()
        began_ns = time.monotonic_ns()
        try:
            result = run_trial(loaded, RunOptions(out=folder / "run", live=False, quiet=True), began_ns)
        finally:
            ours.send(None)
            looks: list[Spent] = ours.recv()
            watcher.join()
        t0_ns = began_ns + round(result.summary["setup_s"] * NS_PER_S)
        cores = _cores(looks, t0_ns, t0_ns + loaded.scenario.duration_ns)
        return WatchedTrial(result.summary, cores, _memory(result.path), result.manifest["setup"])


def _watch(line: Connection, root: int) -> None:
    """Look at all processes below `root` until something comes, then send what was seen."""
    looks = []
    while not line.poll(_LOOK_S):
        looks.append(ProcessTree(root).spent())
    line.send(looks)


def _cores(looks: list[Spent], from_ns: int, until_ns: int) -> dict[str, float]:
    """Return the share of a core that each kind took between the looks nearest to two times."""
    within = [look for look in looks if from_ns - 100 * NS_PER_MS <= look.at_ns <= until_ns]
    if len(within) < 2:
        return {}
    first, last = within[0], within[-1]
    elapsed_ns = last.at_ns - first.at_ns
    return {kind: (ran_ns - first.ran_ns.get(kind, 0)) / elapsed_ns for kind, ran_ns in last.ran_ns.items()}


def _memory(run: Path) -> dict[str, int]:
    memory: dict[str, int] = {}
    for name, cost in RecordedRun.open(run).manifest["members"].items():
        memory[kind_of(name)] = memory.get(kind_of(name), 0) + cost["pss_bytes"]
    return memory
