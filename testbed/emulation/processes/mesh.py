"""The mesh members of the nodes: `policies.membership` over real UDP sockets on the mesh network.

    wake (datagram or deadline) ─ receive what waits ─ deadlines ─ memberships ─ datagrams out ─ receive what came

One process hosts many members, but they are independent: each has a socket in the namespace of its node, keys, an
incarnation, and its own observations.  Its datagrams pass through the kernel, so a link that is down or a partition
affects each member separately.  If a fault stops or ends the processes of a node, the node has its own mesh process,
which is stopped or ended with it.

**Wake-ups do not grow with the number of nodes.**  Deadlines are served on a grid of a tenth of a heartbeat interval,
and the members start one after the other on this grid, in ten groups.  The kernel delivers a datagram while it is being
sent.  So the datagrams of a group are received in the same iteration, and only members in other processes wake this
process between its deadlines.

It is a separate process from the agents: the loop of an agent may be late, and a node must not be declared dead because
its agent is busy.  Its fixed priority, just above that of the agents, prevents a busy machine from looking like a dead
node.

Of each member, its conclusions are recorded, not the hundreds of heartbeats per second: nodes whose heartbeats are
missing (`MemberSilent`, `MemberHeard`), nodes that were declared dead (`MemberDied`, `MemberReturned`), and at the end
how many datagrams it sent, received and ignored (`MeshStopped`).
"""

from __future__ import annotations

import gc
import random
import select
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from testbed.emulation.processes.channel import EventRecord, RecordWriter
from testbed.emulation.processes.pulse import Pulse
from testbed.emulation.processes.shared_state import PeersState, SharedPeers, SharedState
from testbed.emulation.processes.trial_process import Stopped, TrialConnection
from testbed.policies.base import require_progress
from testbed.policies.membership import Membership
from testbed.records.events import Action, DeadlineReached, LogEntry, NodeLeft, StatesHeard
from testbed.records.processes import MemberDied, MemberHeard, MemberReturned, MemberSilent, MeshStopped
from testbed.scenario.mesh import MeshSpec
from testbed.system import kernel, waiting
from testbed.units import NS_PER_US
from testbed.wire.mesh_messages import MAX_BYTES, Codec, Decoder, Sent
from testbed.wire.sealing import Keyring

MESH_PORT = 7001
SHARED_MESH = "mesh"  # the process that hosts more than one member
REAL_TIME_PRIORITY = 11
GROUPS = 10  # of members that wake together, within a heartbeat
_MAX_DATAGRAMS_A_TURN = 64  # of one member
Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class MeshParts:
    """What a mesh member works with.

    Attributes:
        node: its name.
        namespace_pid: a process in the node's network namespace.
        address_of: where each member and the balancer listen.
        members: the nodes of the mesh, the same list everywhere.
        spec: times and numbers.
        ring: the node's keys.
        seed: of the draws of recipients in large meshes.
        state: what the agent publishes.
        peers: where the agent looks for what the others announce.
        absent: members that are not there when it begins.
    """

    node: str
    namespace_pid: int
    address_of: Mapping[str, Address]
    members: tuple[str, ...]
    spec: MeshSpec
    ring: Keyring
    seed: int
    state: SharedState
    peers: SharedPeers
    absent: tuple[str, ...] = ()


class HostedMember:
    """One member: its socket, its policy, its evidence.

    Attributes:
        socket: non-blocking, in the namespace of the node.
        due_ns: when it wants to be woken, on the grid of its host; of the run's clock.
    """

    def __init__(
        self, parts: MeshParts, tell: Callable[[str, LogEntry], None], now_ns: Callable[[], int], decoder: Decoder
    ) -> None:
        self._parts, self._tell, self._now_ns, self._decoder = parts, tell, now_ns, decoder
        self._name = f"mesh:{parts.node}"
        self._grid_ns = parts.spec.heartbeat_ns // GROUPS
        self._silent: frozenset[str] = frozenset()
        self._taken_ns = -1  # of the last state of our own
        self._sent = self._unsent = self._heard = self._late_max_ns = 0
        self._news = False  # states were heard, or time has passed
        self.socket = _bound_in(parts.namespace_pid, parts.address_of[parts.node])

    def begin(self, at_ns: int) -> None:
        """Begin a life, with the first wake-up at a time to come."""
        parts, born_ns = self._parts, self._now_ns()  # above that of any life before: the clock does not go back
        self._codec = Codec(parts.ring, self._now_ns, born_ns, self._decoder)
        self._policy = Membership(
            parts.node, parts.members, parts.spec, random.Random(parts.seed), incarnation=born_ns, absent=parts.absent
        )
        self.due_ns = at_ns

    def hear(self) -> None:
        """Process one datagram, if there is one."""
        try:
            datagram = self.socket.recv(MAX_BYTES)
        except OSError:
            return
        events = self._codec.decode(datagram)
        self._heard += bool(events)
        for event in events:
            self._news |= type(event) is StatesHeard
            if actions := self._policy.handle(event, self._now_ns()):
                self._send(actions)

    def wake(self) -> None:
        """Serve the deadline that has come."""
        self._late_max_ns = max(self._late_max_ns, self._now_ns() - self.due_ns)
        actions = self._own_state()
        now_ns = self._now_ns()
        actions += self._policy.handle(DeadlineReached(), now_ns)
        self._send(actions)
        require_progress(self._name, self._policy, now_ns)

    def settle(self) -> None:
        """Report what has come of this turn."""
        self.due_ns = _next_on(self._grid_ns, self._policy.next_deadline_ns() or 0)
        if self._news:
            self._news, now_ns = False, self._now_ns()
            self._parts.peers.publish(PeersState(now_ns, self._policy.peers_severity_ratio(now_ns)))
        silent = self._policy.silent
        if silent != self._silent:
            for node in sorted(silent ^ self._silent):
                self._tell(self._name, MemberSilent(node=node) if node in silent else MemberHeard(node=node))
            self._silent = silent
        for conclusion in self._policy.conclusions():
            fate = MemberDied if isinstance(conclusion, NodeLeft) else MemberReturned
            self._tell(self._name, fate(node=conclusion.node))

    def stop(self) -> None:
        """Leave the last record and the network."""
        self.socket.close()
        stopped = MeshStopped(
            sent=self._sent,
            unsent=self._unsent,
            heard=self._heard,
            ignored=dict(self._codec.ignored),
            late_max_us=self._late_max_ns / NS_PER_US,
        )
        self._tell(self._name, stopped)

    def _own_state(self) -> list[Action]:
        """Hand in the node's own state, when there is a new one that would be sent."""
        now_ns = self._now_ns()
        if not self._policy.would_send(self._parts.state.severity_ratio, now_ns):
            return []
        state = self._parts.state.read()
        if state is None or state.taken_ns == self._taken_ns:
            return []
        self._taken_ns, self._news = state.taken_ns, True
        columns = {name: np.array((value,)) for name, value in state._asdict().items()}
        return self._policy.handle(StatesHeard(nodes=(self._parts.node,), **columns), now_ns)

    def _send(self, actions: Sequence[Action]) -> None:
        to = self._parts.address_of
        for name, datagram in self._codec.datagrams(cast(Sequence[Sent], actions)):
            try:
                self.socket.sendto(datagram, to[name])
                self._sent += 1
            except OSError:
                self._unsent += 1  # nobody listens there, or the link is down: the next one is some milliseconds off


