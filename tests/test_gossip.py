"""The mesh that gossips: news reaches everybody, living nodes stay, and what is sent does not grow with the mesh."""

from __future__ import annotations

import random
from functools import partial

import numpy as np
import pytest

from testbed.bench.gossip import World
from testbed.emulation import bounds as emulation
from testbed.policies.gossip import GAP_NS, RETELLING, ROWS, GossipMembership, rounds_of
from testbed.policies.monitors import Rings
from testbed.records.events import (
    DeadlineReached,
    HeartbeatHeard,
    RumoursHeard,
    SendHeartbeat,
    SendRumours,
)
from testbed.scenario.mesh import MeshSpec
from testbed.scenario.model import Scenario
from testbed.simulation import bounds as simulation
from testbed.topologies import describe
from testbed.units import NS_PER_MS

SPEC = MeshSpec.model_validate({"dissemination": "gossip"})


def member(name: str = "n1", count: int = 40, **given: int) -> GossipMembership:
    made = GossipMembership(name, tuple(f"n{i + 1}" for i in range(count)), SPEC, random.Random(1), **given)
    made.handle(DeadlineReached(), 0)
    return made


def rumours(dead: int, incarnation: int, *nodes: str) -> RumoursHeard:
    count = len(nodes)
    return RumoursHeard(nodes=nodes, incarnation=np.full(count, incarnation), dead=np.full(count, dead))


@pytest.mark.parametrize("loss_ratio", [0.0, 0.05])
def test_everybody_learns_of_a_crash_within_100_ms_and_nobody_else_is_taken_for_dead(loss_ratio: float) -> None:
    world = World(60, loss_ratio=loss_ratio)
    world.at(300, lambda: world.mesh.kill("n7"))
    world.run(500)
    assert [node for _, node in world.removed] == ["n7"]
    assert world.taken_for_dead == {"n7"}
    assert len(world.died) == 59
    assert max(at_ms for at_ms, *_ in (*world.removed, *world.died)) <= 400


def test_two_nodes_one_of_which_monitored_the_other_are_both_found_dead() -> None:
    world = World(30)
    other = Rings(world.names, SPEC.watchers).monitors_of("n7")[0]
    for node in ("n7", other):
        world.at(300, partial(world.mesh.kill, node))
    world.run(600)
    assert {node for _, node in world.removed} == {"n7", other}


def test_a_calm_mesh_sends_nothing_but_heartbeats_at_any_size() -> None:
    rates = []
    for count in (20, 320):
        world = World(count)
        world.run(400)
        rates.append(world.mesh.sent / count)
    assert rates[0] == pytest.approx(rates[1], rel=0.05)
    assert rates[0] > 0


def test_a_node_that_begins_again_is_back_everywhere() -> None:
    world = World(30)
    world.at(300, lambda: world.mesh.kill("n7"))
    world.at(600, lambda: world.mesh.restart("n7"))
    world.run(1000)
    assert [node for _, node in world.removed] == [node for _, node in world.returned] == ["n7"]
    assert all("n7" not in one.policy.dead for one in world.mesh._members.values())


def test_of_a_divided_mesh_one_side_stays_and_all_are_back_when_it_is_whole() -> None:
    world = World(40)
    halves = world.names[:20], world.names[20:]
    world.at(300, lambda: world.mesh.divide(halves, apart=True))
    world.at(800, lambda: world.mesh.divide(halves, apart=False))
    world.run(1500)
    sides = [len({node for _, node in world.removed} & set(half)) for half in halves]
    assert max(sides) == 20
    assert min(sides) <= 2
    assert {node for _, node in world.removed} == {node for _, node in world.returned}


def test_a_node_refutes_its_death_by_a_higher_incarnation() -> None:
    node = member(incarnation=5)
    (beat,) = node.handle(rumours(1, 5, "n1"), NS_PER_MS)
    assert isinstance(beat, SendHeartbeat)
    assert beat.incarnation == 6
    assert node.handle(rumours(1, 5, "n1"), 2 * NS_PER_MS) == []  # it is about an earlier one


