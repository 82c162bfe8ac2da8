"""Sweeps on the workers of a scheduler: what is seen is what one machine gives, whichever worker dies.

The scheduler and its workers are processes of the tests; the workers run in folders of their own and get nothing but
what is sent to them.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from testbed import output
from testbed.errors import EXIT_INTERRUPTED, EXIT_OK, InputError, MachineError, ToolError
from testbed.report.sweep_progress import SweepProgress
from testbed.trials import claims, remote, sweep, worker
from testbed.trials.child import Ended
from testbed.trials.executing import refuse_jobs
from testbed.trials.identity import identity
from testbed.trials.process import TrialCall
from tests.command import TINY, call, environment

pytestmark = pytest.mark.requires("distributed")
WITHIN_S = 60.0
SWEEP = """\
# Which one?
version: 1
name: some
scenario: tiny.yaml
set: {buffer.policy: [static-min, reactive, static-mean]}
mean_from: reactive
seeds: 2
"""
DATA = ("scenario.yaml", "summary.json", "events.jsonl", "samples.parquet", "plan.parquet", "fidelity.json")


class Cluster:
    """A scheduler with workers of one thread each.

    Attributes:
        address: of the scheduler.
        workers: its processes.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self.workers = folder, list[subprocess.Popen[bytes]]()
        where = folder / "scheduler.json"
        self._scheduler = self._started("dask_scheduler", "--port", "0", "--scheduler-file", str(where))
        until(where.exists)
        self.address = json.loads(where.read_text())["address"]

    def add(self, *options: str, **env: str) -> subprocess.Popen[bytes]:
        """Start one more worker."""
        words = (self.address, "--no-nanny", "--nthreads", "1", *options)
        self.workers.append(self._started("dask_worker", *words, **env))
        return self.workers[-1]

    def joined(self) -> None:
        """Wait until all workers have joined."""
        logs = [self._folder / f"dask_worker-{number}" / "log" for number in range(len(self.workers))]
        until(lambda: all("Registered to" in log.read_text() for log in logs))

    def _started(self, module: str, *words: str, **env: str) -> subprocess.Popen[bytes]:
        folder = self._folder / f"{module}-{len(self.workers)}"
        folder.mkdir(exist_ok=True)
        argv = [sys.executable, "-m", f"distributed.cli.{module}", *words, "--no-dashboard"]
        with (folder / "log").open("wb") as log:
            return subprocess.Popen(argv, cwd=folder, env=environment(**env), stdout=log, stderr=log)

    def close(self) -> None:
        """End all processes."""
        for one in (*self.workers, self._scheduler):
            one.kill()
            one.wait()


def until(there: Callable[[], Any]) -> Any:
    end_s = time.monotonic() + WITHIN_S
    while not (found := there()) and time.monotonic() < end_s:
        time.sleep(0.02)
    assert found
    return found


