"""Node-time, its cost, how soon a new node serves, and violation time: from records and samples written out here."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from testbed import topologies
from testbed.records.events import StageOfLife
from testbed.records.facts import RunFacts
from testbed.records.samples import NodeSamples
from testbed.results.node_time import ClusterLines, node_time, ready_ms
from testbed.results.violation import violation_s
from testbed.units import NS_PER_MS, NS_PER_S
from tests import simulated_run

ABSENT, JOINING, SERVING, DRAINING, LEAVING = (int(stage) for stage in StageOfLife)
MS = NS_PER_MS


def facts(**autoscaler: Any) -> RunFacts:
    """Return the facts of three nodes of 8 Mbit/s, where 1000 bytes take 1 ms, and a target of 50 ms."""
    spec = simulated_run.scenario(node_rate="8Mbit")
    spec = type(spec).model_validate({**spec.resolved(), "autoscaler": autoscaler})
    return RunFacts.of(spec, topologies.describe(spec.topology), "simulation")


def changed(at_s: float, **stages: int) -> dict[str, Any]:
    nodes, stage = list(stages), list(stages.values())
    return {"kind": "StagesChanged", "t_ns": round(at_s * NS_PER_S), "nodes": nodes, "stage": stage}


def started(at_ms: int, node: str = "n4", kind: str = "StartNode") -> dict[str, Any]:
    return {"kind": kind, "t_ns": at_ms * MS, "node": node}


def samples(t_ms: list[int], **columns: list[int]) -> NodeSamples:
    zeros = np.zeros(len(t_ms), dtype=np.int64)
    of = {name: np.array(values, dtype=np.int64) for name, values in columns.items()}
    optional = {"delivered_bytes": of["delivered"].astype(float)} if "delivered" in of else {}
    return NodeSamples(
        t_ns=np.array(t_ms, dtype=np.int64) * MS,
        arrived_bytes=zeros,
        arrived_pkts=zeros,
        dropped_bytes=of.get("dropped", zeros),
        dropped_pkts=zeros,
        backlog_bytes=of.get("backlog", zeros),
        limit_bytes=zeros,
        optional=optional,
    )


def test_node_seconds_are_those_of_each_stage_and_all_of_them_are_paid() -> None:
    lines = [
        changed(0.001, n1=SERVING, n2=SERVING, n3=ABSENT),  # the first record holds from the start
        changed(1, n3=JOINING),
        changed(3, n3=SERVING),
        changed(4, n1=DRAINING),
        changed(6, n1=LEAVING),
        changed(7, n1=ABSENT),
    ]
    found = node_time(lines, facts(price=3600), 10 * NS_PER_S)
    assert found == {"serving_s": 4 + 10 + 7, "booting_s": 2, "draining_s": 3, "cost_usd": 26}


def test_what_happens_after_the_traffic_does_not_count() -> None:
    found = node_time([changed(0, n1=SERVING), changed(9, n1=DRAINING)], facts(), 5 * NS_PER_S)
    assert found is not None
    assert (found["serving_s"], found["draining_s"]) == (5, 0)


def test_nodes_that_do_not_change_serve_throughout_and_an_earlier_run_that_does_not_say_has_no_figure() -> None:
    found = node_time([], facts(price=3600), 10 * NS_PER_S)
    assert found == {"serving_s": 30, "cost_usd": 30}
    assert node_time([started(100)], facts(), 10 * NS_PER_S) is None


def test_a_new_node_is_ready_when_it_has_served_its_first_packet_in_that_life() -> None:
    rows = {"n4": samples([100, 200, 300, 900, 1000], delivered=[0, 0, 5, 5, 9])}
    lines = [started(150), started(500, kind="StopNode"), started(600)]
    assert ready_ms(lines, rows) == {"p50": 400, "p99": 400}  # 150 → 300 and 600 → 1000
    assert ready_ms(lines[:1], rows) == {"p50": 150, "p99": 150}
    assert ready_ms([started(310), started(800, kind="StopNode")], rows) is None
    assert ready_ms([started(150, "n9")], rows) is None


def test_violation_is_the_time_in_which_any_node_drops_or_lets_wait_beyond_the_target() -> None:
    rows = {
        "n1": samples([10, 20, 30, 40], backlog=[50_000, 50_001, 60_000, 0]),  # 10 to 30
        "n2": samples([15, 25, 35, 45], dropped=[0, 0, 1, 1]),  # 25 to 45
        "n3": samples([5000], dropped=[1]),  # the first sample of a late life: two intervals at most
    }
    assert violation_s(facts(), rows, NS_PER_S) == pytest.approx(0.035)
    assert violation_s(facts(), rows, 40 * MS) == pytest.approx(0.030)
    assert violation_s(facts(), rows, 10 * NS_PER_S) == pytest.approx(0.055)
    assert violation_s(facts(), {}, NS_PER_S) == 0


def test_the_lines_are_kept_while_others_read_the_events() -> None:
    kept, events = ClusterLines(), [started(1), {"kind": "NodeLeft", "t_ns": 2}, changed(3, n1=SERVING)]
    assert list(kept.passing(events)) == events
    assert kept.lines == [events[0], events[2]]


def test_a_run_whose_nodes_change_has_the_figures_in_its_summary() -> None:
    spec = simulated_run.scenario(duration="3s", node_rate="20Mbit")
    orders = [{"at": "500ms", "add": "n4"}, {"at": "2s", "drain": "n1"}]
    spec = type(spec).model_validate({**spec.resolved(), "faults": orders, "autoscaler": {"boot": "400ms"}})
    summary = simulated_run.summary(simulated_run.run(spec))
    nodes = summary["nodes"]
    assert nodes["serving_s"] == pytest.approx(3 + 3 + 2 + 2, abs=0.2)
    assert nodes["booting_s"] == pytest.approx(0.5, abs=0.2)
    assert 0 < nodes["draining_s"] <= 1
    assert nodes["cost_usd"] == pytest.approx(sum(nodes[k] for k in nodes if k.endswith("ing_s")) / 3600 * 0.096)
    assert 400 < summary["autoscaler"]["ready_ms"]["p50"] < 1000
    assert "over_ratio" not in summary["autoscaler"]  # nobody measured the load
