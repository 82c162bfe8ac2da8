"""Faults in virtual time: noticed by the mesh, worked around by the balancer, paid for and accounted."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from testbed.errors import InputError
from testbed.results.accounting import account
from testbed.results.failover import FaultLines, failover_section
from testbed.scenario.model import Scenario
from testbed.simulation.link_loss import LinkLoss
from testbed.simulation.network_model import NetworkModel
from testbed.trials.replay import replay
from testbed.units import NS_PER_MS, NS_PER_S
from tests import simulated_run
from tests.simulated_run import Simulated

NODES = 5


def steady(*faults: dict[str, Any], nodes: int = NODES, duration: str = "3s", **buffer: Any) -> Scenario:
    """A steady load that no node has trouble with, so that all that is lost is lost by the faults."""
    sources = [
        {"name": name, "from": client, "shape": shape, "rate": f"{4 * nodes}Mbit", "flows": 20 * nodes}
        for name, client, shape in (("even", "c1", "constant"), ("uneven", "c2", "poisson"))
    ]
    return Scenario.model_validate(
        {
            **{"version": 1, "name": "steady", "duration": duration, "traffic": sources, "faults": list(faults)},
            "topology": {"family": "cluster", "nodes": nodes, "clients": 2, "node_rate": "40Mbit"},
            "buffer": {"policy": "reactive", "min": "0.5MB", "max": "4MB", **buffer},
        }
    )


def failover(run: Simulated) -> dict[str, Any]:
    lines = FaultLines()
    for _ in lines.passing(run.recorded.events):
        pass
    return failover_section(lines.lines) or {}


def kinds(run: Simulated, *wanted: str) -> list[tuple[str, str]]:
    return [(e["kind"], e["node"]) for e in run.recorded.events if e["kind"] in wanted]


def lost_pkts(run: Simulated) -> int:
    books = account(run.evidence)
    assert books.unaccounted_pkts == 0
    assert books.sent_pkts == len(run.plan)
    assert books.dropped_pkts["buffer"] == 0
    return books.dropped_pkts["fault"]


def test_a_crash_is_noticed_by_the_mesh_and_its_flows_go_elsewhere() -> None:
    run = simulated_run.run(steady({"at": "1s", "crash": "n2"}))
    section = failover(run)
    assert 45 <= section["detected_ms"]["max"] <= 60  # five and a half heartbeats, less the age of the last one
    assert section["recovered_ms"]["max"] <= section["rerouted_ms"]["max"]
    assert section["false_suspicions"] == 0
    assert lost_pkts(run) == section["lost_packets"] > 0
    assert run.evidence.moved_flows_ns == ()
    crashed = next(node for node in run.evidence.nodes if node.node == "n2")
    assert crashed.crashes == 1
    assert crashed.absent_ns == 2 * NS_PER_S
    samples = zip(run.recorded.column("t_ns"), run.recorded.column("node"), strict=True)
    assert max(t_ns for t_ns, node in samples if node == "n2") <= NS_PER_S


def test_what_waits_at_a_node_that_crashes_is_lost() -> None:
    """A node behind a slow link holds a full buffer when it crashes; all of it is in the books of the fault."""
    overload = {"name": "overload", "from": "c1", "shape": "constant", "rate": "60Mbit", "flows": 200}
    spec = Scenario.model_validate(
        {
            **{"version": 1, "name": "full", "duration": "2s", "traffic": [overload]},
            "topology": {"family": "cluster", "nodes": 3, "clients": 1, "node_rate": "10Mbit"},
            "buffer": {"policy": "static-min", "min": "0.5MB"},
            "balancer": {"policy": "round-robin"},
            "faults": [{"at": "1s", "crash": "n1"}],
        }
    )
    run = simulated_run.run(spec)
    crashed = run.evidence.nodes[0]
    queued = crashed.arrived_pkts - crashed.dropped_pkts - crashed.delivered_pkts
    assert 499 <= queued <= 500
    assert account(run.evidence).unaccounted_pkts == 0
    assert crashed.delay is not None
    assert crashed.delay.total == crashed.delivered_pkts


def test_the_switch_falls_back_before_the_balancer_hears_of_a_port() -> None:
    model = NetworkModel()
    run = simulated_run.run(steady({"at": "1s", "link_down": "s1-n3"}), model=model)
    section = failover(run)
    assert section["detected_ms"]["max"] == (model.port_ns + model.port_report_ns) / NS_PER_MS
    assert section["recovered_ms"]["max"] <= model.port_ns / NS_PER_MS
    assert lost_pkts(run) == section["lost_packets"] > 0
    lost = next(event for event in run.recorded.events if event["kind"] == "FaultLosses")
    assert lost["moved_flows"] == lost["flows"] > 0


def test_a_node_that_restarts_serves_again_with_a_fresh_brain() -> None:
    run = simulated_run.run(steady({"at": "1s", "crash": "n2"}, {"at": "1500ms", "restart": "n2"}))
    assert kinds(run, "NodeLeft", "NodeJoined", "RemoveNode", "RestoreNode") == [
        ("NodeLeft", "n2"),  # the pool takes its memory back
        ("NodeLeft", "n2"),
        ("RemoveNode", "n2"),
        ("NodeJoined", "n2"),  # a fresh brain
        ("NodeJoined", "n2"),
        ("RestoreNode", "n2"),
    ]
    assert lost_pkts(run) == failover(run)["lost_packets"] > 0
    node = next(node for node in run.evidence.nodes if node.node == "n2")
    assert node.absent_ns == NS_PER_S // 2
    ticks = [t for t, n in zip(run.recorded.column("t_ns"), run.recorded.column("node"), strict=True) if n == "n2"]
    assert len(ticks) == len(set(ticks))
    assert max(after - before for before, after in itertools.pairwise(ticks)) <= 510 * NS_PER_MS


def test_a_crash_shorter_than_a_tick_leaves_one_agent() -> None:
    run = simulated_run.run(steady({"at": "1003ms", "crash": "n2", "for": "2ms"}))
    ticks = [t for t, n in zip(run.recorded.column("t_ns"), run.recorded.column("node"), strict=True) if n == "n2"]
    assert {after - before for before, after in itertools.pairwise(ticks)} == {10 * NS_PER_MS}


def test_a_link_that_comes_up_again_is_used_again() -> None:
    run = simulated_run.run(steady({"at": "1s", "link_down": "s1-n3", "for": "200ms"}))
    assert kinds(run, "NodeLeft", "NodeJoined") == [("NodeLeft", "n3"), ("NodeJoined", "n3")]
    # A flow that says nothing between its lost packet and the return of its node has a gap there, not a loss elsewhere.
    assert 0 < failover(run)["lost_packets"] <= lost_pkts(run)


@pytest.mark.parametrize("name", ["pause", "crash", "link_down", "partition"])
def test_a_run_with_faults_replays(name: str, tmp_path: Path) -> None:
    target = {"partition": [["n1"], ["n2", "n3", "n4", "n5"]], "link_down": "s1-n1"}.get(name, "n1")
    spec = steady({"at": "1s", name: target, "for": "300ms"}, duration="2s")
    assert replay(simulated_run.write(spec, tmp_path / "run")) is None


def test_a_link_that_loses_packets_loses_the_ones_the_wire_would() -> None:
    run = simulated_run.run(steady({"at": "1s", "loss": "s1-n2", "ratio": 0.05, "for": "1s"}))
    healed = next(event for event in run.recorded.events if event["kind"] == "FaultHealed")
    assert lost_pkts(run) == healed["lost_pkts"]
    assert 0.03 * healed["met_pkts"] < healed["lost_pkts"] < 0.07 * healed["met_pkts"]


def test_the_draws_of_a_lossy_link_are_those_of_the_program() -> None:
    """The n-th draw by hand, in the integers of C, however the packets are cut into steps."""
    seed, ratio, mask = 0xDEADBEEFCAFE, 0.25, 2**64 - 1

    def lost(n: int) -> bool:
        z = (seed + n * 0x9E3779B97F4A7C15) & mask
        z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ z >> 27) * 0x94D049BB133111EB) & mask
        return (z ^ z >> 31) >> 32 < round(ratio * 2**32)

    link = LinkLoss()
    link.set(ratio, seed)
    drawn = [bool(found) for count in (1, 0, 30, 69) for found in link.draw(count)]
    assert drawn == [lost(n) for n in range(1, 101)]
    assert (link.drawn_pkts, link.lost_pkts) == (100, sum(drawn))


@pytest.mark.parametrize(
    ("fault", "deflect", "said"),
    [
        ({"at": "1s", "cpu_hog": 2, "for": "1s"}, False, "CPU load has no effect"),
        ({"at": "1s", "loss": "s1-n1", "ratio": 0.1, "for": "1s"}, True, "with buffer.deflect"),
    ],
)
def test_what_is_not_modelled_is_refused(fault: dict[str, Any], deflect: bool, said: str) -> None:
    with pytest.raises(InputError, match=said):
        simulated_run.run(steady(fault, deflect=deflect))


@pytest.mark.parametrize("turned", [False, True])
def test_an_equal_partition_has_the_same_victims_in_whatever_order_it_is_written(turned: bool) -> None:
    groups = [["n1", "n4"], ["n2", "n3"]]
    run = simulated_run.run(steady({"at": "1s", "partition": groups[::-1] if turned else groups, "for": "1s"}, nodes=4))
    section = failover(run)
    assert sorted(section["faults"][0]["nodes"]) == ["n2", "n3"]
    assert sorted(node for kind, node in kinds(run, "RemoveNode")) == ["n2", "n3"]
    assert section["false_suspicions"] == 0
    assert run.evidence.moved_flows_ns == ()


def test_a_partition_costs_the_smaller_side_its_flows_and_no_packet() -> None:
    groups = [["n1"], ["n2", "n3", "n4", "n5"]]
    run = simulated_run.run(steady({"at": "1s", "partition": groups, "for": "500ms"}))
    assert lost_pkts(run) == 0
    assert set(kinds(run, "NodeLeft")) == {("NodeLeft", "n1")}
    assert kinds(run, "NodeJoined") == [("NodeJoined", "n1")]
    assert failover(run)["false_suspicions"] == 0


@pytest.mark.parametrize(("length", "left"), [("30ms", False), ("300ms", True)])
def test_a_pause_is_taken_for_a_failure_only_when_it_is_long(length: str, left: bool) -> None:
    run = simulated_run.run(steady({"at": "1s", "pause": "n4", "for": length}))
    assert lost_pkts(run) == 0
    assert set(kinds(run, "NodeLeft", "NodeJoined")) == ({("NodeLeft", "n4"), ("NodeJoined", "n4")} if left else set())
    ticks = [t for t, n in zip(run.recorded.column("t_ns"), run.recorded.column("node"), strict=True) if n == "n4"]
    gaps = [after - before for before, after in itertools.pairwise(ticks)]
    assert max(gaps) > int(length.removesuffix("ms")) * NS_PER_MS - 10 * NS_PER_MS
    assert ticks[-1] - ticks[-2] == 10 * NS_PER_MS  # back on the grid


def test_a_dead_balancer_loses_nothing_and_says_nothing() -> None:
    run = simulated_run.run(steady({"at": "1s", "kill": "controller"}))
    assert lost_pkts(run) == 0
    heard = [e["t_ns"] for e in run.recorded.events if e.get("policy") == "balancer" and e["kind"] == "NodesNotified"]
    assert max(heard) <= NS_PER_S


def test_without_the_balancer_a_crashed_node_swallows_its_flows_to_the_end() -> None:
    spec = steady({"at": "1s", "kill": "controller"}, {"at": "1500ms", "crash": "n1"})
    run = simulated_run.run(spec)
    assert ("MemberDied", "n1") in kinds(run, "MemberDied")  # the mesh knows
    assert lost_pkts(run) > 0.05 * len(run.plan)  # about a fifth of the flows for half of the time


def test_lost_messages_alone_make_nobody_dead() -> None:
    """Six heartbeats in a row must be lost by two monitors; a tenth of all messages is far from that."""
    spec = steady({"at": "2900ms", "kill": "controller"})
    run = simulated_run.run(spec, model=NetworkModel(message_loss_ratio=0.1))
    assert kinds(run, "NodeLeft", "MemberDied") == []


def test_a_mesh_in_which_some_watch_nobody_is_simulated_as_any_other() -> None:
    ran = simulated_run.run(steady({"at": "0.2s", "crash": "n2"}, nodes=16, duration="0.5s"))
    heard = [line for line in ran.recorded.events if line["kind"] == "MemberDied"]
    assert {line["node"] for line in heard} == {"n2"}


def test_without_faults_there_is_no_mesh() -> None:
    run = simulated_run.run(steady(duration="300ms"))
    assert not any("mesh" in str(event.get("policy")) for event in run.recorded.events)


def test_a_fault_shifts_no_draw_of_another_node() -> None:
    """Before the fault, a run with it and one with another fault say the same."""
    early = [
        [e for e in simulated_run.run(steady(fault)).recorded.events if e["t_ns"] < NS_PER_S and "policy" in e]
        for fault in ({"at": "1s", "kill": "controller"}, {"at": "2s", "kill": "controller"})
    ]
    assert early[0] == early[1]


def test_a_mesh_beyond_what_is_simulated_message_by_message_is_refused() -> None:
    with pytest.raises(InputError, match="faults: with 301 nodes"):
        simulated_run.run(steady({"at": "1s", "crash": "n2"}, nodes=301))


def test_a_standby_takes_over_and_hears_what_came_in_meanwhile() -> None:
    spec = steady({"at": "1s", "kill": "controller"}, {"at": "1s", "link_down": "s1-n1"})
    spec = spec.model_copy(update={"controller": spec.controller.model_copy(update={"standby": True})})
    model = NetworkModel()
    run = simulated_run.run(spec, model=model)
    assert failover(run)["takeover_ms"]["max"] == model.takeover_ns / NS_PER_MS
    (left,) = [event["t_ns"] for event in run.recorded.events if event["kind"] == "NodeLeft"]
    assert left == NS_PER_S + model.takeover_ns  # the port went down while no controller was active