@contextmanager
def running(folder: Path, workers: int) -> Iterator[Cluster]:
    cluster = Cluster(folder)
    try:
        for _ in range(workers):
            cluster.add()
        cluster.joined()
        yield cluster
    finally:
        cluster.close()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Return a scheduler with two workers."""
    with running(tmp_path_factory.mktemp("cluster"), 2) as made:
        yield made


@pytest.fixture
def some(tmp_path: Path) -> Path:
    """Return a sweep of six trials."""
    (tmp_path / "tiny.yaml").write_text(TINY)
    (tmp_path / "some.yaml").write_text(SWEEP)
    return tmp_path / "some.yaml"


def swept(path: Path, scheduler: str, name: str = "out") -> sweep.SweepResult:
    return sweep.sweep(path, path.parent / name, "simulation", scheduler=scheduler)


def runs_of(result: sweep.SweepResult) -> dict[str, list[tuple[str, str]]]:
    trials = json.loads((result.path / "sweep.json").read_text())["trials"]
    return {one["name"]: [(run["path"], run["outcome"]) for run in one["runs"]] for one in trials}


def children(pid: int) -> list[int]:
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(word) for path in lists for word in path.read_text().split()]


def test_workers_give_what_this_machine_gives_with_all_that_a_scenario_names(
    cluster: Cluster, tmp_path: Path, some: Path
) -> None:
    (tmp_path / "a b:c.csv").write_text("time_s,bytes\n0,5000\n0.1,5000\n0.2,9000\n")
    text = some.read_text().replace("reactive, static-mean", "reactive").replace("mean_from: reactive\n", "")
    some.write_text(text.replace("seeds: 2", "seeds: 1"))
    own = tmp_path / "own.py"
    own.write_text((Path(__file__).parent.parent / "scenarios" / "plugins" / "ewma_peak.py").read_text())
    traced = TINY.replace("}]", "}, {name: seen, from: c1, trace: 'a b:c.csv'}]") + "plugins: [own.py]\n"
    (tmp_path / "tiny.yaml").write_text(traced)
    here, there = swept(some, "", "here"), swept(some, cluster.address, "there")
    assert (there.exit_code, there.unsettled) == (here.exit_code, 0) == (EXIT_OK, 0)
    assert runs_of(there) == runs_of(here)
    assert there.table.to_record() == here.table.to_record()
    for name in runs_of(here):
        for file in (*DATA, "plugins/1-own.py", "traces/1-a_b_c.csv"):
            assert (there.path / name / file).read_bytes() == (here.path / name / file).read_bytes(), (name, file)
        hashes = [json.loads((one.path / name / "manifest.json").read_text())["hashes"] for one in (here, there)]
        ours, theirs = ({key: value for key, value in one.items() if key != "scenario"} for one in hashes)
        assert theirs == ours
    assert {path.name for path in there.path.iterdir()} == {path.name for path in here.path.iterdir()}


def test_a_worker_is_killed_in_the_middle_and_nothing_is_lost_and_nothing_twice(
    tmp_path: Path, some: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def kill() -> None:
        os.kill(until(lambda: next((one.pid for one in made.workers if children(one.pid)), 0)), signal.SIGKILL)

    with running(tmp_path, 2) as made:
        killing = threading.Thread(target=kill)  # the first one that is found to run a trial
        killing.start()
        result = swept(some, made.address)
        killing.join()
    assert (result.exit_code, result.unsettled) == (EXIT_OK, 0)
    assert runs_of(result) == {name: [(name, "VALID")] for name in runs_of(result)}
    assert len(runs_of(result)) == 6
    assert "is gone; its trials are given to others" in capsys.readouterr().err
    assert [path.name for path in result.path.iterdir() if path.name.endswith((".new", ".zip"))] == []


def test_a_worker_that_joins_later_takes_part(tmp_path: Path, some: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []

    def note(text: object) -> None:
        said.append(str(text))
        made.add()

    monkeypatch.setattr(output, "note", note)
    some.write_text(some.read_text().replace("seeds: 2", "seeds: 1"))
    with running(tmp_path, 0) as made:
        result = swept(some, made.address)
    assert (result.exit_code, result.unsettled) == (EXIT_OK, 0)
    assert [line.partition(";")[0] for line in said] == ["waiting for a worker"]


def test_a_stop_ends_the_trials_of_workers(cluster: Cluster, some: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (some.parent / "tiny.yaml").write_text(TINY.replace("200ms", "600s"))
    tick = SweepProgress.tick

    def stop(progress: SweepProgress, *counts: int) -> None:
        tick(progress, *counts)
        if all(children(one.pid) for one in cluster.workers):
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(SweepProgress, "tick", stop)
    result = swept(some, cluster.address)
    assert (result.exit_code, result.unsettled) == (EXIT_INTERRUPTED, 6)
    until(lambda: not any(children(one.pid) for one in cluster.workers))


def test_claims_are_tested_on_workers(cluster: Cluster, tmp_path: Path, some: Path) -> None:
    (tmp_path / "claim.yaml").write_text(
        "version: 1\nname: less\nstatement: x\n"
        "sweep: {scenario: tiny.yaml, set: {buffer.policy: [static-min, static-max]}, seeds: 2}\ntests:\n"
        "  - {quantity: buffer.reserved_mb_s, of: {buffer.policy: static-max}, over: {buffer.policy: static-min}, "
        "above: 2}\n"
    )
    out = tmp_path / "claims"
    result = claims.claims([tmp_path / "claim.yaml"], out, "simulation", scheduler=cluster.address, quiet=True)
    assert (result.exit_code, [one.outcome for one in result.outcomes]) == (EXIT_OK, ["holds"])


# ------------------------------------------------------------------------------------------------------- at the door


def test_a_worker_with_another_version_is_refused(tmp_path: Path, some: Path) -> None:
    other = tmp_path / "other" / "testbed"
    other.mkdir(parents=True)
    ours = Path(sweep.__file__).resolve().parent.parent
    for path in ours.iterdir():
        if path.name != "__init__.py":
            (other / path.name).symlink_to(path)
    (other / "__init__.py").write_text((ours / "__init__.py").read_text().replace('"0.1.0"', '"0.0.9"'))
    with running(tmp_path, 0) as made:
        made.add(PYTHONPATH=str(other.parent))
        made.joined()
        with pytest.raises(MachineError, match=r"worker tcp://.*: it cannot run these trials: it has testbed 0\.0\.9"):
            swept(some, made.address)
    assert not (some.parent / "out" / "sweep.json").exists()


def test_a_worker_without_the_testbed_or_without_the_resource_is_refused(tmp_path: Path) -> None:
    (tmp_path / "none" / "testbed").mkdir(parents=True)
    (tmp_path / "none" / "testbed" / "__init__.py").touch()
    with running(tmp_path, 0) as made:
        made.add(PYTHONPATH=str(tmp_path / "none"))
        made.joined()
        with (
            pytest.raises(MachineError, match="the testbed cannot be used there .*No module named"),
            remote.workers(made.address, "simulation", print),
        ):
            pass
    with (
        running(tmp_path / "none", 1) as made,
        pytest.raises(MachineError, match="does not offer the resource for emulated trials"),
        remote.workers(made.address, "emulation", print),
    ):
        pass


def test_what_differs_is_named() -> None:
    ours = replace(identity(), plugins={"a.py": "1", "b.py": "2", "c.py": "3"})
    theirs = replace(ours, python="3.1", numpy="1.0", plugins={"a.py": "1", "b.py": "3", "d.py": "4"})
    assert ours.differences(ours) == []
    assert ours.digest != theirs.digest
    assert ours.differences(theirs) == [
        f"Python 3.1 (here {ours.python})",
        f"numpy 1.0 (here {ours.numpy})",
        "the plug-in b.py is another one there",
        "the plug-in c.py is not installed there",
        "the plug-in d.py is not installed here",
    ]
    assert ours.differences(replace(ours, failed="it is broken")) == ["it is broken"]


def test_without_the_extra_it_is_named(some: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MachineError, match="the extra `distributed` is not installed"):
        swept(some, "tcp://127.0.0.1:1")


@pytest.mark.parametrize("address", ["nonsense://x", "tcp://127.0.0.1:1", "tcp://127.0.0.1:notaport", ":"])
def test_an_address_that_is_none_is_refused(some: Path, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setattr(remote, "_CONNECT_S", 0.5)
    with pytest.raises((InputError, ToolError), match=f"--scheduler {address}: "):
        swept(some, address)


def test_a_number_of_jobs_and_a_scheduler_are_refused_together(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="determine how many trials run at a time"):
        refuse_jobs("simulation", 2, "local")
    done = call("sweep", tmp_path / "none.yaml", "--engine", "simulation", "--jobs", "2", "--scheduler", "local")
    assert (done.returncode, "--jobs 2" in done.stderr) == (2, True)


# ------------------------------------------------------------------------------------------------------ on a worker


def test_an_emulated_trial_waits_until_the_machine_is_free(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(worker, "_LOCKED", tmp_path)
    order: list[str] = []

    def second() -> None:
        with worker._turn("emulation", lambda: True):
            order.append("second")

    with worker._turn("emulation", lambda: True):
        thread = threading.Thread(target=second)
        thread.start()
        with worker._turn("emulation", lambda: False), worker._turn("simulation", lambda: True):
            order.append("first")  # who is not wanted does not wait, and a simulated trial need not
    thread.join()
    assert order == ["first", "second"]


def test_a_damaged_result_is_a_failed_trial_and_leaves_nothing(tmp_path: Path) -> None:
    order: Any = TrialCall("x", (), tmp_path / "x", None)  # type: ignore[arg-type]
    ended = remote._taken_in(order, worker.Made(Ended(0), b"PK, but no archive", "tcp://w"))
    assert ended.exit_code == 4
    assert "cannot be taken in" in ended.said
    assert list(tmp_path.iterdir()) == []
    assert remote._taken_in(order, worker.Made(Ended(3, "it lacks root"), b"", "tcp://w")) == Ended(
        3, "it lacks root (worker tcp://w)"
    )
