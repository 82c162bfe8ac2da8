"""The standby without a switch: what it knows, when it takes over, and what the primary does about it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from testbed.controllers import notification
from testbed.controllers.load_balancer import LoadBalancer
from testbed.controllers.process import Inbox, Steering
from testbed.controllers.replication import HEARTBEAT_NS, HUNG_NS, LEASE_NS, Follower, Journal, line
from testbed.controllers.standby import Following
from testbed.controllers.switch import Connected, Deposed, PortChanged, Role, RoleGranted
from testbed.events import NotifyBalancer
from testbed.policies.balancer import SILENCE_NS
from testbed.units import NS_PER_MS
from tests.test_pipeline import PORTS, FakeLink, make_config

CONFIG = make_config(policy="least-loaded")


def notify(node: str, backlog: int) -> bytes:
    one = np.ones(1, dtype=np.int64)
    return notification.encode(NotifyBalancer((node,), one * 10**6, one * backlog, one * 0, np.zeros(1), one * 0))


class RoleLink(FakeLink):
    """A fake link that remembers the roles that were asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[Role, int]] = []

    def request_role(self, role: Role, generation: int) -> None:
        self.asked.append((role, generation))


class Clock:
    def __init__(self) -> None:
        self.ns = 0

    def __call__(self) -> int:
        return self.ns


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    both = line()
    yield both
    for end in both:
        end.close()


def heard(follower: Follower, now_ns: int = 0) -> list[tuple[Any, ...]]:
    return list(follower.inputs(now_ns))


# -------------------------------------------------------------------------------------------------------- replication


def test_a_follower_is_in_the_state_of_what_it_follows(ends: Any) -> None:
    journal, follower = Journal(ends[0]), Follower(ends[1])
    told: list[tuple[int, dict[str, Any]]] = []
    first = LoadBalancer(CONFIG, lambda t_ns, record: told.append((t_ns, record)), note=journal.note)
    first.on_switch(Connected(FakeLink(), dict.fromkeys(PORTS.values(), True)), 0, 0)
    for step in range(1, 60):
        now_ns = step * 10 * NS_PER_MS
        first.on_datagram(notify("n1", step * 10_000), now_ns)
        first.on_datagram(notify("n3", 0), now_ns, ("10.0.0.1", 7000))
        first.on_time(now_ns)
    first.on_switch(PortChanged(PORTS["n2"], False), 700 * NS_PER_MS, 700 * NS_PER_MS)
    journal.ship(0)
    retold: list[tuple[int, dict[str, Any]]] = []
    second = LoadBalancer(CONFIG, lambda t_ns, record: retold.append((t_ns, record)))
    for taken in heard(follower):
        second.follow(taken)
    assert {record["kind"] for _, record in told} >= {"SetSlots", "RemoveNode"}
    assert retold == told
    assert any(t_ns >= SILENCE_NS for t_ns, _ in told)
    assert second.next_deadline_ns() == first.next_deadline_ns()


