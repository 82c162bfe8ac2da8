"""A controller process: what wakes it, and the loop of the active controller.

One thread does everything, in the order of arrival; the threads of the framework only add to its inbox.

The active controller holds the master role of the switch under a generation id.  It requests the role at each
connection of the switch, with or without a standby.  Before the role is granted it cannot send a state-changing message
(`switch.MasterGranted`).  A grant counts only if it answers the last request.  What the switch reports before (ports
that are up, packets it asks about) is handled after the grant.

With a standby (`standby`), the primary sends it all inputs (`replication`).  When the standby stops receiving them, the
primary asks the switch for its role again, because only the switch can decide.  If the standby has died, the primary
gets the role and continues alone.  If the standby has taken over, the generation id of the primary is stale, and the
primary is no longer active.  Until the switch has answered (perhaps over a new connection), the primary processes no
input: notifications that arrive meanwhile belong to the active controller.
"""

from __future__ import annotations

import signal
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from testbed.controllers import connection
from testbed.controllers.bell import Bell
from testbed.controllers.config import BalancerConfig
from testbed.controllers.deflection import Address
from testbed.controllers.load_balancer import Emit, LoadBalancer
from testbed.controllers.replication import Journal
from testbed.controllers.switch import (
    Connected,
    Connection,
    Deposed,
    Disconnected,
    Happening,
    MasterGranted,
    PacketIn,
    PortChanged,
    Role,
    is_far,
)
from testbed.policies.membership import BALANCER
from testbed.records.events import LogEntry
from testbed.records.processes import ControllerDeposed, StandbyLost, SwitchLost
from testbed.records.written import written
from testbed.system import waiting
from testbed.units import NS_PER_MS
from testbed.wire.sealing import MAX_DATAGRAM_BYTES

PRIMARY_GENERATION, STANDBY_GENERATION = 1, 2
LONGEST_WAIT_NS = 10 * NS_PER_MS  # an idle iteration of the loop costs about 20 us
MAX_A_TURN = 8  # datagrams, and events: many of one kind must not delay the others, deadlines or a standby


class Inbox:
    """Passes events from other threads and signal handlers to the thread that makes the decisions."""

    def __init__(self, now_ns: Callable[[], int], beat: Callable[[], None] = lambda: None) -> None:
        self._now_ns, self._beat = now_ns, beat
        self._posted: deque[tuple[int, Happening]] = deque()
        self._bell = Bell()
        self.stopping = False

    def fileno(self) -> int:
        """Return the descriptor, for `select`."""
        return self._bell.fileno()

    def post(self, happening: Happening) -> None:
        """Add an event, with the time."""
        self._posted.append((self._now_ns(), happening))
        self._bell.ring()

    def put_back(self, taken: Iterable[tuple[int, Happening]]) -> None:
        """Put events that were taken too early back in front of all others, in their order."""
        self._posted.extendleft(reversed(list(taken)))
        self._bell.ring()

    def stop(self, *_: object) -> None:
        """Ask the thread to end; may be used as a signal handler."""
        self.stopping = True
        self._bell.ring()

    def take(self, may: Callable[[], object] = lambda: True) -> Iterator[tuple[int, Happening]]:
        """Yield the posted events in order while `may` allows it; if any are left, the descriptor stays readable.

        Called once per iteration of the loop, so the iterations are counted here.
        """
        self._beat()
        self._bell.silence()
        for _ in range(min(MAX_A_TURN, len(self._posted))):
            if not may():
                break
            yield self._posted.popleft()
        if self._posted:
            self._bell.ring()


