"""The view of a run in the terminal, read from its directory."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
import time

import numpy as np
import pytest
from rich.console import Console

from testbed.commands.watch import _selected
from testbed.report.watch import SPARK_CELLS, Watch, sparkline
from testbed.results.recorded_run import RecordedRun, process_identity
from tests.command import call, environment

NS_PER_S = 10**9
CRASH = """
version: 1
name: crash
duration: 1s
topology: {family: cluster, nodes: 3, node_rate: 20Mbit}
buffer: {policy: holt}
traffic: [{name: base, from: c1, shape: poisson, rate: 8Mbit, flows: 20}]
faults: [{at: 400ms, crash: n2}]
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> RecordedRun:
    folder = tmp_path_factory.mktemp("watch")
    (folder / "crash.yaml").write_text(CRASH, encoding="utf-8")
    done = call("simulate", "crash.yaml", "--quiet", "--out", "run", cwd=folder)
    assert done.returncode == 0, done.stderr
    return RecordedRun.open(folder / "run")


def drawn(watch: Watch, selected: str | None = None, width: int = 80) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(watch.drawn(selected))
    return console.export_text()


def test_it_shows_nodes_faults_and_the_verdict_in_eighty_columns(run):
    watch = Watch(run)
    watch.read()
    text = drawn(watch)
    assert "completed, " in text.splitlines()[0]
    assert [line.split()[0] for line in text.splitlines() if line.startswith("n")] == ["node", "n1", "n2", "n3"]
    assert "0.400 s  fault ordered: crash n2" in text
    assert "balancer removed n2 from forwarding" in text
    assert "verdict: VALID" in text
    assert "silent for 0." in next(line for line in text.splitlines() if line.startswith("n2"))
    assert "…" not in text


def test_reading_again_shows_no_event_twice(run):
    watch = Watch(run)
    watch.read()
    before = drawn(watch)
    watch.read()
    assert drawn(watch) == before


def test_the_selected_node_has_its_forecast(run):
    watch = Watch(run)
    watch.read()
    assert "n1: " in drawn(watch, "n1", 200)
    assert "forecast " in drawn(watch, "n1", 200)


def test_a_sparkline_shows_the_largest_backlog_of_each_cell_at_the_time_it_was():
    t_ns = np.array([1, 5, 10]) * NS_PER_S
    line = sparkline(t_ns, np.array([0, 500, 1000]), np.array([1000, 1000, 1000]))
    assert len(line) == SPARK_CELLS
    assert (line[-1], line[SPARK_CELLS // 2], line[0]) == ("█", "▄", " ")


def test_what_is_more_than_full_is_full():
    assert sparkline(np.array([NS_PER_S]), np.array([9]), np.array([1]))[-1] == "█"


@pytest.mark.parametrize(
    ("before", "key", "after"),
    [
        (None, "n", "a"), (None, "p", "c"), ("a", "n", "b"), ("c", "n", "a"), ("a", "p", "c"), ("b", "\x1b", None),
        ("b", "", "b"), ("b", "x", "b"), ("gone", "n", "a"),
    ],
)  # fmt: skip
def test_keys_select_a_node(before, key, after):
    assert _selected(["a", "b", "c"], before, key) == after


def test_a_damaged_run_is_refused_by_name(run, tmp_path):
    done = call("watch", tmp_path / "nothing")
    assert done.returncode == 2
    assert "there is no such directory" in done.stderr


def test_q_ends_the_view_of_a_run_under_way_and_gives_the_terminal_back(tmp_path):
    """The run under way is one of this test: its manifest names this process as the writer."""
    (tmp_path / "crash.yaml").write_text(CRASH, encoding="utf-8")
    done = call("simulate", "crash.yaml", "--quiet", "--out", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    _mark_as_running(tmp_path / "run")
    ours, theirs = pty.openpty()
    argv = [sys.executable, "-m", "testbed", "watch", "run"]
    with subprocess.Popen(argv, cwd=tmp_path, env=environment(TERM="xterm"), stdin=theirs, stdout=theirs) as process:
        os.close(theirs)
        seen = b""
        deadline = time.monotonic() + 60
        while b"running" not in seen and time.monotonic() < deadline:
            seen += os.read(ours, 4096)
        os.write(ours, b"nq")
        while process.poll() is None and time.monotonic() < deadline:
            try:
                seen += os.read(ours, 4096)
            except OSError:  # the terminal is closed with its last user
                break
        assert process.wait(30) == 0
    os.close(ours)
    assert b"n1" in seen


def _mark_as_running(path) -> None:
    manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    manifest |= {"status": "running", "process": process_identity()}
    (path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