def test_a_primary_with_nothing_to_say_gives_signs_of_life(ends: Any) -> None:
    journal, follower = Journal(ends[0]), Follower(ends[1])
    assert follower.hung_ns is None  # it has not begun to speak: it may be starting still
    for now_ns in range(0, 4 * HEARTBEAT_NS, HEARTBEAT_NS // 5):
        journal.ship(now_ns)
        assert heard(follower, now_ns) == []
    assert follower.hung_ns == 3 * HEARTBEAT_NS + HUNG_NS


def test_the_kernel_tells_of_a_death(ends: Any) -> None:
    follower = Follower(ends[1])
    ends[0].close()
    assert heard(follower) == []
    assert follower.closed


def test_a_standby_that_does_not_read_is_lost_and_holds_nobody_up(ends: Any) -> None:
    journal = Journal(ends[0])
    for _ in range(100_000):
        journal.note(("datagram", 0, b"x" * 1000, None))
        journal.ship(0)
        if journal.lost:
            return
    pytest.fail("a socket that is never read took everything")


# ---------------------------------------------------------------------------------------------------------- following


class FollowingBench:
    def __init__(self, end: socket.socket) -> None:
        self.clock, self.told, self.link = Clock(), list[str](), RoleLink()
        self.inbox = Inbox(self.clock)
        balancer = LoadBalancer(CONFIG, lambda *_: None)
        self.following = Following(
            balancer, self.inbox, Follower(end), self.clock, lambda _, record: self.told.append(record["kind"])
        )


def test_it_asks_to_be_a_slave_and_is_ready_when_it_is(ends: Any) -> None:
    bench = FollowingBench(ends[1])
    bench.inbox.post(Connected(bench.link, {11: True}))
    bench.inbox.post(RoleGranted(bench.link, Role.SLAVE))
    bench.inbox.post(PortChanged(11, False))
    ends[0].close()
    assert bench.following.until_primary_is_gone() == "died"
    assert bench.link.asked == [(Role.SLAVE, 1)]
    assert bench.told == ["StandbyReady"]
    assert bench.following.ports_up == {11: False}


def test_a_silent_primary_hangs(ends: Any) -> None:
    bench = FollowingBench(ends[1])
    Journal(ends[0]).ship(0)
    bench.clock.ns = 0
    assert heard(bench.following._primary) == []
    bench.clock.ns = HUNG_NS
    assert bench.following.until_primary_is_gone() == "hung"


def test_messages_that_waited_while_it_was_late_itself_count(ends: Any) -> None:
    bench = FollowingBench(ends[1])
    journal = Journal(ends[0])
    journal.ship(0)
    assert heard(bench.following._primary) == []
    bench.clock.ns = 10 * HUNG_NS
    journal.ship(bench.clock.ns)
    ends[0].close()
    assert bench.following.until_primary_is_gone() == "died"  # not hung


# ----------------------------------------------------------------------------------------------------------- steering


class SteeringBench:
    def __init__(self, end: socket.socket) -> None:
        self.clock, self.told, self.link = Clock(), list[str](), RoleLink()
        self.inbox = Inbox(self.clock)
        self.notifications = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.notifications.setblocking(False)
        emit = lambda _, record: self.told.append(record["kind"])  # noqa: E731
        balancer = LoadBalancer(CONFIG, emit)
        self.steering = Steering(balancer, self.inbox, self.notifications, self.clock, emit, 1, Journal(end))
        self.steering.take(Connected(self.link, dict.fromkeys(PORTS.values(), True)), 0)


@pytest.fixture
def primary(ends: Any) -> Iterator[SteeringBench]:
    bench = SteeringBench(ends[0])
    yield bench
    bench.notifications.close()


def test_a_primary_claims_the_switch_before_it_writes(primary: SteeringBench) -> None:
    assert primary.link.asked == [(Role.MASTER, 1)]
    assert primary.link.barriers == 1


def test_a_primary_without_its_standby_asks_the_switch_and_waits(primary: SteeringBench, ends: Any) -> None:
    ends[1].close()
    primary.inbox.post(PortChanged(PORTS["n2"], True))
    primary.steering._turn()
    assert primary.told == ["StandbyLost"]
    assert primary.link.asked == [(Role.MASTER, 1)] * 2
    assert primary.steering._passive
    primary.inbox.post(RoleGranted(primary.link, Role.MASTER))
    primary.steering._turn()
    assert not primary.steering._passive


def test_a_primary_that_is_told_of_a_greater_generation_steers_no_more(primary: SteeringBench) -> None:
    primary.inbox.post(Deposed(primary.link))
    primary.inbox.post(Deposed(primary.link))
    primary.steering._turn()
    assert primary.told == ["ControllerDeposed"]
    assert primary.steering._passive


def test_a_primary_stopped_in_the_middle_of_a_turn_takes_nothing_in_before_it_has_asked(
    primary: SteeringBench, ends: Any
) -> None:
    """It has just shipped, sleeps for longer than the standby waits, and wakes with inputs of every kind before it."""
    primary.notifications.bind(("127.0.0.1", 0))
    journal = primary.steering._journal
    assert journal is not None
    ship = journal.ship

    def stopped_after(now_ns: int) -> None:
        ship(now_ns)
        journal.ship = ship  # type: ignore[method-assign]
        primary.clock.ns = 2 * HUNG_NS
        ends[1].close()  # the standby takes over

    journal.ship = stopped_after  # type: ignore[method-assign]
    primary.inbox.post(PortChanged(PORTS["n2"], False))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as node:
        node.sendto(notify("n1", 900_000), primary.notifications.getsockname())
    primary.steering._turn()
    primary.steering._turn()
    assert primary.told == ["StandbyLost"]
    assert primary.link.asked == [(Role.MASTER, 1)] * 2


def test_what_a_primary_hears_while_it_waits_for_the_switch_is_acted_on_when_that_has_answered(
    primary: SteeringBench, ends: Any
) -> None:
    ends[1].close()
    primary.inbox.post(PortChanged(PORTS["n2"], False))
    primary.steering._turn()
    assert primary.told == ["StandbyLost"]
    primary.inbox.post(RoleGranted(primary.link, Role.MASTER))
    primary.steering._turn()
    assert primary.told[:2] == ["StandbyLost", "NodeLeft"]


def test_a_primary_stopped_while_it_takes_an_input_in_ends_with_that_one(primary: SteeringBench) -> None:
    primary.notifications.bind(("127.0.0.1", 0))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as node:
        for _ in range(3):
            node.sendto(notify("n1", 0), primary.notifications.getsockname())
    heard_by_balancer = primary.steering._balancer.on_datagram

    def stopped_in(datagram: bytes, now_ns: int, sender: Any) -> None:
        heard_by_balancer(datagram, now_ns, sender)
        primary.clock.ns = 2 * HUNG_NS

    primary.steering._balancer.on_datagram = stopped_in  # type: ignore[method-assign]
    primary.steering._turn()
    assert [kind for kind in primary.told if kind in ("NodesNotified", "DeadlineReached")] == ["NodesNotified"]


def test_a_primary_that_was_late_but_still_is_the_one_goes_on(primary: SteeringBench) -> None:
    primary.clock.ns = LEASE_NS
    primary.inbox.post(PortChanged(PORTS["n2"], False))
    primary.steering._turn()
    primary.steering._turn()
    assert "RemoveNode" in primary.told
    assert not primary.steering._passive
