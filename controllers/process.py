"""A controller process: what wakes it, and the loop that steers.

Everything is done in one thread, in the order it came in: the framework's threads only post to the inbox.

With a standby (`standby`), the primary holds the switch's master role under `PRIMARY_GENERATION` and ships its inputs
(`replication`).  When nobody takes them any more it asks the switch, the only arbiter there is, for its role again: if
the standby has died, it gets it and goes on alone; if the standby has taken over, its generation is stale, and it
steers no more.  Until the switch has answered it touches nothing.
"""

from __future__ import annotations

import select
import signal
import socket
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from testbed.controllers import connection, notification
from testbed.controllers.bell import Bell
from testbed.controllers.config import BalancerConfig
from testbed.controllers.deflection import Address
from testbed.controllers.load_balancer import Emit, LoadBalancer
from testbed.controllers.replication import HEARTBEAT_NS, Journal
from testbed.controllers.switch import Connected, Deposed, Happening, Link, PacketIn, PortChanged, Role, RoleGranted
from testbed.units import NS_PER_S

PRIMARY_GENERATION, STANDBY_GENERATION = 1, 2
IDLE_WAIT_NS = NS_PER_S
MAX_A_TURN = 64  # datagrams, and happenings: no flood of one keeps the other, the deadlines or a standby waiting


class Inbox:
    """What other threads and signal handlers have for the one thread that decides."""

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self._now_ns = now_ns
        self._posted: deque[tuple[int, Happening]] = deque()
        self._bell = Bell()
        self.stopping = False

    def fileno(self) -> int:
        """Return the descriptor, for `select`."""
        return self._bell.fileno()

    def post(self, happening: Happening) -> None:
        """Leave a happening, with the time."""
        self._posted.append((self._now_ns(), happening))
        self._bell.ring()

    def stop(self, *_: object) -> None:
        """Ask the thread to end; a signal handler."""
        self.stopping = True
        self._bell.ring()

    def take(self, may: Callable[[], bool] = lambda: True) -> Iterator[tuple[int, Happening]]:
        """Yield what was posted, in order, while `may` allows it; what is left after a turn keeps the bell ringing."""
        self._bell.silence()
        for _ in range(min(MAX_A_TURN, len(self._posted))):
            if not may():
                break
            yield self._posted.popleft()
        if self._posted:
            self._bell.ring()