class MeshHost:
    """The body of a process of the trial that hosts the mesh members of some nodes."""

    def __init__(self, parts: Sequence[MeshParts], pulse: Pulse) -> None:
        """Host a member for each of the parts, all of one mesh; the pulse is beaten every turn."""
        self._parts, self._pulse = parts, pulse

    def __call__(
        self, trial: TrialConnection, records: RecordWriter, stopped: Callable[[], bool] | None = None
    ) -> None:
        """Be the members until SIGTERM, or until `stopped` says so."""
        self._records, self._t0_ns = records, 0
        stopped = stopped or Stopped().__bool__
        decoder = Decoder(self._parts[0].ring.members)
        self._members = [HostedMember(parts, self._tell, self._now_ns, decoder) for parts in self._parts]
        self._member_of: dict[int, HostedMember] = {}
        self._ready = select.epoll()
        kernel.sharpen_timers()
        kernel.run_in_real_time(REAL_TIME_PRIORITY)
        self._t0_ns = trial.ready()
        _sleep_until_start(self._t0_ns)
        self._pulse.begin(time.monotonic_ns())
        self._begin()
        gc.disable()  # what a turn leaves is freed by counting; cycles come from errors alone
        while not stopped():
            self._turn()
        for member in self._members:
            member.stop()
        self._ready.close()

    def _begin(self) -> None:
        """Let the members begin one after the other, within a heartbeat."""
        heartbeat_ns, now_ns = self._parts[0].spec.heartbeat_ns, self._now_ns()
        grid_ns = heartbeat_ns // GROUPS
        for place, member in enumerate(self._members):
            phase_ns = heartbeat_ns * place // len(self._members)
            member.begin(_next_on(grid_ns, now_ns) + phase_ns // grid_ns * grid_ns)

    def _turn(self) -> None:
        wait_ns = min(member.due_ns for member in self._members) - self._now_ns()
        waiting.readable([self._ready.fileno()], max(0, min(self._pulse.period_ns, wait_ns)))
        self._pulse.beat(time.monotonic_ns())
        touched = self._hear()
        now_ns = self._now_ns()
        for member in self._members:
            if member.due_ns <= now_ns:
                self._listen_to(member)
                member.wake()
                touched.add(member)
        touched |= self._hear()
        for member in touched:
            member.settle()
        if touched:
            self._records.flush()

    def _listen_to(self, member: HostedMember) -> None:
        """Hear a member's datagrams from its first wake-up on; one before that would begin its life."""
        if member.socket.fileno() not in self._member_of:
            self._member_of[member.socket.fileno()] = member
            self._ready.register(member.socket, select.EPOLLIN)

    def _hear(self) -> set[HostedMember]:
        """Let the members hear what waits, one datagram of each after the other, and return who heard something."""
        heard: set[HostedMember] = set()
        for _ in range(_MAX_DATAGRAMS_A_TURN):
            ready = self._ready.poll(0)
            if not ready:
                break
            for descriptor, _ in ready:
                member = self._member_of[descriptor]
                member.hear()
                heard.add(member)
        return heard

    def _tell(self, name: str, record: LogEntry) -> None:
        self._records.add(EventRecord.of(self._now_ns(), record, name))

    def _now_ns(self) -> int:
        return time.monotonic_ns() - self._t0_ns


def _bound_in(namespace_pid: int, address: Address) -> socket.socket:
    """Return a socket in the network namespace of a process, which is this process's own from then on."""
    kernel.enter_namespace(f"/proc/{namespace_pid}/ns/net", kernel.CLONE_NEWNET)
    bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    bound.bind(address)
    return bound


def _next_on(grid_ns: int, at_ns: int) -> int:
    """Return the first instant of a grid that is not before a time."""
    return -(-at_ns // grid_ns) * grid_ns


def _sleep_until_start(t0_ns: int) -> None:
    if time.monotonic_ns() < t0_ns:
        kernel.sleep_until(t0_ns)
