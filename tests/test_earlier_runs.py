"""Run directories of an earlier version are read and replayed as when they were made.

``tests/data/runs`` holds three of schema 1, made by version 0.1.0 before its records were declared as they are now,
each without report, plan, logs and facts of the machine: ``emulated`` (``smoke.yaml``, 1 s), ``failover`` (simulated,
with faults, the mesh and two controllers) and ``wide`` (simulated, 70 nodes, whose records are in short).  They are
never made anew: a later schema adds runs of its own.
"""

from __future__ import annotations

import collections
import json
import tarfile
from pathlib import Path

import pytest

from testbed.errors import InputError
from testbed.results.failover import FaultLines, failover_section
from testbed.results.recorded_run import RecordedRun
from testbed.trials.replay import replay

ARCHIVES = Path(__file__).parent / "data" / "runs"
NAMES = ("emulated", "failover", "wide")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the run directories."""
    folder = tmp_path_factory.mktemp("earlier")
    for name in NAMES:
        with tarfile.open(ARCHIVES / f"{name}.tar.xz") as archive:
            archive.extraction_filter = getattr(tarfile, "data_filter", None)  # Python before 3.11.4 has none
            archive.extractall(folder)
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_an_earlier_run_is_replayed_without_a_difference(runs: Path, name: str) -> None:
    assert replay(runs / name) is None


def test_the_lines_of_faults_mean_what_they_meant(runs: Path) -> None:
    run = RecordedRun.open(runs / "failover")
    summary = run.document("summary.json")
    assert summary is not None
    about_faults = FaultLines()
    collections.deque(about_faults.passing(run.events()), maxlen=0)
    section = failover_section(about_faults.lines)
    assert section is not None
    for now, then in zip(section["faults"], summary["failover"]["faults"], strict=True):
        for name in now.keys() - then.keys():  # what later versions say beside
            del now[name]
    assert section == summary["failover"]


def test_a_run_of_another_schema_says_so_and_what_to_do(runs: Path, tmp_path: Path) -> None:
    manifest = json.loads((runs / "emulated" / "manifest.json").read_text(encoding="utf-8"))
    (tmp_path / "manifest.json").write_text(json.dumps({**manifest, "schema": 2}), encoding="utf-8")
    with pytest.raises(InputError, match="written by schema 2, this version reads 1; use the version of the testbed"):
        replay(tmp_path)
