"""The agent of a node: every sample interval it reads the kernel, lets the brain decide and carries the decision out.

    wake ─ snapshot of the XDP program ─ TrafficSampled ─ brain ─┬ RequestLimit → pool → LimitGranted → brain
                                                                  ├ SetBufferLimit → one store into the program's map
                                                                  └ NotifyBalancer → one datagram on the mesh network

On waking it also takes the datagrams that name a sibling, to whom the program hands packets when the buffer is full.

The agent decides nothing.  It wakes at absolute times, so lateness never adds up, and the nodes of a cluster wake one
after the other within the interval rather than all at once.  Everything the brain was given and everything it said is
recorded, with the time it was told: that history is what `replay` feeds to the code of another day.
"""

from __future__ import annotations

import gc
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from testbed.emulation.dataplane.limit_watch import LimitWatch
from testbed.emulation.dataplane.xdp import NodeProgram, SinkProgram
from testbed.emulation.dataplane.xdp_meter import NodeCounters, NodeLook
from testbed.emulation.network.shaping import QdiscReader
from testbed.emulation.processes.channel import EventRecord, RecordWriter, Sampled
from testbed.emulation.processes.members import Line, Stopped
from testbed.emulation.processes.pool_lock import locked, open_lock
from testbed.emulation.processes.pulse import Pulse
from testbed.emulation.processes.shared_state import NodeState, SharedPeers, SharedState
from testbed.policies.base import require_progress
from testbed.policies.brain import NodeBrain
from testbed.policies.membership import BALANCER
from testbed.policies.pool import Pool
from testbed.records.events import (
    Action,
    DeadlineReached,
    Event,
    NodeJoined,
    NotifyBalancer,
    PeersAssessed,
    RequestLimit,
    SampleRow,
    SetBufferLimit,
    TrafficSampled,
)
from testbed.records.processes import NotificationLost, SiblingSet
from testbed.records.written import Direction
from testbed.system import kernel
from testbed.wire import notification
from testbed.wire.sealing import MAX_DATAGRAM_BYTES, Channel, Keyring, Opener, Sealer

REAL_TIME_PRIORITY = 10
RESTARTED = "restart"  # the reason in the record that a fresh brain begins with
_FLUSH_ROWS = 10
_COLLECT_ROWS = 1000  # what a loop leaves is freed by counting; cycles come from errors alone


@dataclass(frozen=True, slots=True)
class AgentParts:
    """What an agent works with; all of it made before the fork, the maps shared with the kernel.

    Attributes:
        node: its name.
        namespace_pid: a process in the node's network namespace.
        egress: the interface whose qdisc is the queue.
        program, sink: the XDP programs of the node and of what lies behind it.
        brain, pool: the policies; the pool's ledger is shared memory, used under the lock file.
        interval_ns, phase_ns: the agent wakes at t0 + phase + k * interval.
        balancer: where notifications go.
        ring: the node's keys.
        state: where the node's mesh member looks for its state.
        peers: where that member leaves what the other nodes announce.
        peers_fresh_ns: how old that may be and still count.
        pulse: beaten at every tick.
        limits: told of every limit that is set, and of what the packets met.
        mac_of: address of each node a sibling may be; empty when full nodes drop.
        unplanned: other traffic than planned packets shares the queue, so the sink does not see all that is delivered.
    """

    node: str
    namespace_pid: int
    egress: str
    program: NodeProgram
    sink: SinkProgram
    brain: NodeBrain
    pool: Pool
    interval_ns: int
    phase_ns: int
    balancer: tuple[str, int]
    ring: Keyring
    state: SharedState
    peers: SharedPeers
    peers_fresh_ns: int
    pulse: Pulse
    limits: LimitWatch
    mac_of: Mapping[str, str] = field(default_factory=dict)
    unplanned: bool = False