def test_a_node_that_is_heard_in_a_dead_incarnation_is_told() -> None:
    node = member()
    node.handle(rumours(1, 5, "n9"), NS_PER_MS)
    (told,) = node.handle(HeartbeatHeard(node="n9", incarnation=5), 2 * NS_PER_MS)
    assert isinstance(told, SendRumours)
    assert (told.to, told.nodes, told.incarnation.tolist(), told.dead.tolist()) == (("n9",), ("n9",), [5], [1])
    assert node.handle(HeartbeatHeard(node="n9", incarnation=6), 3 * NS_PER_MS) == []


def test_later_incarnations_count_and_of_one_its_death() -> None:
    node = member()
    for dead, incarnation, expected in ((1, 5, {"n9"}), (0, 5, {"n9"}), (0, 6, set()), (1, 5, set()), (1, 6, {"n9"})):
        node.handle(rumours(dead, incarnation, "n9"), NS_PER_MS)
        assert node.dead == expected


def test_a_rumour_is_passed_on_in_so_many_rounds_and_never_again() -> None:
    node, sent, now_ns = member(), [], NS_PER_MS
    actions = node.handle(rumours(1, 5, "n9"), now_ns)
    for _ in range(12):
        sent += [action for action in actions if isinstance(action, SendRumours)]
        now_ns += GAP_NS
        actions = node.handle(DeadlineReached(), now_ns)
    actions = node.handle(rumours(1, 5, "n9"), now_ns)
    assert not any(isinstance(action, SendRumours) for action in actions)
    assert len(sent) == rounds_of(40, SPEC.fanout)
    assert all(len(set(action.to)) == SPEC.fanout and "n1" not in action.to for action in sent)


def test_of_many_rumours_each_message_holds_so_many_the_least_sent_first() -> None:
    node = member(count=200)
    first = node.handle(rumours(1, 5, *(f"n{i}" for i in range(2, 2 + ROWS + 1))), NS_PER_MS)[-1]
    second = node.handle(DeadlineReached(), NS_PER_MS + GAP_NS)[-1]
    assert isinstance(first, SendRumours)
    assert isinstance(second, SendRumours)
    assert len(first.nodes) == len(second.nodes) == ROWS
    assert set(second.nodes) - set(first.nodes) == {f"n{2 + ROWS}"}


def test_repetitions_grow_with_the_logarithm_of_the_members() -> None:
    assert [rounds_of(count, 5) for count in (1, 100, 10_000)] == [1, 2, 4]
    assert RETELLING * np.log(10_000) <= 5 * rounds_of(10_000, 5)


@pytest.mark.parametrize(("count", "monitors"), [(1, 0), (2, 1), (3, 2), (50, 3)])
def test_in_rings_each_node_has_so_many_monitors_and_monitors_about_as_many(count: int, monitors: int) -> None:
    names = tuple(f"n{i + 1}" for i in range(count))
    rings = Rings(names, 3)
    for name in names:
        assert len(set(rings.monitors_of(name)) - {name}) == len(rings.monitors_of(name)) == monitors
        assert set(rings.monitored_by(name)) == {other for other in names if name in rings.monitors_of(other)}
    assert max(len(rings.monitored_by(name)) for name in names) <= monitors + 1


def test_more_nodes_than_a_full_mesh_is_simulated_with_may_fail_in_one_that_gossips() -> None:
    def refusals(dissemination: str) -> list[str]:
        scenario = Scenario.model_validate(
            {
                **{"version": 1, "name": "x", "duration": "1s", "mesh": {"dissemination": dissemination}},
                "topology": {"family": "cluster", "nodes": 400},
                "traffic": [{"name": "a", "from": "c1", "shape": "constant", "rate": "1Mbit"}],
                "faults": [{"at": "500ms", "crash": "n1"}],
            }
        )
        checks = (simulation.check, emulation.check)
        network = describe(scenario.topology)
        return [str(complaint.path[0]) for check in checks for complaint in check(scenario, network)]

    assert refusals("full") == ["faults"]
    assert refusals("gossip") == ["mesh"]
