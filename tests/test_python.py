"""The testbed from Python, and its fixtures for the tests of users."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml

import testbed
from testbed.errors import InputError
from testbed.pytest import TrialRun
from testbed.pytest import simulated as simulated  # noqa: PLC0414 (a fixture)

SCENARIO = {
    **{"version": 1, "name": "small", "seed": 3, "duration": "300ms"},
    "topology": {"family": "cluster", "nodes": 2, "clients": 1, "node_rate": "10Mbit"},
    "buffer": {"policy": "reactive", "min": "0.05MB", "max": "1MB"},
    "traffic": [{"name": "base", "from": "c1", "shape": "poisson", "rate": "4Mbit", "flows": 20}],
    "expect": ["traffic.unaccounted_packets == 0"],
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    written = tmp_path / "small.yaml"
    written.write_text(yaml.safe_dump(SCENARIO))
    return written


@pytest.fixture
def run(path: Path) -> testbed.Run:
    return testbed.simulate(testbed.load(path, set={"buffer.policy": "holt"}, seed=7), out=path.parent / "run")


def test_a_run_has_what_its_directory_holds(run: testbed.Run) -> None:
    assert run.verdict == "VALID"
    assert run.reasons == []
    assert run.passed
    assert run.summary == json.loads((run.path / "summary.json").read_text())
    assert run.scenario["buffer"]["policy"] == "holt"
    assert run.scenario["seed"] == 7
    assert set(run.samples.column("node").to_pylist()) == {"n1", "n2"}
    assert {event["kind"] for event in run.events("SetBufferLimit")} <= {"SetBufferLimit"}
    assert sum(1 for _ in run.events()) > sum(1 for _ in run.events("SetBufferLimit"))
    assert "VALID" in run._repr_html_()
    assert repr(run) == f"<Run {run.path} VALID>"


def test_a_run_is_drawn(run: testbed.Run) -> None:
    assert [trace.name for trace in run.plot("n2").data]
    with pytest.raises(KeyError):
        run.plot("n9")


def test_the_command_in_the_manifest_makes_the_same_trial(run: testbed.Run) -> None:
    again = run.path.parent / "again"
    words = [sys.executable, "-m", "testbed", *run.manifest["command"], "--out", str(again), "--quiet"]
    assert subprocess.run(words, check=False).returncode == 0
    assert (again / "events.jsonl").read_bytes() == (run.path / "events.jsonl").read_bytes()


def test_a_trial_can_be_made_in_a_thread(path: Path) -> None:
    made: list[testbed.Run] = []
    thread = threading.Thread(target=lambda: made.append(testbed.simulate(path, out=path.parent / "threaded")))
    thread.start()
    thread.join()
    assert made[0].verdict == "VALID"


def test_what_is_wrong_is_said_as_the_verb_says_it(path: Path) -> None:
    with pytest.raises(InputError, match=r"buffer\.polic"):
        testbed.load(path, set={"buffer.polic": "holt"})


def test_a_sweep_is_run_and_opened_again(path: Path) -> None:
    (path.parent / "two.yaml").write_text(
        "# Which?\nversion: 1\nname: two\nscenario: small.yaml\n"
        "set: {buffer.policy: [static-min, reactive]}\nseeds: [1]\n"
    )
    swept = testbed.sweep(path.parent / "two.yaml", engine="simulation", out=path.parent / "out")
    assert [row["parameters"] for row in swept.rows] == [{"buffer.policy": "static-min"}, {"buffer.policy": "reactive"}]
    opened: Any = testbed.open(path.parent / "out")
    assert opened.rows == swept.rows
    assert [run.verdict for run in opened.runs()] == ["VALID", "VALID"]


def test_the_interface_is_not_imported_before_it_is_asked_for() -> None:
    words = "import sys, testbed; assert 'testbed.python' not in sys.modules; testbed.load; print(dir(testbed.Run))"
    assert "plot" in subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True).stdout
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        testbed.nothing  # noqa: B018


def test_expectations_of_a_users_test(simulated: Any, path: Path) -> None:
    run = simulated(path, {"duration": "100ms"})
    assert isinstance(run, TrialRun)
    run.expect("buffer.loss_ratio == 0", "traffic.unaccounted_packets == 0")
    with pytest.raises(pytest.fail.Exception, match="traffic.sent_packets < 1"):
        run.expect("traffic.sent_packets < 1")
    with pytest.raises(InputError):
        run.expect("traffic.nothing < 1")


def test_a_trial_from_python_computes_with_one_thread(path: Path, tmp_path: Path) -> None:
    """The environment of the command line is not there, and NumPy is imported before us."""
    program = f"""
import numpy, threadpoolctl, testbed
from testbed.simulation import engine
def threads(): return max(pool["num_threads"] for pool in threadpoolctl.threadpool_info())
threadpoolctl.threadpool_limits(2)
before, seen, simulate = threads(), [], engine.simulate
def watched(*given, **named):
    seen.append(threads())
    return simulate(*given, **named)
engine.simulate = watched
testbed.simulate({str(path)!r}, out={str(tmp_path / "run")!r})
print(before, *seen, threads())
"""
    without = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    done = subprocess.run([sys.executable, "-c", program], env=without, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1:] == ["2 1 2"], done.stdout + done.stderr