def _measured(before: NodeCounters, look: NodeLook) -> dict[str, int]:
    """Return what a node saw since its last sample, by the names that `TrafficSampled` and the row share."""
    now, interval = look.counters, look.interval
    return {
        "arrived_bytes": now.arrived_bytes - before.arrived_bytes,
        "arrived_pkts": now.arrived_pkts - before.arrived_pkts,
        "dropped_bytes": now.dropped_bytes - before.dropped_bytes,
        "dropped_pkts": now.dropped_pkts - before.dropped_pkts,
        "backlog_bytes": look.backlog_bytes,
        "limit_bytes": now.limit_bytes,
        "new_flows": interval.new_flows,
        "gap_max_ns": interval.gap_max_ns,
        "peak_1ms_bytes": interval.peak_1ms_bytes,
    }


class Agent:
    """Runs as a member of the trial."""

    def __init__(self, parts: AgentParts) -> None:
        self._parts = parts
        self._policy = f"brain:{parts.node}"
        self._nodes = (parts.node,)
        self._t0_ns = 0
        self._last_wake_ns = 0
        self._pending: list[tuple[int, str, Direction, Event | Action]] = []
        self._rows = 0
        self._pool_lock = -1
        self._sibling = ""
        self._peers_severity = 0.0
        self._decide_ns = 0
        self._record_ns: int | None = None

    def __call__(self, line: Line, records: RecordWriter) -> None:
        """Be the agent until SIGTERM."""
        self._records = records
        stopped = Stopped()
        self._pool_lock = open_lock()
        kernel.enter_namespace(f"/proc/{self._parts.namespace_pid}/ns/net", kernel.CLONE_NEWNET)
        self._qdisc = QdiscReader(self._parts.egress)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        self._socket.connect(self._parts.balancer)
        kernel.sharpen_timers()
        kernel.run_in_real_time(REAL_TIME_PRIORITY)
        self._t0_ns = line.ready()
        self._sealer = Sealer(self._parts.ring, Channel.NOTIFICATION, self._now_ns)
        self._opener = Opener(self._parts.ring, Channel.SIBLINGS, self._now_ns())
        self._before = self._parts.program.look(time.monotonic_ns()).counters
        self._parts.limits.begin(self._parts.program.limit_bytes)
        self._last_wake_ns = max(self._t0_ns, time.monotonic_ns())
        if self._last_wake_ns > self._t0_ns:  # a node that starts anew does so with a fresh brain
            self._record(self._now_ns(), "in", NodeJoined(node=self._parts.node, reason=RESTARTED))
        gc.disable()  # the collector runs between two samples, never between a sample and its decision
        self._loop(stopped)

    def _loop(self, stopped: Stopped) -> None:
        interval_ns = self._parts.interval_ns
        tick_ns = _tick_after(self._t0_ns + self._parts.phase_ns + interval_ns, interval_ns, self._last_wake_ns)
        self._parts.pulse.begin(tick_ns - interval_ns)
        while not stopped:
            self._sleep_towards(tick_ns)
            woke_ns = time.monotonic_ns()
            self._parts.pulse.beat(woke_ns)
            self._take_names()
            self._hear_peers()
            self._sample(tick_ns, woke_ns)
            # A tick that was missed altogether is left out, not caught up: two samples at once would both be wrong.
            tick_ns = _tick_after(tick_ns + interval_ns, interval_ns, time.monotonic_ns())

    def _sleep_towards(self, tick_ns: int) -> None:
        """Sleep until the tick; serve the brain's own deadlines on the way."""
        while True:
            deadline = self._parts.brain.next_deadline_ns()
            due_ns = tick_ns if deadline is None else min(tick_ns, self._t0_ns + deadline)
            kernel.sleep_until(due_ns)
            if due_ns >= tick_ns:
                return
            now_ns = self._now_ns()
            self._feed_at(DeadlineReached(), now_ns, record=True)
            require_progress(self._policy, self._parts.brain, now_ns)

    def _take_names(self) -> None:
        """Put the sibling into force that the balancer named last."""
        name = self._sibling
        while self._parts.mac_of:
            try:
                opened = self._opener.open(self._socket.recv(MAX_DATAGRAM_BYTES))
                if opened is None:
                    continue
                answer = notification.decode_siblings(opened.body)
            except ValueError:
                continue
            except OSError:
                break  # nothing (more) there, or the balancer is away: the last name stays
            name = dict(zip(answer.nodes, answer.siblings, strict=True)).get(self._parts.node, name)
        if name != self._sibling and (not name or name in self._parts.mac_of):
            self._sibling = name
            self._parts.program.set_sibling(self._parts.mac_of.get(name))
            self._records.add(EventRecord.of(self._now_ns(), SiblingSet(node=self._parts.node, sibling=name)))

    def _hear_peers(self) -> None:
        """Tell the brain when the other nodes announce more or less than before; old news count as nothing."""
        state = self._parts.peers.read() if self._parts.brain.heeds_peers else None
        now_ns = self._now_ns()
        fresh_ns = self._parts.peers_fresh_ns
        severity = state.severity_ratio if state is not None and state.taken_ns > now_ns - fresh_ns else 0.0
        if severity != self._peers_severity:
            self._peers_severity = severity
            self._feed_at(PeersAssessed(nodes=self._nodes, severity_ratio=np.array((severity,))), now_ns, record=True)

    def _sample(self, tick_ns: int, woke_ns: int) -> None:
        parts = self._parts
        now_ns = time.monotonic_ns()
        look = parts.program.look(now_ns)
        delivered_bytes, delivered_at_ns = parts.sink.delivered()
        before, self._before = self._before, look.counters
        measured = _measured(before, look)
        deflected_pkts = look.counters.deflected_pkts - before.deflected_pkts
        interval_ns, self._last_wake_ns = now_ns - self._last_wake_ns, now_ns
        t_ns, self._decide_ns = now_ns - self._t0_ns, 0
        parts.limits.look(t_ns, look, measured["dropped_pkts"] + deflected_pkts)
        looked_ns = time.monotonic_ns()
        self._feed_at(TrafficSampled.of_one(self._nodes, interval_ns, measured), t_ns, record=False)
        predicted_bytes, severity = int(parts.brain.predicted_bytes[0]), float(parts.brain.severity_ratio[0])
        limit_bytes = parts.program.limit_bytes
        parts.state.publish(NodeState(t_ns, limit_bytes, look.backlog_bytes, predicted_bytes, severity))
        done_ns = time.monotonic_ns()
        qdisc_bytes, beside_bytes, sent_bytes, read_ns = self._beside(look.backlog_bytes)
        row = SampleRow(
            t_ns=t_ns,
            node=parts.node,
            **measured,
            qdisc_backlog_bytes=qdisc_bytes,
            backlog_beside_bytes=beside_bytes,
            predicted_bytes=predicted_bytes,
            severity_ratio=severity,
            deflected_bytes=look.counters.deflected_bytes - before.deflected_bytes if parts.mac_of else None,
            deflected_pkts=deflected_pkts if parts.mac_of else None,
            delivered_bytes=sent_bytes if parts.unplanned else delivered_bytes,
            delivered_t_ns=self._delivered_ns(read_ns, delivered_at_ns),
            loop_ns=done_ns - woke_ns,
            lateness_ns=woke_ns - tick_ns,
            look_ns=looked_ns - woke_ns,
            decide_ns=self._decide_ns,
            act_ns=done_ns - looked_ns - self._decide_ns,
            record_ns=self._record_ns,
        )
        self._records.add(Sampled(self._policy, interval_ns, row))
        self._actions_out()
        self._record_ns = time.monotonic_ns() - done_ns

    def _beside(self, backlog_bytes: int) -> tuple[int | None, int | None, int, int]:
        """Return the backlog of the qdisc, that of the program beside it, what the qdisc has sent, and when it was so.

        The qdisc is evidence and decides nothing, and to ask for it may wait for a lock of the whole kernel (RTNL), so
        it is read when the decision is made.  The queue is then looked at again, back to back: at 500 Mbit/s 100 us
        between them are 6 kB.  While nothing waits one tick in `_FLUSH_ROWS` suffices to show that both are empty.
        """
        wanted = backlog_bytes or self._parts.unplanned or self._rows % _FLUSH_ROWS == 0
        qdisc, read_ns = self._qdisc.find() if wanted else None, time.monotonic_ns()
        if qdisc is None:  # or somebody has taken it away, which the inventory names
            return None, None, 0, read_ns
        return qdisc.backlog_bytes, self._parts.program.backlog_bytes(read_ns), qdisc.sent_bytes, read_ns

    def _delivered_ns(self, now_ns: int, last_ns: int) -> int:
        """Return the time the delivered bytes are of: of the last delivery, or of the look at the qdisc."""
        last_ns = now_ns if self._parts.unplanned else last_ns
        return last_ns - self._t0_ns if last_ns else 0

    def _now_ns(self) -> int:
        return time.monotonic_ns() - self._t0_ns

    def _feed_at(self, event: Event, now_ns: int, *, record: bool) -> None:
        """Hand an event to the brain and carry its actions out.

        A sample is not recorded here: its row stands for it, and the supervisor writes the event from the row.
        """
        if record:
            self._record(now_ns, "in", event)
        began_ns = time.monotonic_ns()
        actions = self._parts.brain.handle(event, now_ns)
        self._decide_ns += time.monotonic_ns() - began_ns
        for action in actions:
            self._record(now_ns, "out", action)
        # The pool's answers come after all actions of this event: what they lead to is newer, a notification above all.
        answers = [answer for action in actions for answer in self._carry_out(action)]
        for answered_ns, granted in answers:
            self._feed_at(granted, answered_ns, record=True)

    def _carry_out(self, action: Action) -> list[tuple[int, Event]]:
        """Do what the action says; return the events it led to, with their times."""
        if isinstance(action, RequestLimit):
            return self._ask_pool(action)
        if isinstance(action, SetBufferLimit):
            self._parts.program.set_limit(limit_bytes := int(action.limit_bytes[0]))
            self._parts.limits.put(limit_bytes)
        elif isinstance(action, NotifyBalancer):
            self._notify(action)
        return []

    def _ask_pool(self, request: RequestLimit) -> list[tuple[int, Event]]:
        """Return the pool's answers, each with the time it was given; times under the lock order the pool's history."""
        with locked(self._pool_lock):
            now_ns = self._now_ns()
            answers = self._parts.pool.handle(request, now_ns)
        self._record(now_ns, "in", request, policy="pool")
        for answer in answers:
            self._record(now_ns, "out", answer, policy="pool")
        return [(now_ns, answer) for answer in answers]

    def _notify(self, action: NotifyBalancer) -> None:
        try:
            for _, datagram in self._sealer.seal(notification.encode(action), (BALANCER,)):
                self._socket.send(datagram)
        except OSError:
            # The balancer is away, or the mesh is full: the next notification is 100 ms off at most and tells all.
            self._records.add(EventRecord.of(self._now_ns(), NotificationLost(node=self._parts.node)))

    def _record(self, now_ns: int, direction: Direction, record: Event | Action, policy: str = "") -> None:
        # Rendered later, in `_actions_out`, after the decision has taken effect.
        self._pending.append((now_ns, policy or self._policy, direction, record))

    def _actions_out(self) -> None:
        """Hand what was recorded over to the supervisor, batched: 100 ms of it at a time."""
        for now_ns, policy, direction, record in self._pending:
            self._records.add(EventRecord.of(now_ns, record, policy, direction))
        self._pending = []
        self._rows += 1
        if self._rows % _FLUSH_ROWS == 0:
            self._records.flush()
        if self._rows % _COLLECT_ROWS == 0:
            gc.collect(0)


def _tick_after(tick_ns: int, interval_ns: int, now_ns: int) -> int:
    """Return the first tick of the grid through `tick_ns` that is still to come, `tick_ns` at the earliest."""
    return tick_ns if now_ns < tick_ns else tick_ns + interval_ns * ((now_ns - tick_ns) // interval_ns + 1)
