"""The mesh member of a node: `policies.membership` over real UDP sockets on the mesh network.

    wake (datagram or deadline) ─ receive all that waits ─ deadline? ─ membership ─ one datagram, to each recipient

It is a process of its own beside the agent, as a node would have it: the agent's loop is late for reasons of its
own, and a node must not be taken for dead because it is busy deciding.  It dies with the node.  The fixed priority,
just above the agent's, keeps a busy machine from looking like a dead one.

Recorded is what it concludes, not each of some hundred heartbeats a second: which heartbeats it stopped receiving
(`MemberSilent`, `MemberHeard`), which nodes are dead by agreement (`MemberDied`, `MemberReturned`), and at the end how
many datagrams it sent, received and ignored (`MeshStopped`).
"""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from testbed.emulation.processes.channel import EventRecord, RecordWriter
from testbed.emulation.processes.members import Line, Stopped
from testbed.emulation.processes.pulse import Pulse
from testbed.emulation.processes.shared_state import PeersState, SharedPeers, SharedState
from testbed.policies.base import require_progress
from testbed.policies.membership import Membership
from testbed.records.events import (
    Action,
    DeadlineReached,
    Event,
    LogEntry,
    NodeLeft,
    SendHeartbeat,
    SendStates,
    SendSuspicions,
    StatesHeard,
)
from testbed.records.processes import MemberDied, MemberHeard, MemberReturned, MemberSilent, MeshStopped
from testbed.scenario.mesh import MeshSpec
from testbed.system import kernel, waiting
from testbed.units import NS_PER_US
from testbed.wire.mesh_messages import Codec
from testbed.wire.sealing import MAX_DATAGRAM_BYTES, Keyring

MESH_PORT = 7001
REAL_TIME_PRIORITY = 11
_MAX_DATAGRAMS_A_TURN = 64
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
        pulse: beaten every turn.
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
    pulse: Pulse


class MeshMember:
    """Runs as a member of the trial."""

    def __init__(self, parts: MeshParts) -> None:
        self._parts, self._name = parts, f"mesh:{parts.node}"
        self._silent: frozenset[str] = frozenset()
        self._taken_ns = -1  # of the last state of our own
        self._sent = self._unsent = self._heard = self._late_max_ns = 0

    def __call__(self, line: Line, records: RecordWriter) -> None:
        """Be the member until SIGTERM."""
        parts, self._records = self._parts, records
        stopped = Stopped()
        kernel.enter_namespace(f"/proc/{parts.namespace_pid}/ns/net", kernel.CLONE_NEWNET)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        self._socket.bind(parts.address_of[parts.node])
        kernel.sharpen_timers()
        kernel.run_in_real_time(REAL_TIME_PRIORITY)
        self._t0_ns = line.ready()
        _sleep_until_start(self._t0_ns)
        parts.pulse.begin(time.monotonic_ns())
        born_ns = self._now_ns()  # above that of any life before: the run's clock does not go back
        self._codec = Codec(parts.ring, self._now_ns, born_ns)
        self._policy = Membership(parts.node, parts.members, parts.spec, random.Random(parts.seed), incarnation=born_ns)
        self._feed(DeadlineReached(), self._now_ns())
        while not stopped:
            self._turn()
        self._tell(
            MeshStopped(
                sent=self._sent,
                unsent=self._unsent,
                heard=self._heard,
                ignored=dict(self._codec.ignored),
                late_max_us=self._late_max_ns / NS_PER_US,
            )
        )

    def _turn(self) -> None:
        due_ns = self._policy.next_deadline_ns() or 0
        wait_ns = min(self._parts.pulse.period_ns, max(0, due_ns - self._now_ns()))
        waiting.readable([self._socket.fileno()], wait_ns)
        self._parts.pulse.beat(time.monotonic_ns())
        self._hear()
        now_ns = self._now_ns()
        if now_ns >= due_ns:
            self._late_max_ns = max(self._late_max_ns, now_ns - due_ns)
            self._take_own_state()
            now_ns = self._now_ns()
            self._feed(DeadlineReached(), now_ns)
            require_progress(self._name, self._policy, now_ns)
            self._parts.peers.publish(PeersState(now_ns, self._policy.peers_severity_ratio(now_ns)))
        self._report()

    def _hear(self) -> None:
        for _ in range(_MAX_DATAGRAMS_A_TURN):
            try:
                event = self._codec.decode(self._socket.recv(MAX_DATAGRAM_BYTES))
            except OSError:
                return
            if event is not None:
                self._heard += 1
                self._feed(event, self._now_ns())

    def _take_own_state(self) -> None:
        state = self._parts.state.read()
        if state is None or state.taken_ns == self._taken_ns:
            return
        self._taken_ns = state.taken_ns
        columns = {name: np.array((value,)) for name, value in state._asdict().items()}
        self._feed(StatesHeard(nodes=(self._parts.node,), **columns), self._now_ns())

    def _feed(self, event: Event, now_ns: int) -> None:
        for action in self._policy.handle(event, now_ns):
            self._send(action)

    def _send(self, action: Action) -> None:
        assert isinstance(action, (SendHeartbeat, SendStates, SendSuspicions))
        for name, datagram in self._codec.datagrams(action):
            try:
                self._socket.sendto(datagram, self._parts.address_of[name])
                self._sent += 1
            except OSError:
                self._unsent += 1  # nobody listens there, or the link is down: the next one is some milliseconds off

    def _report(self) -> None:
        silent = self._policy.silent
        if silent != self._silent:
            for node in sorted(silent ^ self._silent):
                self._tell(MemberSilent(node=node) if node in silent else MemberHeard(node=node))
            self._silent = silent
        for verdict in self._policy.verdicts():
            fate = MemberDied if isinstance(verdict, NodeLeft) else MemberReturned
            self._tell(fate(node=verdict.node))

    def _tell(self, record: LogEntry) -> None:
        self._records.send(EventRecord.of(self._now_ns(), record, self._name))

    def _now_ns(self) -> int:
        return time.monotonic_ns() - self._t0_ns


def _sleep_until_start(t0_ns: int) -> None:
    if time.monotonic_ns() < t0_ns:
        kernel.sleep_until(t0_ns)
