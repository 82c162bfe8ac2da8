"""`run --restart`: processes of a trial that die unordered get successors, are recorded and named in the verdict."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from testbed.bench.running_trial import RunningTrial
from testbed.results.recorded_run import RecordedRun

pytestmark = pytest.mark.requires("root", "bpf", "ovs", "mininet")

KILLED = ("agents", "mesh", "balancer")
SCENARIO = {
    "name": "restarts",
    "duration": "2s",
    "topology": {"family": "cluster", "nodes": 3, "clients": 1, "node_rate": "40Mbit"},
    "buffer": {"policy": "holt"},
    "traffic": [{"name": "base", "from": "c1", "shape": "poisson", "rate": "10Mbit"}],
}


def test_agents_mesh_and_balancer_are_started_anew_and_named(tmp_path: Path) -> None:
    trial = RunningTrial(tmp_path, SCENARIO, options=("--restart",))
    try:
        for number, name in enumerate(KILLED):
            trial.wait_until_ms(300 + 400 * number)
            before = trial.pid(name)
            os.kill(before, signal.SIGKILL)
        summary = trial.finish()
    finally:
        trial.kill()
    check = summary["checks"]["restarted processes"]
    assert (check["value"], check["verdict"]) == (3, "DEGRADED"), check
    assert all(f"{name} was ended by SIGKILL" in check["cause"] for name in KILLED)
    assert summary["traffic"]["unaccounted_packets"] == 0
    lines = (trial.out / "events.jsonl").read_text().splitlines()
    told = [line for line in map(json.loads, lines) if line["kind"] == "ProcessRestarted"]
    assert [line["process"] for line in told] == list(KILLED)
    assert RecordedRun.open(trial.out).samples_by_node(most_bytes=None)["n1"].t_ns[-1] > 1.9e9  # agents to the end