class Steering:
    """The loop of a controller that steers the switch."""

    def __init__(
        self,
        balancer: LoadBalancer,
        inbox: Inbox,
        notify_socket: socket.socket,
        now_ns: Callable[[], int],
        emit: Emit,
        generation: int | None = None,
        journal: Journal | None = None,
    ) -> None:
        """Take over what there is; nothing is done yet.

        Args:
            balancer: what decides.
            inbox: where the switch's happenings arrive.
            notify_socket: non-blocking UDP socket of the nodes' notifications.
            now_ns: the run's clock.
            emit: takes ``(t_ns, record)``.
            generation: under which the master role is asked for; None: there is no other controller.
            journal: where a standby follows.
        """
        self._balancer, self._inbox, self._notify_socket = balancer, inbox, notify_socket
        self._now_ns, self._emit = now_ns, emit
        self._generation, self._journal = generation, journal
        self._link: Link | None = None
        self._asking = self._deposed = False
        self._held: deque[tuple[Happening, int]] = deque()  # while the switch is asked: some milliseconds

    def until_stopped(self) -> None:
        """Steer until told to stop."""
        while not self._inbox.stopping:
            self._turn()

    def take(self, happening: Happening, happened_ns: int) -> None:
        """Take in what the framework reported."""
        if isinstance(happening, Deposed):
            self._retire()
        elif isinstance(happening, RoleGranted):
            self._go_on()
        elif self._passive and isinstance(happening, (PortChanged, PacketIn)):  # they lead to orders
            if not self._deposed:
                self._held.append((happening, happened_ns))
        else:
            if isinstance(happening, Connected):
                self._link = happening.link
                self._claim()
            self._balancer.on_switch(happening, happened_ns, self._now_ns())

    def _turn(self) -> None:
        waiting = [self._inbox.fileno()] if self._passive else [self._inbox.fileno(), self._notify_socket.fileno()]
        select.select(waiting, [], [], self._wait_ns() / NS_PER_S)
        self._ship()  # first: after a stop of its own the primary must not act before it has asked
        for happened_ns, happening in self._inbox.take(self._may_act):
            self.take(happening, happened_ns)
        if not self._passive:
            self._take_datagrams()
            if self._may_act():
                self._balancer.on_time(self._now_ns())
            self._ship()

    def _may_act(self) -> bool:
        return self._journal is None or not self._journal.lease_is_over(self._now_ns())

    @property
    def _passive(self) -> bool:
        return self._asking or self._deposed

    def _wait_ns(self) -> int:
        longest_ns = HEARTBEAT_NS if self._journal is not None else IDLE_WAIT_NS
        due_ns = None if self._passive else self._balancer.next_deadline_ns()
        return longest_ns if due_ns is None else min(longest_ns, max(0, due_ns - self._now_ns()))

    def _take_datagrams(self) -> None:
        for _ in range(MAX_A_TURN):
            if not self._may_act():
                return
            try:
                datagram, sender = self._notify_socket.recvfrom(notification.MAX_DATAGRAM_BYTES)
            except BlockingIOError:
                return
            self._balancer.on_datagram(datagram, self._now_ns(), sender)

    def _ship(self) -> None:
        if self._journal is None:
            return
        self._journal.ship(self._now_ns())
        if self._journal.lost:
            self._journal = None
            self._tell("StandbyLost")
            self._asking = self._link is not None
            self._claim()

    def _claim(self) -> None:
        if self._generation is not None and self._link is not None:
            self._link.request_role(Role.MASTER, self._generation)

    def _go_on(self) -> None:
        self._asking = False
        while self._held:
            self.take(*self._held.popleft())

    def _retire(self) -> None:
        if not self._deposed:
            self._deposed = True
            self._held.clear()
            self._tell("ControllerDeposed")

    def _tell(self, kind: str) -> None:
        self._emit(self._now_ns(), {"kind": kind, "policy": "balancer"})


def serve(
    config: BalancerConfig, notify_socket: socket.socket, emit: Emit, standby: socket.socket | None = None
) -> None:
    """Balance until SIGTERM or SIGINT; the `BalancerReady` record says that every flow is in force.

    Call it in a process of its own, in its main thread.

    Args:
        config: see there.
        notify_socket: bound UDP socket on which nodes' notifications arrive.
        emit: takes ``(t_ns, record)``; called from this thread only.
        standby: the primary's end of `replication.line`; None: there is no standby.

    Raises:
        MachineError: the framework is not installed.
        ToolError: the port is taken, or the switch refused a message.
    """
    inbox = Inbox(config.now_ns)
    journal = None if standby is None else Journal(standby)
    note = None if journal is None else journal.note
    balancer = LoadBalancer(config, emit, sender_of(notify_socket), note)
    generation = None if journal is None else PRIMARY_GENERATION
    with stopping_on_signals(inbox.stop):
        connection.listen(config.framework, config.listen_port, config.dpid, inbox.post)
        Steering(balancer, inbox, notify_socket, config.now_ns, emit, generation, journal).until_stopped()
    balancer.stop(config.now_ns())


def sender_of(notify_socket: socket.socket) -> Callable[[bytes, Address], None]:
    """Make the socket non-blocking and return what sends datagrams to nodes through it."""
    notify_socket.setblocking(False)

    def send(datagram: bytes, address: Address) -> None:
        notify_socket.sendto(datagram, address)

    return send


@contextmanager
def stopping_on_signals(stop: Callable[..., None]) -> Iterator[None]:
    """Call `stop` on SIGTERM and SIGINT."""
    before = [(number, signal.signal(number, stop)) for number in (signal.SIGTERM, signal.SIGINT)]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)
