"""Nodes that are added and drained while traffic flows, in virtual time: what is lost, moved and recorded."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from testbed.errors import InputError
from testbed.policies.agreement import Agreement
from testbed.policies.balancer import make_balancer
from testbed.policies.membership import BALANCER
from testbed.records.events import (
    RemoveNode,
    RestoreNode,
    SendStages,
    SetSlots,
    StageOfLife,
    StagesAnnounced,
    SuspicionsHeard,
)
from testbed.results.accounting import account
from testbed.results.failover import failover_section
from testbed.scenario.balancer import BalancerSpec
from testbed.scenario.loading import load
from testbed.scenario.model import Scenario
from testbed.trials.replay import replay
from testbed.units import NS_PER_MS, NS_PER_S
from testbed.wire.mesh_messages import ORCHESTRATOR, Codec
from tests import sealed, simulated_run
from tests.test_balancer_policies import notified

NODES = ("n1", "n2", "n3", "n4")
ABSENT, JOINING, SERVING, DRAINING, LEAVING = StageOfLife
BURSTS = {
    **{"name": "calls", "from": "c1", "shape": "on-off", "peak": "12Mbit", "flows": 2000, "burst_flows": 10},
    **{"on": {"constant": "100ms"}, "off": {"constant": "50ms"}},
}


def scenario(*faults: dict[str, Any], duration: str = "6s", **parts: Any) -> Scenario:
    return Scenario.model_validate(
        {
            "version": 1,
            "name": "changing",
            "duration": duration,
            "topology": {"family": "cluster", "nodes": 3, "clients": 1, "node_rate": "20Mbit"},
            "buffer": {"policy": "reactive", "min": "0.05MB", "max": "1MB"},
            "balancer": {"policy": "round-robin", "affinity_idle": "1s"},
            "traffic": [BURSTS],
            "faults": list(faults),
            **parts,
        }
    )


def stages(**of: StageOfLife) -> StagesAnnounced:
    return StagesAnnounced(nodes=tuple(of), stage=np.array(list(of.values()), dtype=np.int64))


def kinds(run: simulated_run.Simulated, *names: str) -> list[tuple[int, str, str]]:
    return [(e["t_ns"], e["kind"], e.get("node", "")) for e in run.recorded.events if e["kind"] in names]


# ------------------------------------------------------------------------------------------------- the whole thing


def test_a_node_is_added_and_another_drained_and_nothing_is_lost_or_moved(tmp_path: Path) -> None:
    spec = scenario({"at": "500ms", "add": "n4"}, {"at": "1s", "drain": "n1"}, {"at": "4s", "add": "n1"})
    run = simulated_run.run(spec)
    assert account(run.evidence).unaccounted_pkts == 0
    assert sum(node.dropped_pkts for node in run.evidence.nodes) == 0
    assert run.evidence.moved_flows_ns == ()
    started = kinds(run, "StartNode", "StopNode")
    assert [(kind, node) for _, kind, node in started] == [("StartNode", "n4"), ("StopNode", "n1"), ("StartNode", "n1")]
    assert started[1][0] > 2 * NS_PER_S  # its last flow was silent for a second
    arrived = {node.node: node.arrived_pkts for node in run.evidence.nodes}
    assert arrived["n4"] > 0
    path = simulated_run.write(spec, tmp_path / "run")
    assert replay(path) is None


def test_nobody_is_suspected_when_nodes_come_and_go_by_order() -> None:
    run = simulated_run.run(scenario({"at": "500ms", "add": "n4"}, {"at": "1s", "drain": "n1"}))
    assert kinds(run, "MemberSilent", "MemberDied") == []
    told = [event for event in run.recorded.events if event.get("policy") == "balancer"]
    assert failover_section(told) is None


def test_a_drained_node_gets_no_packet_after_its_flows_have_ended_and_leaves_no_samples() -> None:
    run = simulated_run.run(scenario({"at": "1s", "drain": "n1"}))
    gone_ns = next(t_ns for t_ns, kind, _ in kinds(run, "StopNode") if kind == "StopNode")
    nodes, times = run.recorded.column("node"), run.recorded.column("t_ns")
    assert max(t for node, t in zip(nodes, times, strict=True) if node == "n1") <= gone_ns
    (absent_ns,) = [node.absent_ns for node in run.evidence.nodes if node.node == "n1"]
    assert absent_ns == run.evidence.ran_ns - gone_ns


def test_a_deadline_moves_the_flows_that_go_on_and_they_count_as_broken() -> None:
    patient = {"shape": "constant", "name": "long", "from": "c1", "rate": "4Mbit", "flows": 30}
    run = simulated_run.run(
        scenario({"at": "1s", "drain": "n1"}, autoscaler={"drain_deadline": "1s"}, traffic=[patient])
    )
    assert account(run.evidence).unaccounted_pkts == 0
    assert sum(node.dropped_pkts for node in run.evidence.nodes) == 0
    assert 0 < len(run.evidence.moved_flows_ns or ()) < 30


def test_a_node_that_crashes_while_it_drains_has_left_with_what_it_held() -> None:
    run = simulated_run.run(
        scenario({"at": "1s", "drain": "n1"}, {"at": "1100ms", "crash": "n1"}, {"at": "2s", "restart": "n1"})
    )
    stopped = [e for e in run.recorded.events if e["kind"] == "StopNode"]
    assert [(e["t_ns"], e["node"], e["reason"]) for e in stopped] == [(1100 * NS_PER_MS, "n1", "failed")]
    assert account(run.evidence).unaccounted_pkts == 0
    times = zip(run.recorded.column("node"), run.recorded.column("t_ns"), strict=True)
    assert max(t for node, t in times if node == "n1") <= 1100 * NS_PER_MS  # a restart does not bring it back


def test_a_node_that_crashes_while_it_joins_is_given_up() -> None:
    slow = {"boot": "1s"}
    run = simulated_run.run(scenario({"at": "1s", "add": "n4"}, {"at": "1500ms", "crash": "n4"}, autoscaler=slow))
    stopped = [e for e in run.recorded.events if e["kind"] == "StopNode"]
    assert [(e["node"], e["reason"]) for e in stopped] == [("n4", "failed")]
    assert account(run.evidence).unaccounted_pkts == 0
    assert next(node.arrived_pkts for node in run.evidence.nodes if node.node == "n4") == 0


def test_a_node_that_is_ordered_again_while_its_crash_lasts_is_started_when_that_is_over() -> None:
    again = ({"at": "1s", "drain": "n1"}, {"at": "1100ms", "crash": "n1"}, {"at": "1500ms", "add": "n1"})
    run = simulated_run.run(scenario(*again, {"at": "3s", "restart": "n1"}))
    seen = [(t_ns // NS_PER_MS, kind) for t_ns, kind, node in kinds(run, "StartNode", "NodeReady") if node == "n1"]
    assert seen[:1] == [(1500, "StartNode")]
    assert [kind for _, kind in seen[1:]] == ["NodeReady"]
    assert seen[1][0] > 3000
    assert account(run.evidence).unaccounted_pkts == 0
    nodes, times = run.recorded.column("node"), run.recorded.column("t_ns")
    assert max(t for node, t in zip(nodes, times, strict=True) if node == "n1") > 4 * NS_PER_S


def test_an_addition_of_a_draining_node_takes_the_drain_back_and_moves_no_flow() -> None:
    run = simulated_run.run(scenario({"at": "1s", "drain": "n1"}, {"at": "1100ms", "add": "n1"}))
    assert kinds(run, "StartNode", "StopNode", "RefuseOrder") == []
    stages = [stage for e in run.recorded.events if e["kind"] == "StagesChanged" for stage in e["stage"]]
    assert stages == [SERVING] * 3 + [DRAINING, SERVING]
    assert run.evidence.moved_flows_ns == ()


@pytest.mark.parametrize("order", ["drain", "add"])
def test_of_two_orders_at_one_time_the_autoscaler_decides_by_what_the_scenario_has_left(order: str) -> None:
    node = {"drain": "n3", "add": "n4"}[order]
    scaled = {"policy": "hpa", "min": 2, "max": 4, "period": "500ms"}  # removes none within 300 s
    run = simulated_run.run(scenario({"at": "1s", order: node}, duration="2s", autoscaler=scaled))
    at_one = [
        e for e in run.recorded.events if e["t_ns"] == NS_PER_S and e.get("policy") in ("lifecycle", "autoscaler")
    ]
    measured = next(e for e in at_one if e["kind"] == "LoadMeasured")
    ordered = next(e for e in at_one if e["kind"] == {"drain": "DrainOrdered", "add": "AddOrdered"}[order])
    assert at_one.index(ordered) < at_one.index(measured)
    before = next(e for e in run.recorded.events if e["kind"] == "LoadMeasured")
    counts = {"drain": (before["serving"] - 1, 0), "add": (before["serving"], 1)}
    assert (measured["serving"], measured["joining"]) == counts[order]
    assert account(run.evidence).unaccounted_pkts == 0


def test_a_load_beyond_all_nodes_starts_those_there_may_be_and_says_so() -> None:
    heavy = {**BURSTS, "peak": "90Mbit", "off": {"constant": "1ms"}}
    scaled = {"policy": "hpa", "min": 3, "max": 5, "period": "200ms"}
    run = simulated_run.run(scenario(duration="3s", autoscaler=scaled, traffic=[heavy]))
    decided = [e for e in run.recorded.events if e["kind"] == "ScaleDecided"]
    assert max(e["required"] for e in decided) > 5
    assert {e["size"] for e in decided} <= {3, 4, 5}
    assert any(e["reason"].endswith("at max") for e in decided)
    assert [node for _, kind, node in kinds(run, "StartNode")] == ["n4", "n5"]
    assert account(run.evidence).unaccounted_pkts == 0


def test_an_autoscaler_adds_nodes_for_a_surge_and_drains_them_after_it(tmp_path: Path) -> None:
    surge = {
        **{"name": "surge", "from": "c1", "shape": "on-off", "peak": "60Mbit", "flows": 400, "burst_flows": 200},
        **{"on": {"constant": "2s"}, "off": {"constant": "2s"}},
    }
    scaled = {"policy": "predictive", "min": 3, "max": 6, "period": "200ms", "stabilisation": "1s"}
    spec = scenario(duration="8s", autoscaler=scaled, traffic=[BURSTS, surge])
    path = simulated_run.write(spec, tmp_path / "run")
    run = simulated_run.run(spec)
    sizes = [e["size"] for e in run.recorded.events if e["kind"] == "ScaleDecided"]
    assert max(sizes) > 3
    assert sizes[-1] == 3 or 3 in sizes[sizes.index(max(sizes)) :]
    assert len(sizes) == 8 * 5
    assert account(run.evidence).unaccounted_pkts == 0
    assert run.evidence.moved_flows_ns == ()
    assert replay(path) is None


# ------------------------------------------------------------------------------------------------------- the policies


def test_a_draining_node_holds_no_slots_and_is_removed_only_when_it_leaves() -> None:
    policy = make_balancer(BalancerSpec(policy="round-robin"), NODES, random.Random(1), absent=("n4",))
    assert "n4" not in policy.slots
    (dealt,) = policy.handle(stages(n1=DRAINING, n2=SERVING, n3=SERVING, n4=ABSENT), 0)
    assert isinstance(dealt, SetSlots)
    assert set(dealt.slots) == {"n2", "n3"}
    assert policy.handle(stages(n1=LEAVING, n2=SERVING, n3=SERVING, n4=JOINING), 1) == [RemoveNode(node="n1")]
    restored, dealt, *rest = policy.handle(stages(n1=ABSENT, n2=SERVING, n3=SERVING, n4=SERVING), 2)
    assert (restored, rest) == (RestoreNode(node="n4"), [])
    assert isinstance(dealt, SetSlots)
    assert set(dealt.slots) == {"n2", "n3", "n4"}


def test_draining_nodes_serve_where_nobody_else_is_left() -> None:
    policy = make_balancer(BalancerSpec(policy="round-robin"), NODES[:2], random.Random(1))
    policy.handle(stages(n1=DRAINING, n2=SERVING), 0)
    policy.handle(notified(NODES[:2]), 0)
    for at_ns in range(0, NS_PER_S, NS_PER_S // 10):  # n2 is silent for longer than it may be
        policy.handle(notified(NODES[:1]), at_ns)
    assert set(policy.slots) == {"n1"}


def test_a_suspicion_of_a_member_that_left_by_order_is_void() -> None:
    agreement = Agreement(NODES, 3)
    one = np.array([0], dtype=np.int64)
    for monitor in ("n2", "n3"):
        agreement.hear(SuspicionsHeard(monitor=monitor, nodes=("n1",), incarnation=one, silent=one + 1), NS_PER_MS)
    agreement.announce(("n2", "n3", "n4"), 2 * NS_PER_MS)
    report = SuspicionsHeard(monitor="n4", nodes=("n1",), incarnation=one, silent=one + 1)
    assert agreement.hear(report, 3 * NS_PER_MS) == []
    assert agreement.dead == frozenset()


# ------------------------------------------------------------------------------------------------- what is announced


def test_what_the_orchestrator_announces_is_heard_and_nobody_else_may_announce() -> None:
    nodes = ("n1", "n2", ORCHESTRATOR)
    columns = {"nodes": ("n1", "n2"), "stage": np.array([2, 3], dtype=np.int64)}
    for owner, heard in ((ORCHESTRATOR, (StagesAnnounced(**columns),)), ("n2", ())):
        sender, receiver = Codec(sealed.ring(owner, nodes), lambda: 1), Codec(sealed.ring("n1", nodes), lambda: 1)
        ((_, datagram),) = sender.datagrams((SendStages(to=("n1",), **columns),))
        assert receiver.decode(datagram) == heard


def test_an_unknown_stage_is_refused() -> None:
    nodes = ("n1", ORCHESTRATOR)
    sender = Codec(sealed.ring(ORCHESTRATOR, nodes), lambda: 1)
    receiver = Codec(sealed.ring(BALANCER, nodes), lambda: 1)
    sent = SendStages(to=(BALANCER,), nodes=("n1",), stage=np.array([5], dtype=np.int64))
    assert receiver.decode(sender.datagrams((sent,))[0][1]) == ()
    assert receiver.ignored["malformed"] == 1


# ---------------------------------------------------------------------------------------------------- what is refused

FILE = """version: 1
name: refused
duration: 4s
topology: {{family: {family}, nodes: 3, clients: 1}}
buffer: {{deflect: {deflect}}}
autoscaler: {{{autoscaler}}}
traffic:
  - {{name: base, from: c1, shape: poisson, rate: 1Mbit}}
