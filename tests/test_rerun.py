"""A run directory is enough to make the run again: traces, models and plug-ins are in it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

import testbed
from testbed.scenario import loading
from testbed.trials.replay import replay
from testbed.trials.sweep_runs import _difference
from tests.command import call
from tests.plugin_files import none_left  # noqa: F401 (a fixture for every test)
from tests.test_own_models import lstm

CSV = "time_s,bytes\n" + "".join(f"{row / 100:g},{row % 7 * 3000}\n" for row in range(40))


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    folder = tmp_path / "study"
    (folder / "data").mkdir(parents=True)
    lstm(folder / "mine.npz")
    for name in ("rack.csv", "data/rack.csv"):
        (folder / name).write_text(CSV.replace("3000", "2000") if "/" in name else CSV)
    sources = [
        {"name": name, "from": "c1", "trace": trace, "rows": "bins", "flows": 20}
        for name, trace in (("one", "rack.csv"), ("two", "./data/rack.csv"), ("three", "rack.csv"))
    ]
    data = {
        **{"version": 1, "name": "x", "duration": "300ms", "topology": {"family": "cluster", "node_rate": "5Mbit"}},
        **{"buffer": {"policy": "lstm", "model": "mine.npz", "min": "0.02MB", "max": "1MB"}, "traffic": sources},
    }
    (folder / "x.yaml").write_text(yaml.safe_dump(data))
    return folder / "x.yaml"


def test_a_run_is_made_again_from_its_directory_alone(scenario: Path, tmp_path: Path) -> None:
    run = testbed.simulate(scenario, out=tmp_path / "run")
    assert _difference(run.path, loading.load(scenario), "simulation") == ""
    named = [source["trace"] for source in run.scenario["traffic"]]
    assert named == ["traces/1-rack.csv", "traces/2-rack.csv", "traces/1-rack.csv"]
    shutil.rmtree(scenario.parent)
    moved = run.path.rename(tmp_path / "moved")
    again = testbed.simulate(moved / "scenario.yaml", out=tmp_path / "again")
    assert {**again.manifest["hashes"], "scenario": ""} == {**run.manifest["hashes"], "scenario": ""}
    assert list(again.events("SetBufferLimit")) == list(testbed.open(moved).events("SetBufferLimit"))
    assert replay(again.path) is None


def test_a_package_of_a_run_with_a_trace_can_be_reproduced(scenario: Path, tmp_path: Path) -> None:
    run = testbed.simulate(scenario, out=tmp_path / "run")
    shutil.rmtree(scenario.parent)
    packed = tmp_path / "x.zip"
    assert call("package", run.path, "-o", packed).returncode == 0
    done = call("reproduce", packed, "--out", tmp_path / "made")
    assert done.returncode == 0, done.stderr
    assert "reproduced" in done.stdout + done.stderr
