"""The mesh in virtual time: who is found dead, how fast, and who must not be."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest

from testbed.files.event_records import from_record
from testbed.policies.agreement import DISPUTE_NS, HOLD_NS, MEMORY_NS, STALE_NS, Agreement
from testbed.policies.base import replay
from testbed.policies.membership import BALANCER, Membership
from testbed.policies.monitors import monitored_by, monitors_of
from testbed.policies.sharing import FULL_SYNC_MEMBERS, GOSSIP_ROWS
from testbed.records.events import (
    Action,
    DeadlineReached,
    Event,
    HeartbeatHeard,
    NodeJoined,
    NodeLeft,
    SendHeartbeat,
    SendStates,
    SendSuspicions,
    StatesHeard,
    SuspicionsHeard,
)
from testbed.scenario.mesh import MeshSpec
from testbed.units import NS_PER_MS, NS_PER_S

SPEC = MeshSpec.model_validate({})
Verdict = tuple[int, NodeLeft | NodeJoined]


@dataclass
class World:
    """Members on a lossy network, the balancer's ear, and what happens to them."""

    count: int
    seed: int = 0
    spec: MeshSpec = SPEC
    loss: float = 0.0
    lateness_ns: int = 0  # a wake-up is late by up to this
    cut: Callable[[str, str, int], bool] = lambda _a, _b, _t: False
    pauses: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    crashes: dict[str, int] = field(default_factory=dict)
    restarts: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.names = tuple(f"n{i + 1}" for i in range(self.count))
        self.rng = random.Random(self.seed)
        self.members = {name: Membership(name, self.names, self.spec, random.Random(1)) for name in self.names}
        self.detector = Agreement(self.names, self.spec.watchers, self.spec.sync_interval_ns)
        self.verdicts: list[Verdict] = []
        self.history: dict[str, list[tuple[int, Event]]] = {name: [] for name in self.names}
        self.answers: dict[str, list[tuple[int, Action]]] = {name: [] for name in self.names}
        self.silences: dict[str, set[frozenset[str]]] = {name: set() for name in self.names}
        self._queue: list[tuple[int, int, str, Event]] = []
        self._serial = 0
        self._armed: dict[str, int] = {}

    def run(self, until_ns: int) -> list[Verdict]:
        """Return what the balancer was led to conclude."""
        for name in self.names:
            self._post(self.rng.randrange(self.spec.heartbeat_ns), name, DeadlineReached())
        for name, at_ns in self.restarts.items():
            self._post(at_ns, name, DeadlineReached())
        while self._queue and self._queue[0][0] <= until_ns:
            now_ns, _, name, event = heapq.heappop(self._queue)
            self._happen(now_ns, name, event)
        return self.verdicts

    def _happen(self, now_ns: int, name: str, event: Event) -> None:
        if name == BALANCER:
            found = (
                self.detector.hear(event, now_ns)
                if isinstance(event, SuspicionsHeard)
                else self.detector.conclude(now_ns)
            )
            self.verdicts += [(now_ns, verdict) for verdict in found]
            self._arm(BALANCER, self.detector.next_deadline_ns(), now_ns)
            return
        if self._gone(name, now_ns):
            return
        if name in self.restarts and now_ns == self.restarts[name]:
            self.members[name] = Membership(name, self.names, self.spec, random.Random(1), incarnation=now_ns)
            self._armed.pop(name, None)
        resumes_ns = next((end for start, end in self.pauses.get(name, []) if start <= now_ns < end), None)
        if resumes_ns is not None:  # a deadline waits behind the datagrams that came meanwhile
            self._post(resumes_ns + isinstance(event, DeadlineReached), name, event)
            return
        if isinstance(event, DeadlineReached) and (self.members[name].next_deadline_ns() or 0) > now_ns:
            return
        actions = self.members[name].handle(event, now_ns)
        self.history[name].append((now_ns, event))
        self.silences[name].add(self.members[name].silent)
        self.answers[name] += [(now_ns, action) for action in actions]
        for action in actions:
            self._carry_out(name, action, now_ns)
        self._arm(name, self.members[name].next_deadline_ns(), now_ns)

    def _gone(self, name: str, now_ns: int) -> bool:
        return self.crashes.get(name, 2**62) <= now_ns < self.restarts.get(name, 2**62)

    def _arm(self, name: str, due_ns: int | None, now_ns: int) -> None:
        if due_ns is not None and self._armed.get(name) != due_ns:
            self._armed[name] = due_ns
            late_ns = self.rng.randrange(self.lateness_ns + 1)
            self._post(max(due_ns + late_ns, now_ns + 1), name, DeadlineReached())

    def _carry_out(self, sender: str, action: Action, now_ns: int) -> None:
        event: Event
        if isinstance(action, SendHeartbeat):
            event = HeartbeatHeard(node=sender, incarnation=action.incarnation)
        elif isinstance(action, SendSuspicions):
            event = SuspicionsHeard(
                monitor=sender, nodes=action.nodes, incarnation=action.incarnation, silent=action.silent
            )
        else:
            assert isinstance(action, SendStates)
            event = from_record({**action.to_record(), "kind": "StatesHeard"})  # type: ignore[assignment]
        for to in action.to:
            if self.rng.random() >= self.loss and not self.cut(sender, to, now_ns):
                self._post(now_ns + self.rng.randrange(30_000, 300_000), to, event)

    def _post(self, at_ns: int, name: str, event: Event) -> None:
        self._serial += 1
        heapq.heappush(self._queue, (at_ns, self._serial, name, event))