faults: [{faults}]
"""


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"autoscaler": "policy: hpa, min: 5, max: 4"},
            r"x.yaml:6: autoscaler.min: it is more than autoscaler.max \(4\)",
        ),
        (
            {"autoscaler": "policy: hpa, max: 2, min: 1"},
            r"x.yaml:4: topology.nodes: 3 nodes at the start are not within",
        ),
        ({"autoscaler": "policy: hpa, min: 4"}, r"x.yaml:4: topology.nodes: 3 nodes at the start are not within"),
        ({"autoscaler": "capacity: 0Mbit"}, r"x.yaml:6: autoscaler.capacity: .*more than"),
        ({"autoscaler": "period: 0s"}, r"x.yaml:6: autoscaler.period: .*at least 50ms"),
        ({"autoscaler": "boot: -1s"}, r"x.yaml:6: autoscaler.boot: "),
        ({"autoscaler": "polcy: hpa"}, r"x.yaml:6: autoscaler.polcy: unknown key; did you mean 'policy'"),
        ({"autoscaler": "policy: predictve"}, r"x.yaml:6: autoscaler.policy: .*did you mean 'predictive'"),
        ({"autoscaler": "max: 1001"}, r"x.yaml:6: autoscaler.max: .*at most 1000"),
        ({"faults": "{at: 1s, add: n101}"}, r"x.yaml:9: faults.0.add: there is no node 'n101'; autoscaler.max is 100"),
        ({"faults": "{at: 1s, add: n2}"}, r"x.yaml:9: faults.0.add: n2 is in service at that time"),
        ({"faults": "{at: 1s, drain: n9}"}, r"x.yaml:9: faults.0.drain: there is no node 'n9'"),
        ({"faults": "{at: 1s, drain: n1}, {at: 2s, drain: n1}"}, r"x.yaml:9: faults.1.drain: n1 is out of service"),
        ({"faults": "{at: 9s, drain: n1}"}, r"x.yaml:9: faults.0.at: it is after the end of the run"),
        (
            {"faults": ", ".join(f"{{at: 1s, drain: n{k}}}" for k in (1, 2, 3))},
            r"x.yaml:9: faults.2.drain: no node would be in service",
        ),
        ({"faults": "{at: 1s, drain: n1}", "deflect": "true"}, r"x.yaml:5: buffer.deflect: "),
        (
            {"faults": "{at: 1s, drain: n1}", "family": "cascade", "deflect": "true"},
            r"x.yaml:4: topology.family: .*added nor drained",
        ),
    ],
)
def test_what_cannot_be_is_refused_by_name_and_line(tmp_path: Path, changed: dict[str, str], message: str) -> None:
    given = {"family": "cluster", "deflect": "false", "autoscaler": "", "faults": "", **changed}
    path = tmp_path / "x.yaml"
    path.write_text(FILE.format(**given), encoding="utf-8")
    with pytest.raises(InputError, match=message):
        load(path)


def test_the_network_has_the_nodes_that_may_be_added() -> None:
    assert scenario({"at": "1s", "add": "n6"}).topology.spare == 3
    assert scenario().topology.spare == 0
    scaled = scenario(autoscaler={"policy": "hpa", "max": 10})
    assert scaled.topology.spare == 7
    assert Scenario.model_validate(scaled.resolved()) == scaled
