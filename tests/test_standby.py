"""The standby without a switch: what it knows, when it takes over, and what the primary does about it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.controllers.config import BalancerConfig
from testbed.controllers.load_balancer import LoadBalancer
from testbed.controllers.process import ActiveController, Inbox
from testbed.controllers.replication import HEARTBEAT_NS, HUNG_NS, LEASE_NS, Follower, Journal, line
from testbed.controllers.standby import Following
from testbed.controllers.switch import (
    Connected,
    Deposed,
    Disconnected,
    PacketIn,
    PortChanged,
    Role,
    SlaveGranted,
)
from testbed.policies.readiness import SILENCE_NS
from testbed.units import NS_PER_MS
from tests import sealed
from tests.fake_connection import FakeConnection, FakeLink
from tests.test_pipeline import NODES, PORTS, frame_of, make_config, said, to_vip

CONFIG = make_config(policy="least-loaded")


SEAL = sealed.Notifying(NODES)


def notify(node: str, backlog: int, at_ns: int | None = None) -> bytes:
    return SEAL(said(node, backlog=backlog), at_ns)


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
    first.activate(FakeLink(), 0)
    for step in range(1, 60):
        now_ns = step * 10 * NS_PER_MS
        first.on_datagram(notify("n1", step * 10_000, now_ns), now_ns)
        first.on_datagram(notify("n3", 0, now_ns), now_ns, ("10.0.0.1", 7000))
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
            break
    else:
        pytest.fail("a socket that is never read took everything")
    journal.note(("datagram", 0, b"x", None))
    assert not journal._noted, "nothing is kept for a standby that is lost"


# ---------------------------------------------------------------------------------------------------------- following


class FollowingBench:
    def __init__(self, end: socket.socket) -> None:
        self.clock, self.told, self.connection = Clock(), list[str](), FakeConnection()
        self.inbox = Inbox(self.clock)
        balancer = LoadBalancer(CONFIG, lambda *_: None)
        self.following = Following(
            balancer, self.inbox, Follower(end), self.clock, lambda _, record: self.told.append(record["kind"])
        )


def test_it_asks_to_be_a_slave_and_is_ready_when_it_is(ends: Any) -> None:
    bench = FollowingBench(ends[1])
    bench.inbox.post(Connected(bench.connection, {11: True}))
    bench.inbox.post(SlaveGranted(bench.connection, 1))
    bench.inbox.post(PortChanged(11, False))
    ends[0].close()
    assert bench.following.until_primary_is_gone() == "died"
    assert bench.connection.asked == [(Role.SLAVE, 1)]
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


# ------------------------------------------------------------------------------------------------- active controller


class ControllerBench:
    def __init__(self, end: socket.socket | None, config: BalancerConfig = CONFIG) -> None:
        self.clock, self.told, self.connection = Clock(), list[str](), FakeConnection()
        self.inbox = Inbox(self.clock)
        self.notifications = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.notifications.setblocking(False)
        emit = lambda _, record: self.told.append(record["kind"])  # noqa: E731
        balancer = LoadBalancer(config, emit)
        journal = None if end is None else Journal(end)
        self.active = ActiveController(balancer, self.inbox, self.notifications, self.clock, emit, 1, journal)

    def connect(self) -> None:
        """Let the switch connect, anew, and answer nothing yet."""
        self.connection = FakeConnection()
        self.active.take(Connected(self.connection, dict.fromkeys(PORTS.values(), True)), self.clock.ns)

    def happen(self, what: str, number: int) -> None:
        """Let a port change, a packet be asked about, or a node notify."""
        packet = to_vip(1000 + number)
        if what == "port":
            self.inbox.post(PortChanged(PORTS["n2"], number % 2 == 0))
        elif what == "packet":
            self.connection.link.switch.frames[frame_of(packet)] = packet
            self.inbox.post(PacketIn(1, frame_of(packet)))
        else:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as node:
                node.sendto(notify("n1", number % 2 * 900_000, self.clock.ns), self.notifications.getsockname())

    def grant(self, request: int | None = None) -> None:
        self.inbox.post(self.connection.grant(request))
        self.turn()

    def turn(self) -> None:
        """Let the loop go round once, without waiting."""
        self.inbox.put_back(())
        self.active._turn()


@pytest.fixture
def fresh(ends: Any) -> Iterator[ControllerBench]:
    bench = ControllerBench(ends[0])
    yield bench
    bench.notifications.close()


@pytest.fixture
def primary(fresh: ControllerBench) -> ControllerBench:
    fresh.connect()
    fresh.grant()
    fresh.clock.ns = HEARTBEAT_NS
    return fresh


@pytest.mark.parametrize("standby", [False, True])
def test_nothing_is_ordered_before_the_master_role_is_granted(ends: Any, standby: bool) -> None:
    bench = ControllerBench(ends[0] if standby else None)
    bench.connect()
    bench.inbox.post(PortChanged(PORTS["n2"], False))
    bench.turn()
    assert bench.connection.asked == [(Role.MASTER, 1)]
    assert bench.connection.link.sent == []
    bench.grant()
    bench.turn()
    assert bench.connection.link.barriers == 2  # the pipeline, and what follows from the port
    assert "RemoveNode" in bench.told
    bench.notifications.close()


def test_every_new_connection_has_to_be_granted(primary: ControllerBench) -> None:
    old = primary.connection
    primary.active.take(Disconnected(old), 0)
    primary.connect()
    primary.inbox.post(old.grant())  # of the lost connection: it comes too late
    old.link.open = False
    primary.inbox.post(PortChanged(PORTS["n2"], False))
    primary.turn()
    assert primary.connection.link.sent == []
    primary.grant()
    assert primary.connection.link.barriers == 1


def test_a_grant_counts_as_the_answer_to_the_last_request_alone(fresh: ControllerBench, ends: Any) -> None:
    """The first answer was on its way when the primary was stopped; the switch has another master by now."""
    fresh.connect()
    ends[1].close()
    fresh.inbox.post(fresh.connection.grant(1))
    fresh.turn()
    assert fresh.connection.asked == [(Role.MASTER, 1)] * 2
    assert fresh.connection.link.sent == []
    assert fresh.active._passive
    fresh.grant(2)
    assert not fresh.active._passive


def test_a_primary_without_standby_and_switch_takes_nothing_in_that_belongs_to_another(
    primary: ControllerBench, ends: Any
) -> None:
    """It lost its connection before it lost its standby, and has nobody to ask; the standby reads the same socket."""
    primary.notifications.bind(("127.0.0.1", 0))
    primary.active.take(Disconnected(primary.connection), 0)
    ends[1].close()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as node:
        node.sendto(notify("n1", 900_000, primary.clock.ns), primary.notifications.getsockname())
    primary.clock.ns = HEARTBEAT_NS
    primary.inbox.post(PortChanged(PORTS["n2"], False))
    primary.turn()
    primary.inbox.post(PortChanged(PORTS["n2"], False))
    primary.turn()
    assert primary.told == ["SwitchLost", "StandbyLost"]
    assert primary.notifications.recv(1000)
    primary.connect()
    primary.inbox.post(Deposed(primary.connection))
    primary.turn()
    assert primary.told[2:] == ["ControllerDeposed"]
    assert primary.connection.link.sent == []


def test_packets_that_the_switch_asks_about_wait_for_the_grant(ends: Any) -> None:
    """Placed before it, a flow would have no pin, and its next packets might go to another node."""
    bench = ControllerBench(ends[0], make_config(policy="per-flow"))
    bench.connect()
    packet = to_vip(1000)
    frame = frame_of(packet)
    bench.connection.link.switch.frames[frame] = packet
    bench.inbox.post(PacketIn(1, frame))
    bench.turn()
    assert bench.told == []
    bench.grant()
    bench.turn()
    assert "PlaceFlow" in bench.told
    assert len(bench.connection.link.switch.pins()) == len(bench.connection.link.switch.answered) == 1
    bench.notifications.close()


STEPS = [
    "connect",
    "disconnect",
    "grant",
    "grant first",
    "grant old",
    "depose",
    "port",
    "packet",
    "news",
    "orphan",
    "wait",
]


@given(st.lists(st.sampled_from(STEPS), max_size=30), st.booleans(), st.sampled_from(["least-loaded", "per-flow"]))
def test_whatever_happens_no_order_leaves_without_the_role(steps: list[str], alone: bool, policy: str) -> None:
    """`FakeLink` fails on an order over a connection whose last request does not stand granted."""
    ends = line()
    bench = ControllerBench(None if alone else ends[0], make_config(policy=policy))
    bench.notifications.bind(("127.0.0.1", 0))
    old = bench.connection
    for number, step in enumerate(steps):
        bench.clock.ns += 40 * NS_PER_MS
        bench.turn()  # what was held until the grant comes before what happens next
        if step == "connect":
            old, _ = bench.connection, bench.connect()
        elif step == "disconnect":
            bench.connection.link.open = False
            bench.inbox.post(Disconnected(bench.connection))
        elif step.startswith("grant") and (old if step == "grant old" else bench.connection).asked:
            asked = old if step == "grant old" else bench.connection
            bench.inbox.post(asked.grant(1 if step == "grant first" else None))
        elif step == "depose":
            bench.connection.link.open = False
            bench.inbox.post(Deposed(bench.connection))
        elif step == "orphan":
            ends[1].close()
        elif step == "wait":
            bench.clock.ns += HUNG_NS
        else:
            bench.happen(step, number)
        old.link.open &= old is bench.connection
        bench.turn()
    for end in (*ends, bench.notifications):
        end.close()


def test_a_primary_without_its_standby_asks_the_switch_and_waits(primary: ControllerBench, ends: Any) -> None:
    ends[1].close()
    primary.inbox.post(PortChanged(PORTS["n2"], True))
    primary.turn()
    assert primary.told == ["StandbyLost"]
    assert primary.connection.asked == [(Role.MASTER, 1)] * 2
    assert primary.active._passive
    primary.grant()
    assert not primary.active._passive


def test_a_primary_that_learns_of_a_greater_generation_is_active_no_more(primary: ControllerBench) -> None:
    primary.inbox.post(Deposed(primary.connection))
    primary.inbox.post(Deposed(primary.connection))
    primary.turn()
    assert primary.told == ["ControllerDeposed"]
    assert primary.active._passive


def test_a_primary_stopped_in_the_middle_of_a_turn_takes_nothing_in_before_it_has_asked(
    primary: ControllerBench, ends: Any
) -> None:
    """It has just shipped, sleeps for longer than the standby waits, and wakes with inputs of every kind before it."""
    primary.notifications.bind(("127.0.0.1", 0))
    journal = primary.active._journal
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
        node.sendto(notify("n1", 900_000, primary.clock.ns), primary.notifications.getsockname())
    primary.turn()
    primary.turn()
    assert primary.told == ["StandbyLost"]
    assert primary.connection.asked == [(Role.MASTER, 1)] * 2


def test_what_a_primary_hears_while_it_waits_for_the_switch_is_acted_on_when_that_has_answered(
    primary: ControllerBench, ends: Any
) -> None:
    ends[1].close()
    primary.inbox.post(PortChanged(PORTS["n2"], False))
    primary.turn()
    assert primary.told == ["StandbyLost"]
    primary.grant()
    primary.turn()
    assert primary.told[:2] == ["StandbyLost", "NodeLeft"]


def test_a_primary_stopped_while_it_takes_an_input_in_ends_with_that_one(primary: ControllerBench) -> None:
    primary.notifications.bind(("127.0.0.1", 0))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as node:
        for _ in range(3):
            node.sendto(notify("n1", 0, primary.clock.ns), primary.notifications.getsockname())
    heard_by_balancer = primary.active._balancer.on_datagram

    def stopped_in(datagram: bytes, now_ns: int, sender: Any) -> None:
        heard_by_balancer(datagram, now_ns, sender)
        primary.clock.ns = 2 * HUNG_NS

    primary.active._balancer.on_datagram = stopped_in  # type: ignore[method-assign]
    primary.turn()
    assert [kind for kind in primary.told if kind in ("NodesNotified", "DeadlineReached")] == ["NodesNotified"]


def test_a_primary_that_was_late_but_still_is_the_one_goes_on(primary: ControllerBench) -> None:
    primary.clock.ns = LEASE_NS
    primary.inbox.post(PortChanged(PORTS["n2"], False))
    primary.turn()
    primary.turn()
    assert "RemoveNode" in primary.told
    assert not primary.active._passive


@pytest.mark.parametrize("reading", range(1, 12))
def test_no_input_has_a_time_after_the_stop_it_was_taken_in_before(ends: Any, reading: int) -> None:
    """The process is stopped after any reading of the clock, for longer than the standby waits."""
    bench = ControllerBench(ends[0])
    times: list[tuple[int, str]] = []
    bench.active._emit = bench.active._balancer._emit = lambda t_ns, record: times.append((t_ns, record["kind"]))
    bench.connect()
    bench.grant()
    bench.clock.ns = HEARTBEAT_NS
    bench.turn()
    bench.notifications.bind(("127.0.0.1", 0))
    bench.inbox.post(PortChanged(PORTS["n2"], False))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as node:
        node.sendto(notify("n1", 0, bench.clock.ns), bench.notifications.getsockname())
    times.clear()
    readings = 0

    def stopped_after_reading() -> int:
        nonlocal readings
        readings += 1
        now_ns = bench.clock.ns
        if readings == reading:
            bench.clock.ns = 10 * HUNG_NS
            ends[1].close()
        return now_ns

    bench.active._now_ns = stopped_after_reading
    bench.turn()
    bench.turn()
    late = [kind for t_ns, kind in times if t_ns >= 10 * HUNG_NS]
    assert set(late) <= {"StandbyLost"}
    bench.notifications.close()
