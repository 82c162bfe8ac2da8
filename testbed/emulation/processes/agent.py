"""The agent of nodes: in every sample interval it reads the kernel's counters, calls the brain and applies its actions.

    wake ─ look at the XDP programs ─ TrafficSampled ─ brain ─┬ RequestLimit → pool → LimitGranted → brain
                                                               ├ SetBufferLimit → one store into a program's map
                                                               └ NotifyBalancer → a datagram a node on the mesh network

When it wakes, it also receives the datagrams that name a sibling, to which a program hands packets if the buffer is
full.

An agent serves the nodes of a cohort (`policies.cohorts`): the decisions of its nodes are independent, but computed
together with arrays.  The agent itself decides nothing.  It wakes at absolute times, so its lateness never accumulates.
The cohorts wake one after the other within the interval, not all at once.  All inputs and outputs of the brain are
recorded with their times; `replay` feeds this history to later versions of the code.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from testbed.emulation.dataplane.nodes_look import NodesLook, SinksReader, reader_of
from testbed.emulation.network.shaping import QdiscReader
from testbed.emulation.processes.agent_parts import AgentNode, AgentParts
from testbed.emulation.processes.channel import EventRecord, RecordWriter
from testbed.emulation.processes.notifier import Notifier
from testbed.emulation.processes.pool_lock import locked
from testbed.emulation.processes.sample_block import NULL, SampleRows, sampled
from testbed.emulation.processes.shared_state import NodeState
from testbed.policies.base import require_progress
from testbed.policies.cohorts import RESTARTED
from testbed.records.events import (
    Action,
    DeadlineReached,
    Event,
    Ints,
    NodeJoined,
    NotifyBalancer,
    PeersAssessed,
    RequestLimit,
    SetBufferLimit,
)
from testbed.records.processes import NotificationLost, SiblingSet
from testbed.records.written import Direction
from testbed.system import kernel

_FLUSH_TICKS = 10


class Agent:
    """Of the nodes of a cohort; `agents` is the process that runs it.

    Attributes:
        due_ns: when it wants to wake (CLOCK_MONOTONIC).
    """

    def __init__(self, parts: AgentParts, records: RecordWriter, pool_lock: int) -> None:
        """Open what it reads and speaks through; `pool_lock` is a descriptor of the process's own (`pool_lock`)."""
        self._parts, self._records, self._pool_lock = parts, records, pool_lock
        self._policy, self._brain = parts.policy, parts.brain
        self._nodes = tuple(node.name for node in parts.nodes)
        self._row_of = {name: row for row, name in enumerate(self._nodes)}
        self._t0_ns = self._last_wake_ns = self._tick_ns = 0
        self._pending: list[tuple[int, str, Direction, Event | Action]] = []
        self._lines: list[EventRecord] = []
        self._rows = SampleRows(parts.policy, self._nodes, _FLUSH_TICKS)
        self._ticks = 0
        self._sibling = dict.fromkeys(self._nodes, "")
        self._peers_severity = np.zeros(len(self._nodes))
        self._decide_ns, self._record_ns = 0, NULL
        self._qdiscs = [self._open_qdisc(node) for node in parts.nodes]
        speakers = [(node.namespace_pid, node.ring) for node in parts.nodes]
        self._notifier = Notifier(speakers, parts.balancer, self._now_ns)
        sinks = [node.sink for node in parts.nodes if node.sink is not None]
        self._sinks = SinksReader(sinks) if sinks and not parts.unplanned else None

    @staticmethod
    def _open_qdisc(node: AgentNode) -> QdiscReader:
        with kernel.network_of(node.namespace_pid):
            return QdiscReader(node.egress)

    def begin(self, t0_ns: int) -> None:
        """Begin the run, which starts at `t0_ns` or did so before: restarted nodes have a fresh brain."""
        self._t0_ns, interval_ns = t0_ns, self._parts.interval_ns
        self._notifier.begin()
        self._programs = reader_of([node.program for node in self._parts.nodes], time.monotonic_ns())
        self._parts.limits.begin(self._programs.limit_bytes())
        self._last_wake_ns = max(t0_ns, time.monotonic_ns())
        for node in self._nodes if self._last_wake_ns > t0_ns else ():
            self._record(self._now_ns(), "in", NodeJoined(node=node, reason=RESTARTED))
        self._tick_ns = _tick_after(t0_ns + self._parts.phase_ns + interval_ns, interval_ns, self._last_wake_ns)
        self._parts.pulse.begin(self._tick_ns - interval_ns)

    @property
    def due_ns(self) -> int:
        """Return when it is to wake: for its tick, or before that for a deadline of the brain."""
        deadline = self._brain.next_deadline_ns()
        return self._tick_ns if deadline is None else min(self._tick_ns, self._t0_ns + deadline)

    def wake(self, due_ns: int) -> None:
        """Do what is due."""
        if due_ns < self._tick_ns:
            now_ns = self._now_ns()
            self._feed_at(DeadlineReached(), now_ns, record=True)
            require_progress(self._policy, self._brain, now_ns)
            return
        woke_ns = time.monotonic_ns()
        self._parts.pulse.beat(woke_ns)
        self._take_names()
        self._hear_peers()
        self._sample(woke_ns)
        # A tick that was missed altogether is left out, not caught up: two samples at once would both be wrong.
        interval_ns = self._parts.interval_ns
        self._tick_ns = _tick_after(self._tick_ns + interval_ns, interval_ns, time.monotonic_ns())

    # --------------------------------------------------------------------------------------------------- what it hears

    def _take_names(self) -> None:
        """Put the siblings into force that the balancer named last."""
        if not self._parts.mac_of:
            return
        for node, name in dict(self._notifier.named()).items():
            if name != self._sibling[node] and (not name or name in self._parts.mac_of):
                self._sibling[node] = name
                self._parts.nodes[self._row_of[node]].program.set_sibling(self._parts.mac_of.get(name))
                self._lines.append(EventRecord.of(self._now_ns(), SiblingSet(node=node, sibling=name)))

    def _hear_peers(self) -> None:
        """Tell the brain where the other nodes announce more or less than before; old news count as nothing."""
        if not self._brain.heeds_peers:
            return
        states = [node.peers.read() for node in self._parts.nodes]
        now_ns = self._now_ns()
        since_ns = now_ns - self._parts.peers_fresh_ns
        severity = np.array([s.severity_ratio if s is not None and s.taken_ns > since_ns else 0.0 for s in states])
        changed = np.flatnonzero(severity != self._peers_severity)
        if len(changed):
            self._peers_severity = severity
            nodes = tuple([self._nodes[row] for row in changed.tolist()])
            self._feed_at(PeersAssessed(nodes=nodes, severity_ratio=severity[changed]), now_ns, record=True)

    # ------------------------------------------------------------------------------------------------------- the tick

    def _sample(self, woke_ns: int) -> None:
        now_ns = time.monotonic_ns()
        look, delivered = self._programs.look(now_ns), self._sinks.delivered() if self._sinks is not None else ()
        interval_ns, self._last_wake_ns = now_ns - self._last_wake_ns, now_ns
        t_ns, self._decide_ns = now_ns - self._t0_ns, 0
        self._parts.limits.look(t_ns, look)
        looked_ns = time.monotonic_ns()
        self._feed_at(sampled(self._nodes, interval_ns, look.measured), t_ns, record=False)
        self._publish(t_ns, look)
        done_ns = time.monotonic_ns()
        predicted, severity = self._brain.predicted_bytes, self._brain.severity_ratio
        others: dict[str, Ints | list[int] | int] = {
            "predicted_bytes": predicted,
            "loop_ns": done_ns - woke_ns,
            "lateness_ns": woke_ns - self._tick_ns,
            "look_ns": looked_ns - woke_ns,
            "decide_ns": self._decide_ns,
            "act_ns": done_ns - looked_ns - self._decide_ns,
            "record_ns": self._record_ns,
            **self._delivered(look, delivered),
        }
        if self._parts.mac_of:
            others |= {"deflected_bytes": look.deflected_bytes, "deflected_pkts": look.deflected_pkts}
        self._rows.add(t_ns, interval_ns, look.measured, severity, others)
        self._ticks += 1
        self._render()
        if self._rows.full:
            self.hand_over()
        self._record_ns = time.monotonic_ns() - done_ns

    def _publish(self, t_ns: int, look: NodesLook) -> None:
        """Leave the state of each node where its mesh member looks for it."""
        columns = (look.backlog_bytes, self._brain.predicted_bytes, self._brain.severity_ratio)
        limits = self._programs.limit_bytes()
        for node, limit, *rest in zip(self._parts.nodes, limits.tolist(), *(c.tolist() for c in columns), strict=True):
            node.state.publish(NodeState(t_ns, limit, *rest))

    def _delivered(self, look: NodesLook, delivered: Sequence[tuple[int, int]]) -> dict[str, list[int]]:
        """Return what was delivered and when, and the backlogs of qdisc and program back to back.

        The qdisc is evidence and decides nothing, and to ask for it may wait for a lock of the whole kernel (RTNL), so
        it is read when the decision is made.  The queue is then looked at again, back to back: at 500 Mbit/s 100 us
        between them are 6 kB.  While nothing waits one tick in `_FLUSH_TICKS` suffices to show that both are empty.
        """
        unplanned, count = self._parts.unplanned, len(self._nodes)
        qdisc_bytes, beside_bytes = [NULL] * count, [NULL] * count
        sent_bytes, last_ns = ([0] * count, [0] * count) if unplanned else map(list, zip(*delivered, strict=True))
        for row, backlog_bytes in enumerate(look.backlog_bytes.tolist()):
            wanted = backlog_bytes or unplanned or (self._ticks + row) % _FLUSH_TICKS == 0
            qdisc, read_ns = self._qdiscs[row].find() if wanted else None, time.monotonic_ns()
            if qdisc is not None:  # else somebody has taken it away, which the inventory names
                beside_bytes[row] = self._parts.nodes[row].program.backlog_bytes(read_ns)
                qdisc_bytes[row] = qdisc.backlog_bytes
            if unplanned:
                sent_bytes[row], last_ns[row] = 0 if qdisc is None else qdisc.sent_bytes, read_ns
        return {
            "qdisc_backlog_bytes": qdisc_bytes,
            "backlog_beside_bytes": beside_bytes,
            "delivered_bytes": sent_bytes,
            "delivered_t_ns": [t_ns - self._t0_ns if t_ns else 0 for t_ns in last_ns],
        }

    # ------------------------------------------------------------------------------------------------------- decisions

    def _now_ns(self) -> int:
        return time.monotonic_ns() - self._t0_ns

    def _feed_at(self, event: Event, now_ns: int, *, record: bool) -> None:
        """Hand an event to the brain and carry its actions out.

        A sample is not recorded here: its row stands for it, and the supervisor writes the event from the row.
        """
        if record:
            self._record(now_ns, "in", event)
        began_ns = time.monotonic_ns()
        actions = self._brain.handle(event, now_ns)
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
            for node, limit_bytes in zip(action.nodes, action.limit_bytes.tolist(), strict=True):
                row = self._row_of[node]
                self._parts.nodes[row].program.set_limit(limit_bytes)
                self._parts.limits.put(row, limit_bytes)
        elif isinstance(action, NotifyBalancer):
            for node in self._notifier.send(action):
                self._lines.append(EventRecord.of(self._now_ns(), NotificationLost(node=node)))
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

    # --------------------------------------------------------------------------------------------------------- records

    def _record(self, now_ns: int, direction: Direction, record: Event | Action, policy: str = "") -> None:
        # Rendered later, after the decision has taken effect.
        self._pending.append((now_ns, policy or self._policy, direction, record))

    def _render(self) -> None:
        for now_ns, policy, direction, record in self._pending:
            self._lines.append(EventRecord.of(now_ns, record, policy, direction))
        self._pending = []

    def hand_over(self) -> None:
        """Hand what was recorded over to the supervisor: samples first, which are inputs of what follows."""
        self._render()
        block = self._rows.take()
        for message in (*(() if block is None else (block,)), *self._lines):
            self._records.add(message)
        self._lines = []
        self._records.flush()


def _tick_after(tick_ns: int, interval_ns: int, now_ns: int) -> int:
    """Return the first tick of the grid through `tick_ns` that is still to come, `tick_ns` at the earliest."""
    return tick_ns if now_ns < tick_ns else tick_ns + interval_ns * ((now_ns - tick_ns) // interval_ns + 1)
