"""A run that is disturbed from outside while it goes on: which processes it has, and stopping them for a time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from testbed.results.recorded_run import RecordedRun

SCENARIO = """
version: 1
name: disturbed
duration: {duration}
topology: {{family: cluster, nodes: 3, clients: 2, node_rate: 40Mbit}}
buffer: {{policy: reactive, min: 0.5MB, max: 4MB}}
traffic:
  - {{name: one, from: c1, shape: constant, rate: 12Mbit, flows: 60, packet: 1000B}}
  - {{name: two, from: c2, shape: constant, rate: 12Mbit, flows: 60, packet: 1000B}}
"""


def run(folder: Path, disturb: Callable[[Disturbed], None], duration: str = "4s", more: str = "") -> dict[str, Any]:
    """Run, let `disturb` act when traffic has begun, and return the summary with the checks under ``checks``."""
    scenario = folder / "disturbed.yaml"
    scenario.write_text(SCENARIO.format(duration=duration) + more)
    out = folder / "run"
    argv = [sys.executable, "-m", "testbed", "run", str(scenario), "--out", str(out), "--no-live", "--json"]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        disturbed = Disturbed(process, out)
        disturbed.wait_for_traffic()
        disturb(disturbed)
        output, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode in (0, 5), errors
    checks = json.loads((out / "fidelity.json").read_text())["checks"]
    return {**json.loads(output), "checks": {check["name"]: check for check in checks}}


class Disturbed:
    """The processes of a run, by the name they carry."""

    def __init__(self, process: subprocess.Popen[str], out: Path) -> None:
        self._process, self._out = process, out

    def pids(self) -> dict[str, int]:
        """Return every process below the run by its name."""
        names, parents = {}, {}
        for entry in Path("/proc").glob("[0-9]*/stat"):
            try:
                head, _, rest = entry.read_text().rpartition(")")
            except OSError:
                continue
            pid = int(entry.parent.name)
            names[pid], parents[pid] = head.partition("(")[2], int(rest.split()[1])
        found = {self._process.pid}
        while more := {child for child, parent in parents.items() if parent in found} - found:
            found |= more
        return {names[pid]: pid for pid in found if pid in names}

    def wait_for_traffic(self) -> None:
        """Wait until events of the running trial have reached the run directory; they may be late by a second."""
        path, deadline = self._out / "events.jsonl", time.monotonic() + 60
        while time.monotonic() < deadline and self._process.poll() is None:
            if path.exists() and path.read_text().count("TrafficSampled") > 10:
                return
            time.sleep(0.01)
        raise AssertionError(f"no traffic: {self._process.communicate(timeout=30)}")

    def rest(self, for_ms: float) -> None:
        """Leave the run alone for a time."""
        time.sleep(for_ms / 1e3)

    def stop(self, name: str, for_ms: float) -> None:
        """Stop a process for a time."""
        pid = self.pids()[name]
        os.kill(pid, signal.SIGSTOP)
        time.sleep(for_ms / 1e3)
        os.kill(pid, signal.SIGCONT)


def events(folder: Path) -> list[dict[str, Any]]:
    """Return the events of the run in `folder`."""
    return list(RecordedRun.open(folder / "run").events())