class ActiveController:
    """The loop of a controller that is active, or requests the role."""

    def __init__(
        self,
        balancer: LoadBalancer,
        inbox: Inbox,
        notify_socket: socket.socket,
        now_ns: Callable[[], int],
        emit: Emit,
        generation: int = PRIMARY_GENERATION,
        journal: Journal | None = None,
    ) -> None:
        """Store the parts; nothing is sent yet.

        Args:
            balancer: what decides.
            inbox: receives the events of the switch.
            notify_socket: non-blocking UDP socket of the nodes' notifications.
            now_ns: the run's clock.
            emit: takes ``(t_ns, record)``.
            generation: generation id for the request of the master role.
            journal: the connection to the standby; None: there is no other controller, or none that could take over.
        """
        self._balancer, self._inbox, self._notify_socket = balancer, inbox, notify_socket
        self._now_ns, self._emit = now_ns, emit
        self._generation, self._journal = generation, journal
        self._connection: Connection | None = None
        self._request: int | None = None  # the last request for the role
        self._master = self._doubting = self._deposed = False
        self._allowed_ns = now_ns()
        self._held: list[
            tuple[int, Happening]
        ] = []  # events held back until the role is granted, for some milliseconds

    def until_stopped(self) -> None:
        """Run until `Inbox.stop` is called."""
        while not self._inbox.stopping:
            self._turn()

    def take(self, happening: Happening, happened_ns: int) -> None:
        """Process the events that the framework reported."""
        if isinstance(happening, Connected):
            self._connected(happening, happened_ns)
        elif isinstance(happening, Disconnected):
            self._disconnected(happening)
        elif isinstance(happening, MasterGranted):
            self._granted(happening)
        elif isinstance(happening, Deposed):
            self._retire()
        elif isinstance(happening, (PortChanged, PacketIn)) and not self._master:  # they cause messages to the switch
            if not self._deposed:
                self._held.append((happened_ns, happening))
        else:
            self._balancer.on_switch(happening, happened_ns, self._allowed_ns)

    def _turn(self) -> None:
        heard = [self._inbox.fileno()] if self._passive else [self._inbox.fileno(), self._notify_socket.fileno()]
        waiting.readable(heard, self._wait_ns())
        self._ship()  # first, because a primary that was stopped must request its role before it acts
        for happened_ns, happening in self._inbox.take(self._may_act):
            self.take(happening, happened_ns)
        if not self._passive:
            self._take_datagrams()
            if self._may_act():
                self._balancer.on_time(self._allowed_ns)
            self._ship()

    def _may_act(self) -> bool:
        """Return whether the lease allows one more input; the input gets the time of this check.

        The process may be stopped between any two instructions.  An input with a time read after the look could be
        stamped after the stop, as if it had been taken in without a lease.
        """
        now_ns = self._now_ns()
        allowed = self._journal is None or not self._journal.lease_is_over(now_ns)
        if allowed:
            self._allowed_ns = now_ns
        return allowed

    @property
    def _passive(self) -> bool:
        return self._doubting or self._deposed

    def _wait_ns(self) -> int:
        due_ns = None if self._passive else self._balancer.next_deadline_ns()
        return LONGEST_WAIT_NS if due_ns is None else min(LONGEST_WAIT_NS, max(0, due_ns - self._now_ns()))

    def _take_datagrams(self) -> None:
        for _ in range(MAX_A_TURN):
            if not self._may_act():
                return
            try:
                datagram, sender = self._notify_socket.recvfrom(MAX_DATAGRAM_BYTES)
            except BlockingIOError:
                return
            self._balancer.on_datagram(datagram, self._allowed_ns, sender)

    def _ship(self) -> None:
        if self._journal is None:
            return
        self._journal.ship(self._now_ns())
        if self._journal.lost:
            self._journal = None
            self._tell(StandbyLost())
            self._doubting = True
            self._ask()

    # -------------------------------------------------------------------------------------------------- the role

    def _connected(self, happening: Connected, happened_ns: int) -> None:
        self._connection = happening.connection
        ports = sorted(happening.ports_up.items())
        far = [held for held in self._held if isinstance(held[1], PortChanged) and is_far(held[1].port)]
        self._held = [*far, *((happened_ns, PortChanged(port, up)) for port, up in ports)]
        self._ask()

    def _disconnected(self, happening: Disconnected) -> None:
        if happening.connection is not self._connection:
            return
        self._lay_down()
        self._connection, self._request = None, None
        self._held.clear()
        self._tell(SwitchLost())

    def _ask(self) -> None:
        """Request the master role; until it is granted, this controller counts as not having it."""
        self._lay_down()
        if self._connection is not None and not self._deposed:
            self._request = self._connection.request_role(Role.MASTER, self._generation)

    def _granted(self, answer: MasterGranted) -> None:
        if answer.connection is not self._connection or answer.request != self._request or self._deposed:
            return
        self._master, self._doubting = True, False
        self._balancer.activate(answer.link, self._allowed_ns)
        self._balancer.prepare(answer.connection)  # while the switch processes the request
        self._inbox.put_back(self._held)
        self._held = []

    def _lay_down(self) -> None:
        self._master = False
        self._balancer.release()

    def _retire(self) -> None:
        if not self._deposed:
            self._deposed = True
            self._lay_down()
            self._held.clear()
            self._tell(ControllerDeposed())

    def _tell(self, record: LogEntry) -> None:
        self._emit(self._now_ns(), written(record, BALANCER))


def serve(
    config: BalancerConfig, notify_socket: socket.socket, emit: Emit, standby: socket.socket | None = None
) -> None:
    """Balance until SIGTERM; the `BalancerReady` record says that every flow is in force.

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
    inbox = Inbox(config.now_ns, config.beat)
    journal = None if standby is None else Journal(standby)
    note = None if journal is None else journal.note
    balancer = LoadBalancer(config, emit, sender_of(notify_socket), note)
    with stopping_on_sigterm(inbox.stop):
        connection.listen(config.framework, config.listen_port, config.dpid, inbox.post)
        config.listening()
        ActiveController(balancer, inbox, notify_socket, config.now_ns, emit, journal=journal).until_stopped()
    balancer.stop(config.now_ns())


def sender_of(notify_socket: socket.socket) -> Callable[[bytes, Address], None]:
    """Make the socket non-blocking and return a function that sends datagrams to nodes through it."""
    notify_socket.setblocking(False)

    def send(datagram: bytes, address: Address) -> None:
        notify_socket.sendto(datagram, address)

    return send


@contextmanager
def stopping_on_sigterm(stop: Callable[..., None]) -> Iterator[None]:
    """Call `stop` on SIGTERM; signals of a terminal are handled by the supervisor."""
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
