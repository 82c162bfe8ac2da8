"""The compiled step comes to the same as the step by arrays, to the last bit, and a run may take turns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from testbed.results.run_directory import RunDirectory
from testbed.scenario.model import Scenario
from testbed.simulation import compiled
from testbed.simulation.engine import simulate
from testbed.topologies import describe
from testbed.traffic.plan import make_plan
from testbed.trials.run import trial_plan

TRAFFIC = [
    {"name": "base", "from": "c1", "shape": "poisson", "rate": "9Mbit", "flows": 40, "packet": "1000B"},
    {
        **{"name": "bursts", "from": "c2", "shape": "on-off", "peak": "60Mbit", "flows": 90, "burst_flows": 9},
        **{"on": {"constant": "70ms"}, "off": {"constant": "90ms"}, "packet": "1500B"},
    },
]
CASES: dict[str, dict[str, Any]] = {
    "drops": {"buffer": {"policy": "static-min", "min": "60kB", "max": "1MB"}},
    "marks": {"buffer": {"policy": "reactive", "min": "60kB", "max": "1MB", "ecn_threshold": "20kB"}},
    "turns": {"buffer": {"policy": "reactive", "max": "1MB"}, "balancer": {"policy": "cooperative"}},
    "pins end": {"balancer": {"policy": "hash", "affinity_idle": "1s"}, "duration": "2500ms"},
    "faults": {
        "balancer": {"policy": "round-robin"},
        "faults": [
            {"at": "200ms", "crash": "n2"},
            {"at": "450ms", "restart": "n2"},
            {"at": "500ms", "link_down": "s1-n1", "for": "150ms"},
            {"at": "700ms", "loss": "s1-n3", "ratio": 0.1, "for": "100ms"},
        ],
    },
    "many nodes": {"topology": {"family": "cluster", "nodes": 12, "clients": 2, "node_rate": "2Mbit"}},
}


def scenario(extra: dict[str, Any]) -> Scenario:
    topology = {"family": "cluster", "nodes": 3, "clients": 2, "node_rate": "8Mbit"}
    described = {"version": 1, "name": "compiled", "duration": "900ms", "topology": topology, "traffic": TRAFFIC}
    return Scenario.model_validate({**described, **extra})


def outcome(spec: Scenario, path: Path) -> tuple[object, ...]:
    network = describe(spec.topology)
    plan = make_plan(spec, network, path.parent)
    directory = RunDirectory.create(path, {})
    evidence = simulate(trial_plan(spec, network, plan, path / "logs"), directory)
    rows = directory.samples().to_pydict()
    directory.finish("completed")
    counted = [(node, node.delay.counts.tolist(), node.delay.max_ns) for node in evidence.nodes if node.delay]
    return repr(counted), repr(evidence.clients), rows, (path / "events.jsonl").read_bytes()


@pytest.mark.requires("step")
@pytest.mark.parametrize("case", CASES)
def test_both_ways_come_to_the_same(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = scenario(CASES[case])
    with_library = outcome(spec, tmp_path / "compiled")
    monkeypatch.setattr(compiled, "library", lambda: None)
    assert outcome(spec, tmp_path / "arrays") == with_library


@pytest.mark.requires("step")
def test_a_full_block_is_closed_and_a_step_that_fits_none_is_taken_by_arrays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = scenario(CASES["drops"])
    whole = outcome(spec, tmp_path / "whole")
    monkeypatch.setattr("testbed.simulation.deliveries._BLOCK_PKTS", 7)
    assert outcome(spec, tmp_path / "in pieces") == whole


def test_without_the_library_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("testbed.system.places.step_library", lambda: tmp_path / "step.so")
    compiled.library.cache_clear()
    try:
        assert compiled.library() is None
    finally:
        compiled.library.cache_clear()