def departures(verdicts: list[Verdict]) -> list[tuple[int, str]]:
    return [(t_ns, verdict.node) for t_ns, verdict in verdicts if isinstance(verdict, NodeLeft)]


def returns(verdicts: list[Verdict]) -> list[tuple[int, str]]:
    return [(t_ns, verdict.node) for t_ns, verdict in verdicts if isinstance(verdict, NodeJoined)]


# ------------------------------------------------------------------------------------------------------- monitors


def test_watchers_are_others_and_consistent() -> None:
    members = tuple(f"n{i}" for i in range(50))
    for node in members:
        monitors = monitors_of(node, members, 3)
        assert len(set(monitors)) == 3
        assert node not in monitors
        without = tuple(member for member in members if member != monitors[0])
        assert monitors_of(node, without, 3)[:2] == monitors[1:]


def test_watching_is_spread() -> None:
    members = tuple(f"n{i}" for i in range(100))
    loads = [len(monitored_by(member, members, 3)) for member in members]
    assert sum(loads) == 300
    assert max(loads) <= 12


# ------------------------------------------------------------------------------------------------------ detection


@pytest.mark.parametrize("loss", [0.0, 0.05])
@pytest.mark.parametrize("count", [3, 6])
def test_silent_crash_is_agreed_on_within_100_ms_whatever_the_phase(count: int, loss: float) -> None:
    took_ns = []
    for phase in range(40):
        crash_ns = 600 * NS_PER_MS + phase * SPEC.heartbeat_ns // 20
        world = World(count, seed=phase, loss=loss, lateness_ns=NS_PER_MS, crashes={"n2": crash_ns})
        left = departures(world.run(900 * NS_PER_MS))
        assert [node for _, node in left] == ["n2"]
        took_ns.append(left[0][0] - crash_ns)
    assert max(took_ns) <= (60 if not loss else 100) * NS_PER_MS
    assert np.median(took_ns) <= 55 * NS_PER_MS
    if not loss:
        assert min(took_ns) >= SPEC.misses * SPEC.heartbeat_ns - SPEC.heartbeat_ns // 2


def test_members_conclude_the_same_as_the_balancer() -> None:
    world = World(4, crashes={"n3": 500 * NS_PER_MS})
    world.run(800 * NS_PER_MS)
    assert all(world.members[name].dead == {"n3"} for name in ("n1", "n2", "n4"))
    assert world.members["n1"].conclusions() == [NodeLeft(node="n3", reason="mesh")]
    assert world.members["n1"].conclusions() == []


@pytest.mark.parametrize("count", [2, 3])
def test_all_but_one_crash_at_once(count: int) -> None:
    victims = {f"n{i}": 500 * NS_PER_MS for i in range(2, count + 1)}
    left = departures(World(count, crashes=victims).run(2 * NS_PER_S))
    assert sorted(node for _, node in left) == sorted(victims)
    assert max(t_ns for t_ns, _ in left) <= 500 * NS_PER_MS + STALE_NS + 60 * NS_PER_MS


# ------------------------------------------------------------------------------------------------ false suspicion


@pytest.mark.parametrize("seed", range(4))
def test_pauses_below_40_ms_make_nobody_suspect(seed: int) -> None:
    rng = random.Random(seed)
    starts = [t * NS_PER_MS + rng.randrange(10 * NS_PER_MS) for t in range(300, 3000, 120)]
    pauses = {"n1": [(t, t + 40 * NS_PER_MS) for t in starts]}
    assert World(3, seed=seed, pauses=pauses).run(3 * NS_PER_S) == []


