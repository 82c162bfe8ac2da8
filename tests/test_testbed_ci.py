"""``ci/testbed-ci``: a pipeline fails by its exit code, and the report is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from testbed.errors import EXIT_BAD_INPUT, EXIT_EXPECTATION_FAILED, EXIT_INTERRUPTED, EXIT_INVALID, EXIT_OK
from testbed.report import baseline
from tests.command import ROOT, environment, write_tiny
from tests.junit_file import cases_of

SCRIPT = ROOT / "ci" / "testbed-ci"
PATIENCE_S = 20.0


def call(folder: Path, *words: str, python: str | Path = sys.executable) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SCRIPT, *words], cwd=folder, env=environment(PYTHON=str(python)), capture_output=True, text=True, check=False
    )


def fake(folder: Path, body: str) -> Path:
    """Return an interpreter that does something else."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def test_a_run_that_shows_what_it_should_passes_until_it_is_a_regression(tmp_path: Path) -> None:
    write_tiny(tmp_path)
    first = call(tmp_path, "tiny.yaml", "--engine", "simulation", "--quiet")
    assert first.returncode == EXIT_OK, first.stderr
    assert {case.outcome for case in cases_of(tmp_path / "testbed-ci/junit.xml").values()} == {"passed"}
    kept = baseline.store(tmp_path / "kept.json", [tmp_path / "testbed-ci/run"], ["traffic.goodput_bps=0"])
    words = ("tiny.yaml", "--baseline", "kept.json", "--engine", "simulation", "--quiet")
    assert call(tmp_path, *words, "--out=a b").returncode == EXIT_OK
    record = json.loads(kept.read_text())
    record["figures"]["traffic.goodput_bps"]["value"] *= 2
    kept.write_text(json.dumps(record))
    worse = call(tmp_path, *words, "--out", "worse")
    assert worse.returncode == EXIT_EXPECTATION_FAILED
    assert "REGRESSION  traffic.goodput_bps is " in worse.stdout
    found = cases_of(tmp_path / "worse/junit.xml")
    assert found["baseline", "traffic.goodput_bps"].outcome == "failure"
    assert found["tiny", "verdict"].outcome == "passed"


def test_an_expectation_that_fails_fails_it_whatever_the_baseline_is(tmp_path: Path) -> None:
    scenario = write_tiny(tmp_path)
    scenario.write_text(f"{scenario.read_text()}expect: [delay_ms.p99 < 0]\n")
    done = call(tmp_path, "tiny.yaml", "--baseline", "none.json", "--engine", "simulation", "--quiet")
    assert done.returncode == EXIT_EXPECTATION_FAILED
    assert "--baseline FILE --write` stores one" in done.stderr
    found = cases_of(tmp_path / "testbed-ci/junit.xml")
    assert found["tiny", "delay_ms.p99 < 0"].outcome == "failure"
    assert found["compare", "end"].outcome == "error"


@pytest.mark.parametrize("code", [EXIT_INVALID, EXIT_BAD_INPUT, EXIT_INTERRUPTED])
def test_a_run_that_says_nothing_is_not_compared(tmp_path: Path, code: int) -> None:
    done = call(tmp_path, "x.yaml", "--baseline", "b", python=fake(tmp_path, f'echo "$3"; exit {code}'))
    assert (done.returncode, done.stdout) == (code, "run\n")


@pytest.mark.parametrize(
    "words", [(), ("x.yaml", "--out"), ("--baseline",), ("x", "--junit=y"), ("x", "--repeat", "2")]
)
def test_wrong_usage_is_said(tmp_path: Path, words: tuple[str, ...]) -> None:
    done = call(tmp_path, *words, python=fake(tmp_path, "exit 0"))
    assert done.returncode == EXIT_BAD_INPUT
    assert "usage: testbed-ci SCENARIO" in done.stderr


STOPPED = """\
import pathlib, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
pathlib.Path("there").touch()
sys.exit(130 if signal.sigtimedwait([signal.SIGTERM], 60) else 0)
"""


def test_what_stops_the_script_stops_the_run_in_order(tmp_path: Path) -> None:
    python = fake(tmp_path, f"exec {sys.executable} - <<'END'\n{STOPPED}END")
    argv = [SCRIPT, "x.yaml", "--baseline", "b"]
    script = subprocess.Popen(argv, cwd=tmp_path, env=environment(PYTHON=str(python)))
    deadline = time.monotonic() + PATIENCE_S
    while not (tmp_path / "there").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(script.pid, signal.SIGTERM)
    assert script.wait(PATIENCE_S) == EXIT_INTERRUPTED
