"""No policy wants to be woken again at once: after a deadline was served the next one is later, whatever came before.

Otherwise virtual time stands still, and an agent or a controller of the emulation spins.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.errors import PolicyError
from testbed.policies.agreement import Agreement
from testbed.policies.balancer import make_balancer
from testbed.policies.base import Policy, require_progress
from testbed.policies.brain import NodeBrain
from testbed.policies.deflection import DeflectionPolicy
from testbed.policies.membership import BALANCER, Membership
from testbed.policies.monitors import monitored_by
from testbed.records.events import (
    DeadlineReached,
    Event,
    HeartbeatHeard,
    LimitGranted,
    NodeJoined,
    NodeLeft,
    NodesNotified,
    SendSuspicions,
    SuspicionsHeard,
)
from testbed.scenario.balancer import BalancerSpec
from testbed.scenario.buffer import BufferSpec
from testbed.scenario.mesh import MeshSpec
from testbed.scenario.network import Host
from testbed.scenario.tables import BALANCER_POLICIES
from testbed.simulation.agenda import MOST_WAKES, Agenda
from testbed.units import NS_PER_MS

MESH = MeshSpec.model_validate({})
GAPS_NS = st.sampled_from([0, 1, 5, 20, 50, 120, 200, 240, 300, 700]).map(lambda ms: ms * NS_PER_MS)
Step = tuple[int, bool, int]  # a gap, whether the policy is woken on time meanwhile, and what comes then
STEPS = st.lists(st.tuples(GAPS_NS, st.booleans(), st.integers(0, 2**31)), min_size=1, max_size=30)


class Judge:
    """An `Agreement` driven as a policy."""

    def __init__(self, members: tuple[str, ...]) -> None:
        self._agreement = Agreement(members, MESH.watchers)
        self.next_deadline_ns = self._agreement.next_deadline_ns

    def handle(self, event: Event, now_ns: int) -> list[object]:
        if isinstance(event, SuspicionsHeard):
            return list(self._agreement.hear(event, now_ns))
        return list(self._agreement.conclude(now_ns))


def names(count: int) -> tuple[str, ...]:
    return tuple(f"n{i + 1}" for i in range(count))


def serve(policy: Policy, steps: list[Step], event_of: Callable[[int], Event]) -> None:
    """Feed what comes after each gap; what fell due meanwhile is served on time, or only then."""
    now_ns = 0
    for gap_ns, on_time, choice in steps:
        end_ns = now_ns + gap_ns
        while (due_ns := policy.next_deadline_ns()) is not None and due_ns <= end_ns:
            now_ns = max(now_ns, due_ns) if on_time else end_ns
            policy.handle(DeadlineReached(), now_ns)
            require_progress("it", policy, now_ns)
        now_ns = end_ns
        policy.handle(event_of(choice), now_ns)


def spoken(members: tuple[str, ...], choice: int) -> SuspicionsHeard:
    draws = random.Random(choice)
    monitor = draws.choice(members)
    watched = monitored_by(monitor, members, MESH.watchers)
    silent = [draws.choice((0, 0, 1, 2)) for _ in watched]
    lives = [draws.randrange(3) for _ in watched]
    return SuspicionsHeard(
        monitor=monitor,
        nodes=watched,
        incarnation=np.array(lives, dtype=np.int64),
        silent=np.array(silent, dtype=np.int64),
    )


def notified(members: tuple[str, ...], choice: int) -> Event:
    draws = random.Random(choice)
    node = draws.choice(members)
    if draws.random() < 0.3:
        return draws.choice((NodeLeft, NodeJoined))(node=node, reason=draws.choice(("mesh", "port")))
    limit, backlog, predicted, arrived = (np.array([draws.randrange(10**6)], dtype=np.int64) for _ in range(4))
    return NodesNotified(
        nodes=(node,),
        limit_bytes=limit,
        backlog_bytes=backlog,
        predicted_bytes=predicted,
        severity_ratio=np.array([draws.random()]),
        arrived_bps=arrived,
    )


@pytest.mark.parametrize("policy", BALANCER_POLICIES.names)
@given(steps=STEPS, count=st.integers(1, 4))
def test_a_balancer_moves_on(policy: str, steps: list[Step], count: int) -> None:
    spec = BalancerSpec.model_validate({"policy": policy})
    serve(make_balancer(spec, names(count), random.Random(1)), steps, lambda choice: notified(names(count), choice))


@given(steps=STEPS, count=st.integers(2, 8))
def test_an_agreement_moves_on(steps: list[Step], count: int) -> None:
    serve(Judge(names(count)), steps, lambda choice: spoken(names(count), choice))  # type: ignore[arg-type]


@given(steps=STEPS, count=st.integers(1, 24), row=st.integers(0, 23))
def test_a_member_of_the_mesh_moves_on(steps: list[Step], count: int, row: int) -> None:
    members = names(count)
    member = Membership(members[row % count], members, MESH, random.Random(1))

    def event_of(choice: int) -> Event:
        if choice % 2:
            return HeartbeatHeard(node=members[choice % count], incarnation=choice % 3)
        return spoken(members, choice)

    serve(member, steps, event_of)


@given(steps=STEPS, delay_ms=st.integers(0, 40))
def test_a_brain_moves_on(steps: list[Step], delay_ms: int) -> None:
    spec = BufferSpec.model_validate({"policy": "reactive", "actuation_delay": f"{delay_ms}ms"})
    brain = NodeBrain(("n1",), spec, np.array([10**8], dtype=np.int64), None, pool_members=1)
    serve(
        brain,
        steps,
        lambda choice: LimitGranted(nodes=("n1",), granted_bytes=np.array([choice % 10**7], dtype=np.int64)),
    )


@given(steps=STEPS)
def test_a_deflection_moves_on(steps: list[Step]) -> None:
    hosts = [Host(name, "node") for name in names(3)]
    serve(DeflectionPolicy(hosts), steps, lambda choice: notified(names(3), choice))


def test_a_balancer_that_was_woken_too_late_to_judge_a_silence_moves_on() -> None:
    """It finds that it was itself away; the deadline of that silence must not stay."""
    policy = make_balancer(BalancerSpec.model_validate({}), names(2), random.Random(1))
    for now_ns, node in ((0, "n1"), (200 * NS_PER_MS, "n2"), (400 * NS_PER_MS, "n2")):
        none = np.zeros(1, dtype=np.int64)
        policy.handle(
            NodesNotified(
                nodes=(node,),
                limit_bytes=none + 1,
                backlog_bytes=none,
                predicted_bytes=none,
                severity_ratio=np.zeros(1),
                arrived_bps=none,
            ),
            now_ns,
        )
    policy.handle(DeadlineReached(), 450 * NS_PER_MS)  # deals
    assert policy.next_deadline_ns() == 500 * NS_PER_MS
    policy.handle(DeadlineReached(), 700 * NS_PER_MS)
    assert policy.next_deadline_ns() is None


@pytest.mark.parametrize("count", [16, 18, 20, 24])
def test_a_member_that_watches_nobody_does_not_answer_every_message(count: int) -> None:
    members = names(count)
    idle = next(name for name in members if not monitored_by(name, members, MESH.watchers))
    member = Membership(idle, members, MESH, random.Random(1))
    member.handle(DeadlineReached(), 0)
    due_ns = member.next_deadline_ns()
    assert member.handle(spoken(members, 1), NS_PER_MS) == []
    assert member.next_deadline_ns() == due_ns
    said = [action for k in range(1, 11) for action in member.handle(DeadlineReached(), k * 10 * NS_PER_MS)]
    assert sum(isinstance(action, SendSuspicions) and BALANCER in action.to for action in said) == 1  # each 100 ms


# ------------------------------------------------------------------------------------------------------- the agenda


class Asking:
    """A policy that always wants to be woken so long after it was."""

    def __init__(self, after_ns: int) -> None:
        self._after_ns, self._due_ns = after_ns, 1000

    def next_deadline_ns(self) -> int:
        return self._due_ns

    def handle(self, now_ns: int) -> None:
        self._due_ns = now_ns + self._after_ns


def drive(policy: Asking, until_ns: int) -> Agenda:
    agenda = Agenda()

    def feed() -> None:
        policy.handle(agenda.now_ns)
        agenda.wake("brain:n1", policy, feed)

    agenda.wake("brain:n1", policy, feed)
    while agenda.next_ns() <= until_ns:
        agenda.step()
    return agenda


@pytest.mark.parametrize("after_ns", [0, -5])
def test_a_policy_whose_deadline_stays_is_named(after_ns: int) -> None:
    with pytest.raises(PolicyError, match="driving the policy brain:n1: it was called at 1000 ns"):
        drive(Asking(after_ns), NS_PER_MS)


def test_a_policy_that_creeps_is_named() -> None:
    with pytest.raises(PolicyError, match=f"brain:n1: it was called {MOST_WAKES} times within"):
        drive(Asking(1), NS_PER_MS)


def test_a_policy_that_moves_on_is_left_alone() -> None:
    assert drive(Asking(200), 20 * NS_PER_MS).now_ns > 19 * NS_PER_MS


def test_what_makes_a_deadline_due_at_the_instant_it_was_served_is_no_fault() -> None:
    agenda, policy = Agenda(), Asking(NS_PER_MS)

    def feed() -> None:
        policy.handle(agenda.now_ns)
        agenda.wake("mesh n1", policy, feed)

    def urge() -> None:
        policy._due_ns = agenda.now_ns
        agenda.wake("mesh n1", policy, feed)

    agenda.wake("mesh n1", policy, feed)
    agenda.at(1000, urge)
    for _ in range(3):
        agenda.step()
    assert agenda.now_ns == 1001
    assert policy.next_deadline_ns() == 1001 + NS_PER_MS
