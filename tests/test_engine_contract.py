"""What a user may rely on, whichever engine ran: the one place that knows there are two."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from testbed.records.samples import COLUMNS
from testbed.results.metrics import paths
from testbed.system import places

SMOKE = places.scenarios() / "smoke.yaml"
EXIT_OF_VERDICT = {"VALID": 0, "DEGRADED": 0, "INVALID": 5}
FILES = (
    "manifest.json",
    "scenario.yaml",
    "plan.parquet",
    "samples.parquet",
    "events.jsonl",
    "fidelity.json",
    "summary.json",
    "report.html",
    "logs",
)
HEAD = {"schema", "scenario", "engine", "seed", "status", "verdict", "verdict_reasons", "expectations"}
FAULT = """
version: 1
name: contract-fault
duration: 2s
topology: {family: cluster, nodes: 4, clients: 1, node_rate: 40Mbit}
buffer: {policy: static-min}
traffic:
  - {name: load, from: c1, shape: constant, rate: 16Mbit, flows: 80}
faults:
  - {at: 1s, crash: n2}
expect:
  - traffic.unaccounted_packets == 0
  - failover.count == 1
  - failover.lost_packets > 0
  - failover.false_suspicions == 0
  - balancer.broken_flows == 0
"""
DEFLECTION = """
version: 1
name: contract-deflection
duration: 2s
topology: {family: cascade, nodes: 1, second_tier: 1, clients: 1, node_rate: 10Mbit}
buffer: {policy: static-min, min: 0.1MB, deflect: true}
traffic:
  - {name: load, from: c1, shape: constant, rate: 15Mbit, flows: 20}
expect:
  - traffic.unaccounted_packets == 0
  - buffer.deflected_packets > 500
  - buffer.loss_ratio == 0
"""
RECORDED = FAULT.replace("contract-fault", "contract-packets") + "record_packets: true\n"
BOTH_VERSIONS = FAULT.replace("contract-fault", "contract-ipv6").replace("flows: 80", "flows: 80, ip: mixed")
IP6_ALONE = """
version: 1
name: contract-ipv6-alone
duration: 1s
topology: {family: cluster, nodes: 2, clients: 2, node_rate: 10Mbit}
buffer: {policy: static-min, min: 0.1MB, ecn_threshold: 0.05MB}
balancer: {policy: round-robin}
traffic:
  - {name: load, from: c1, shape: constant, rate: 26Mbit, flows: 40, ip: 6}
expect:
  - traffic.unaccounted_packets == 0
  - buffer.marked_packets > 200
  - buffer.loss_ratio > 0.05
"""
Finished = tuple[Path, dict[str, Any]]
EMULATION = pytest.param("emulation", marks=pytest.mark.requires("root", "bpf", "ovs", "mininet"))


@pytest.fixture(scope="module", params=["simulation", EMULATION])
def finished(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, object]]:
    """A finished run of the smoke scenario and its summary as printed."""
    out = tmp_path_factory.mktemp("contract") / "run"
    argv = [sys.executable, "-m", "testbed", "run", str(SMOKE), "--engine", request.param, "--out", str(out), "--json"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=90, check=False)
    summary = json.loads(done.stdout)
    assert done.returncode == EXIT_OF_VERDICT[summary["verdict"]], done.stderr
    assert summary["engine"] == request.param
    return out, summary


def test_every_packet_is_accounted_for(finished: Finished) -> None:
    path, summary = finished
    traffic = summary["traffic"]
    assert traffic["unaccounted_packets"] == 0
    assert traffic["sent_packets"] == len(pq.read_table(path / "plan.parquet"))
    assert traffic["delivered_packets"] + sum(traffic["dropped_packets"].values()) == traffic["sent_packets"]


def test_every_node_was_resized(finished: Finished) -> None:
    rows = pq.read_table(finished[0] / "samples.parquet", columns=["node", "limit_bytes"]).to_pylist()
    limits = {node: {row["limit_bytes"] for row in rows if row["node"] == node} for node in ("n1", "n2", "n3")}
    assert all(len(seen) > 1 for seen in limits.values()), limits


def test_no_slots_are_dealt_by_state_before_every_node_was_heard(finished: Finished) -> None:
    lines = [json.loads(line) for line in (finished[0] / "events.jsonl").read_text().splitlines()]
    ours = [line for line in lines if line.get("policy") == "balancer"]
    heard_ns = {
        node: line["t_ns"] for line in reversed(ours) if line["kind"] == "NodesNotified" for node in line["nodes"]
    }
    assert set(heard_ns) == {"n1", "n2", "n3"}
    dealt_ns = [line["t_ns"] for line in ours if line["kind"] == "SetSlots"]
    assert dealt_ns
    assert min(dealt_ns) >= max(heard_ns.values())


def test_the_run_directory_is_complete(finished: Finished) -> None:
    path, summary = finished
    assert [name for name in FILES if not (path / name).exists()] == []
    assert json.loads((path / "summary.json").read_text()) == summary
    assert json.loads((path / "manifest.json").read_text())["status"] == "completed"
    assert set(pq.read_table(path / "samples.parquet").column_names) == set(COLUMNS)


def test_the_summary_has_the_sections_that_apply(finished: Finished) -> None:
    summary = finished[1]
    sections = {path.split(".")[0] for path in paths()}
    always = {"traffic", "delay_ms", "buffer", "prediction", "balancer", "expectations"}
    assert always <= set(summary)
    assert set(summary) <= sections | {
        "schema",
        "scenario",
        "engine",
        "seed",
        "status",
        "verdict",
        "verdict_reasons",
        "expectations",
    }


def test_the_present_code_decides_as_recorded(finished: Finished) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "testbed", "replay", str(finished[0])], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("engine", ["simulation", EMULATION])
@pytest.mark.parametrize(
    "text", [RECORDED, DEFLECTION, BOTH_VERSIONS, IP6_ALONE], ids=["fault", "deflection", "both versions", "IPv6"]
)
def test_what_fails_and_what_overflows_means_the_same(tmp_path: Path, engine: str, text: str) -> None:
    """The scenario's own expectations say what; they are checked by the run, whichever engine carries it out."""
    scenario, out = tmp_path / "contract.yaml", tmp_path / "run"
    scenario.write_text(text, encoding="utf-8")
    argv = [sys.executable, "-m", "testbed", "run", str(scenario), "--engine", engine, "--out", str(out), "--json"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=90, check=False)
    summary = json.loads(done.stdout)
    assert [e for e in summary["expectations"] if not e["passed"]] == []
    replayed = [sys.executable, "-m", "testbed", "replay", str(out)]
    again = subprocess.run(replayed, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stdout + again.stderr
    if (out / "packets.parquet").exists():
        assert_the_packets_add_up(pq.read_table(out / "packets.parquet"), summary["traffic"])


def assert_the_packets_add_up(packets: pa.Table, traffic: dict[str, Any]) -> None:
    rows = packets.to_pylist()
    lost, dropped = Counter(row["lost"] for row in rows), traffic["dropped_packets"]
    assert len(rows) - lost["unsent"] == traffic["sent_packets"]
    assert lost[None] == traffic["delivered_packets"]
    assert lost["buffer"] == dropped["buffer"]
    assert lost["fault"] > 0
    assert lost["fault"] + lost["queue"] + lost["way"] == dropped["fault"] + dropped["switch"] + dropped["other"]
    for row in rows:
        times = [row[name] for name in ("planned_ns", "sent_ns", "arrived_ns", "delivered_ns") if row[name] is not None]
        assert times == sorted(times)
        assert (row["lost"] is None) == (len(times) == 4) == (row["delay_ns"] is not None)