def test_late_wakeups_and_loss_make_nobody_suspect() -> None:
    world = World(5, seed=7, loss=0.03, lateness_ns=8 * NS_PER_MS)
    assert world.run(20 * NS_PER_S) == []


def test_a_monitor_that_was_stopped_suspects_itself_first() -> None:
    pauses = {"n1": [(500 * NS_PER_MS, 900 * NS_PER_MS)]}
    world = World(3, pauses=pauses)
    world.run(1500 * NS_PER_MS)
    said = [action for _, action in world.answers["n1"] if isinstance(action, SendSuspicions)]
    assert not any(action.silent.any() for action in said)


def test_a_monitor_that_was_stopped_notices_a_crash_as_fast_as_any_other() -> None:
    world = World(3, pauses={"n1": [(300 * NS_PER_MS, 600 * NS_PER_MS)]}, crashes={"n2": NS_PER_S})
    assert departures(world.run(1100 * NS_PER_MS))[-1][1] == "n2"
    assert world.members["n1"].silent == {"n2"}


def test_everything_stopped_at_once_is_no_crash() -> None:
    stop = [(500 * NS_PER_MS, 800 * NS_PER_MS)]
    assert World(3, pauses=dict.fromkeys(("n1", "n2", "n3"), stop)).run(2 * NS_PER_S) == []


# --------------------------------------------------------------------------------------- partitions and coming back


def test_minority_of_a_partition_has_no_say() -> None:
    def cut(a: str, b: str, t_ns: int) -> bool:
        return t_ns >= 500 * NS_PER_MS and BALANCER not in (a, b) and (a == "n1") != (b == "n1")

    world = World(3, cut=cut)
    assert [node for _, node in departures(world.run(3 * NS_PER_S))] == ["n1"]
    assert returns(world.verdicts) == []


def divided(count: int, minority: set[str], seed: int, until_ns: int = 2**62) -> World:
    """Return a world whose minority hears nothing of the others from 500 ms on."""

    def cut(a: str, b: str, t_ns: int) -> bool:
        return 500 * NS_PER_MS <= t_ns < until_ns and BALANCER not in (a, b) and (a in minority) != (b in minority)

    return World(count, seed=seed, cut=cut, lateness_ns=NS_PER_MS)


@pytest.mark.parametrize("seed", range(30))
def test_the_larger_side_of_a_divided_mesh_stays_and_the_smaller_leaves(seed: int) -> None:
    rng = random.Random(seed)
    count = rng.randrange(5, 10)
    minority = set(rng.sample([f"n{i + 1}" for i in range(count)], rng.randrange(2, (count + 1) // 2)))
    world = divided(count, minority, seed, until_ns=2 * NS_PER_S)
    left = departures(world.run(4 * NS_PER_S))
    assert {node for _, node in left} == minority
    assert max(t_ns for t_ns, _ in left) <= 500 * NS_PER_MS + 60 * NS_PER_MS + DISPUTE_NS + STALE_NS
    assert {node for _, node in returns(world.verdicts)} == minority


@pytest.mark.parametrize("seed", range(12))
def test_of_two_equal_sides_the_one_with_the_first_member_stays(seed: int) -> None:
    """Of the other side those leave whom somebody of the first watches: all, where there are four nodes."""
    rng = random.Random(seed)
    count = 2 * rng.randrange(2, 5)
    others = set(rng.sample([f"n{i + 1}" for i in range(1, count)], count // 2))
    left = {node for _, node in departures(divided(count, others, seed).run(3 * NS_PER_S))}
    assert left == others if count == 4 else left <= others


def test_a_late_monitor_does_not_make_its_side_the_smaller() -> None:
    """n2 has not reported lately; n1, which hears it, has: their side is as large as the other."""
    members = ("n1", "n2", "n3", "n4")
    detector = Agreement(members, 3)
    sides = {"n1": ("n2",), "n2": ("n1",), "n3": ("n4",), "n4": ("n3",)}
    for now_ns in range(0, 240 * NS_PER_MS, 60 * NS_PER_MS):
        for monitor in members:
            watched = tuple(m for m in members if m != monitor and monitor in monitors_of(m, members, 3))
            silent = [int(m not in sides[monitor]) for m in watched]
            if monitor != "n2" or now_ns == 0:
                detector.hear(
                    SuspicionsHeard(
                        monitor=monitor,
                        nodes=watched,
                        incarnation=np.ones(len(watched), np.int64),
                        silent=np.array(silent),
                    ),
                    now_ns,
                )
    detector.conclude(185 * NS_PER_MS)
    assert detector._larger_side(185 * NS_PER_MS) == {"n1", "n2"}


def test_a_crash_beside_a_stopped_monitor_is_settled_within_the_dispute() -> None:
    world = World(4, pauses={"n1": [(480 * NS_PER_MS, 530 * NS_PER_MS)]}, crashes={"n2": 500 * NS_PER_MS})
    left = departures(world.run(NS_PER_S))
    assert [node for _, node in left] == ["n2"]
    assert left[0][0] <= 500 * NS_PER_MS + 60 * NS_PER_MS + DISPUTE_NS


def test_two_nodes_cut_apart_do_not_both_leave() -> None:
    world = World(2, cut=lambda a, b, t: t >= 500 * NS_PER_MS and BALANCER not in (a, b))
    world.run(2 * NS_PER_S)
    assert len(world.detector.dead) == 1


def test_long_pause_leaves_once_refutes_and_returns_once() -> None:
    world = World(3, pauses={"n2": [(500 * NS_PER_MS, 700 * NS_PER_MS)]})
    verdicts = world.run(2 * NS_PER_S)
    assert [type(verdict) for _, verdict in verdicts] == [NodeLeft, NodeJoined]
    assert verdicts[1][0] - 700 * NS_PER_MS == pytest.approx(HOLD_NS, abs=20 * NS_PER_MS)
    assert world.members["n2"].incarnation > 0


def test_flapping_node_is_kept_out_longer_each_time() -> None:
    cycle = [(t * NS_PER_MS, (t + 150) * NS_PER_MS) for t in range(500, 6000, 300)]
    verdicts = World(3, pauses={"n2": cycle}).run(6 * NS_PER_S)
    assert {node for _, node in departures(verdicts)} == {"n2"}
    assert len(departures(verdicts)) <= 2 < len(cycle)


def test_departures_long_ago_are_forgotten() -> None:
    apart_ns = MEMORY_NS + NS_PER_S
    world = World(3, pauses={"n2": [(t, t + 100 * NS_PER_MS) for t in (NS_PER_S, NS_PER_S + apart_ns)]})
    verdicts = world.run(2 * NS_PER_S + apart_ns)
    away_ns = [back - left for (left, _), (back, _) in zip(departures(verdicts), returns(verdicts), strict=True)]
    assert len(away_ns) == 2
    assert abs(away_ns[1] - away_ns[0]) < 20 * NS_PER_MS


def test_restarted_node_returns_in_a_later_life() -> None:
    world = World(3, crashes={"n2": 500 * NS_PER_MS}, restarts={"n2": 1500 * NS_PER_MS})
    verdicts = world.run(3 * NS_PER_S)
    assert [type(verdict) for _, verdict in verdicts] == [NodeLeft, NodeJoined]
    assert 1500 * NS_PER_MS + HOLD_NS <= verdicts[1][0] <= 1650 * NS_PER_MS


# ---------------------------------------------------------------------------------- ages follow from the intervals

INTERVALS = ["10ms", "100ms", "240ms", "260ms", "1s", "3s"]


def mesh(**keys: object) -> MeshSpec:
    return MeshSpec.model_validate(keys)


def without_heartbeats(node: str, deaf: tuple[str, ...], spec: MeshSpec) -> World:
    """Return a world in which `deaf` hear `node` now and then only, for longer than it may be silent."""
    window_ns = 2 * spec.silence_ns + 77 * NS_PER_MS

    def cut(a: str, b: str, t_ns: int) -> bool:
        return a == node and b in deaf and t_ns // window_ns % 2 == 1

    return World(5, spec=spec, cut=cut, lateness_ns=NS_PER_MS)


@pytest.mark.parametrize("deaf", [1, 2])
@pytest.mark.parametrize("heartbeat", ["5ms", "10ms", "100ms"])
@pytest.mark.parametrize("sync", INTERVALS)
def test_monitors_that_do_not_hear_a_node_remove_none_that_another_hears(sync: str, heartbeat: str, deaf: int) -> None:
    spec = mesh(sync_interval=sync, heartbeat=heartbeat)
    names = tuple(f"n{i + 1}" for i in range(5))
    monitors = monitors_of("n2", names, 3)[:deaf]
    world = without_heartbeats("n2", monitors, spec)
    assert world.run(5 * spec.silence_ns + max(NS_PER_S, 2 * spec.sync_interval_ns)) == []
    assert any("n2" in members for members in world.silences[monitors[0]])
    assert all(member.conclusions() == [] for member in world.members.values())


@pytest.mark.parametrize("sync", INTERVALS)
def test_a_crash_is_found_whatever_the_interval(sync: str) -> None:
    """The monitors say so at once, not with the next sync."""
    world = World(4, spec=mesh(sync_interval=sync), crashes={"n2": 4 * NS_PER_S}, lateness_ns=NS_PER_MS)
    ((left_ns, node),) = departures(world.run(5 * NS_PER_S))
    assert node == "n2"
    assert left_ns - 4 * NS_PER_S <= 70 * NS_PER_MS


@pytest.mark.parametrize("sync", INTERVALS)
def test_a_divided_mesh_is_settled_when_all_have_reported_again(sync: str) -> None:
    spec = mesh(sync_interval=sync)
    minority = {"n1", "n4"}
    cut_ns = 4 * NS_PER_S

    def cut(a: str, b: str, t_ns: int) -> bool:
        return t_ns >= cut_ns and BALANCER not in (a, b) and (a in minority) != (b in minority)

    world = World(5, spec=spec, cut=cut, lateness_ns=NS_PER_MS)
    settled_ns = cut_ns + 60 * NS_PER_MS + 4 * max(spec.sync_interval_ns, 100 * NS_PER_MS)
    left = departures(world.run(settled_ns))
    assert {node for _, node in left} == minority


def test_the_first_suspecting_monitor_to_be_heard_does_not_decide_alone() -> None:
    """A detector that has just begun: the other monitors speak a moment later."""
    names = tuple(f"n{i + 1}" for i in range(4))
    detector = Agreement(names, 3)
    assert detector.hear(word("n1", "n2", 0, 1), 0) == []
    assert detector.hear(word("n3", "n2", 0, 0), 50 * NS_PER_MS) == []


def test_of_the_reports_that_waited_for_a_detector_the_first_does_not_decide_alone() -> None:
    """It stood still for two seconds; what the others say waits behind the first."""
    names = tuple(f"n{i + 1}" for i in range(4))
    detector = Agreement(names, 3)
    for monitor in ("n1", "n3", "n4"):
        detector.hear(word(monitor, "n2", 0, 0), 0)
    late_ns = 2 * NS_PER_S
    assert detector.conclude(late_ns) == []
    assert detector.hear(word("n1", "n2", 0, 1), late_ns) == []
    assert detector.hear(word("n3", "n2", 0, 0), late_ns) == []


def test_a_judge_that_stood_still_settles_no_dispute_by_the_clock() -> None:
    names = tuple(f"n{i + 1}" for i in range(4))
    detector = Agreement(names, 3)
    for monitor, silent in (("n1", 1), ("n3", 1), ("n4", 0)):
        detector.hear(word(monitor, "n2", 0, silent), 0)
    late_ns = 2 * NS_PER_S
    assert detector.conclude(late_ns) == []
    assert detector.hear(word("n1", "n2", 0, 1), late_ns) == []
    assert detector.hear(word("n3", "n2", 0, 0), late_ns) == []


def test_in_a_large_mesh_who_is_seldom_heard_of_stays_in_office() -> None:
    names = tuple(f"n{i + 1}" for i in range(FULL_SYNC_MEMBERS + 20))
    member = Membership("n1", names, SPEC, random.Random(1))
    monitors = [name for name in monitors_of("n2", names, 3) if name != "n1"]
    for monitor in monitors:
        member.handle(word(monitor, "n2", 0, 0), 0)
    for ms in range(20, 900, 20):  # somebody is heard of all the time
        member.handle(word("n9", "n8", 0, 0), ms * NS_PER_MS)
    member.handle(word(monitors[0], "n2", 0, 1), 900 * NS_PER_MS)
    assert member.conclusions() == []


# ------------------------------------------------------------------------------------------------------ agreement


def word(monitor: str, node: str, life: int, silent: int) -> SuspicionsHeard:
    return SuspicionsHeard(monitor=monitor, nodes=(node,), incarnation=np.array([life]), silent=np.array([silent]))


def test_one_suspecting_monitor_of_three_is_not_enough_nor_is_one_who_repeats() -> None:
    detector = Agreement(("n1", "n2", "n3"), 2)
    detector.hear(word("n3", "n2", 0, 0), 0)
    assert not any(detector.hear(word("n1", "n2", 0, 1), t) for t in range(5))
    assert detector.hear(word("n3", "n2", 0, 1), 6) == [NodeLeft(node="n2", reason="mesh")]


def test_suspicion_of_an_earlier_life_is_void() -> None:
    detector = Agreement(("n1", "n2", "n3", "n4"), 3)
    for monitor in ("n1", "n3", "n4"):
        detector.hear(word(monitor, "n2", 0, 0), 0)
    detector.hear(word("n1", "n2", 4, 0), 1)
    assert detector.hear(word("n3", "n2", 3, 1), 2) == []
    assert detector.hear(word("n4", "n2", 3, 1), 3) == []
    detector.hear(word("n1", "n2", 4, 1), 4)
    assert detector.hear(word("n3", "n2", 4, 1), 5) == []
    assert detector.hear(word("n4", "n2", 4, 1), 6) == [NodeLeft(node="n2", reason="mesh")]


def test_strangers_and_non_monitors_have_no_say() -> None:
    members = tuple(f"n{i}" for i in range(1, 8))
    detector = Agreement(members, 2)
    monitors = monitors_of("n1", members, 2)
    for monitor in monitors:
        detector.hear(word(monitor, "n1", 0, 0), 0)
    for monitor in ("x9", *(set(members) - {*monitors, "n1"})):
        assert detector.hear(word(monitor, "n1", 0, 1), 1) == []
    assert detector.hear(word(monitors[0], "x9", 0, 1), 2) == []


# --------------------------------------------------------------------------------------------------------- states


def state(node: str, taken_ns: int, severity: float) -> StatesHeard:
    one = np.array([1])
    return StatesHeard(
        nodes=(node,),
        taken_ns=np.array([taken_ns]),
        limit_bytes=one,
        backlog_bytes=one,
        predicted_bytes=one,
        severity_ratio=np.array([severity]),
    )


def test_states_spread_and_peers_precursors_are_seen() -> None:
    world = World(3)
    world._post(300 * NS_PER_MS, "n1", state("n1", 300 * NS_PER_MS, 0.8))
    world.run(500 * NS_PER_MS)
    assert world.members["n2"].peers_severity_ratio(500 * NS_PER_MS) == 0.8
    assert world.members["n1"].peers_severity_ratio(500 * NS_PER_MS) == 0.0, "its own does not count"
    assert world.members["n2"].peers_severity_ratio(900 * NS_PER_MS) == 0.0, "it is old by then"


def test_older_state_does_not_replace_a_newer_one() -> None:
    member = Membership("n1", ("n1", "n2"), SPEC, random.Random(0))
    member.handle(state("n2", 20, 0.5), 30)
    member.handle(state("n2", 10, 0.9), 31)
    assert member.peers_severity_ratio(40) == 0.5


def test_beyond_full_sync_states_go_to_a_few_and_carry_others() -> None:
    members = tuple(f"n{i}" for i in range(150))
    member = Membership("n0", members, SPEC, random.Random(0))
    for name in members[:40]:
        member.handle(state(name, 5, 0.1), 6)
    sent = [action for action in member.handle(DeadlineReached(), 10) if isinstance(action, SendStates)]
    assert (len(sent), len(sent[0].to), len(sent[0].nodes)) == (1, SPEC.fanout, 1 + GOSSIP_ROWS)
    assert sent[0].nodes[0] == "n0"


def test_the_balancer_hears_every_report() -> None:
    world = World(3)
    world.run(NS_PER_S)
    for name in world.names:
        said = [action for _, action in world.answers[name] if isinstance(action, SendSuspicions)]
        assert len(said) >= 10
        assert all(BALANCER in action.to for action in said)


# --------------------------------------------------------------------------------------------------------- replay


def test_replay_gives_the_same_actions() -> None:
    world = World(4, seed=3, loss=0.1, lateness_ns=2 * NS_PER_MS, crashes={"n3": 700 * NS_PER_MS})
    world.run(1500 * NS_PER_MS)
    written = [(t_ns, from_record(event.to_record())) for t_ns, event in world.history["n1"]]
    again = replay(Membership("n1", world.names, SPEC, random.Random(1)), written)  # type: ignore[arg-type]
    assert again == world.answers["n1"]
