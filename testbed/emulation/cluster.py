"""Nodes that are added and drained while traffic flows: executes the decisions of `policies.orchestrator`.

    StartNode ─ agent and mesh member forked ─ both ready ─▶ NodeReady
    stages ─ sealed datagrams, when they change and every `ANNOUNCED_NS` ─▶ balancer, members of the mesh
    StopNode ─ SIGTERM to both; the memory of the node is returned to the pool

Namespace, links and programs of every node that may be added are created before the run, as a machine is installed
before it is switched on.  Nothing runs in it, and no packet is sent to it.  No call here waits for a node, because PID
1 must inject faults meanwhile.  A process that starts receives the next announcement.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from testbed.emulation.dataplane.node_buffers import NodeBuffers
from testbed.emulation.faults.act import LossCounters
from testbed.emulation.processes.announcer import ANNOUNCED_NS, Announcer
from testbed.emulation.processes.channel import EventRecord
from testbed.emulation.processes.process_set import ProcessSet
from testbed.emulation.processes.trial_process import TrialProcess
from testbed.errors import ToolError
from testbed.policies.lifecycle import meshed
from testbed.policies.orchestrator import NodeLook, Orchestrator, Turn
from testbed.records.events import NodeFailed, NodeReady, StartNode
from testbed.records.stages import OrderedFault
from testbed.system import waiting

_WHY = "drain"  # the order that stops the processes of a node


class Cluster:
    """The nodes, as the orchestrator has them."""

    def __init__(
        self,
        orchestrator: Orchestrator,
        announcer: Announcer,
        processes: ProcessSet,
        buffers: NodeBuffers,
        counters: LossCounters,
        t0_ns: int,
        write: Callable[[EventRecord], None],
        spare: tuple[str, ...],
    ) -> None:
        """Take over nodes of which the `spare` ones have no processes."""
        self._orchestrator, self._announcer, self._processes = orchestrator, announcer, processes
        self._buffers, self._counters, self._t0_ns, self._write = buffers, counters, t0_ns, write
        self._starting: dict[str, list[TrialProcess]] = {}  # forked and not all of them ready
        self._unready: dict[str, set[int]] = {}  # descriptors of those that are not
        self._ending: dict[str, list[TrialProcess]] = {}
        self._wanted: set[str] = set()  # to be forked as soon as what they had before has ended
        self._spans: dict[str, list[list[int | None]]] = {node: [[0, None]] for node in spare}
        self._announced_ns = 0

    # --------------------------------------------------------------------------------------------------- from outside

    def next_ns(self) -> int:
        """Return when `turn` is due, on the run's clock."""
        due_ns = self._orchestrator.next_ns()
        soon_ns = self._announced_ns + ANNOUNCED_NS
        return soon_ns if due_ns is None else min(due_ns, soon_ns)

    def filenos(self) -> list[int]:
        """Return what can be read when a node is ready."""
        return [descriptor for unready in self._unready.values() for descriptor in unready]

    def turn(self) -> None:
        """Do what is due."""
        now_ns = self._now_ns()
        due_ns = self._orchestrator.next_ns()
        if due_ns is not None and due_ns <= now_ns:
            self._carry_out(self._orchestrator.wake(now_ns, self._look), now_ns)
        for node in sorted(self._wanted):
            self._fork(node)
        for node in list(self._starting):
            self._take_ready(node)
        if self._now_ns() >= self._announced_ns + ANNOUNCED_NS:
            self._announce()

    def end(self) -> None:
        """Execute no further orders; nodes that are not ready yet are not needed any more."""
        self._orchestrator.end()
        for node in list(self._starting):
            self._stop(node)
        self._wanted.clear()

    def failed(self, node: str) -> None:
        """Note that a fault has ended the processes of a node; this process, their parent, learns it at once."""
        now_ns = self._now_ns()
        self._carry_out(self._orchestrator.tell(NodeFailed(node=node), now_ns), now_ns)

    def runs(self, node: str) -> bool:
        """Return whether no order has taken the node out of service."""
        spans = self._spans.get(node)
        return not spans or spans[-1][1] is not None

    def ending(self) -> list[TrialProcess]:
        """Return the processes that were asked to end."""
        return [process for processes in self._ending.values() for process in processes]

    def absent_ns(self, node: str, ran_ns: int, interval_ns: int) -> int:
        """Return for how long a node leaves no samples; the first and last interval of each life are incomplete."""
        spans = self._spans.get(node, ())
        absent = [min(ran_ns, ran_ns if end is None else end) - min(ran_ns, begin or 0) for begin, end in spans]
        return sum(absent) + 2 * interval_ns * len(spans)

    def ordered(self) -> tuple[OrderedFault, ...]:
        """Return the times in which the processes of nodes did not run because of an order."""
        return tuple(
            OrderedFault(_WHY, (node,), begin or 0, begin or 0, end)
            for node, spans in self._spans.items()
            for begin, end in spans
        )

    # ---------------------------------------------------------------------------------------------------------- turns

    def _now_ns(self) -> int:
        return time.monotonic_ns() - self._t0_ns

    def _look(self) -> Mapping[str, NodeLook]:
        seen, now_ns = {}, time.monotonic_ns()
        for node, program in self._buffers.programs.items():
            counters = program.snapshot()
            seen[node] = NodeLook(counters.arrived_pkts, counters.arrived_bytes, program.backlog_bytes(now_ns))
        return seen

    def _carry_out(self, turn: Turn, now_ns: int) -> None:
        if turn.announced is not None:
            self._announce()
        for noted in turn.history:
            self._write(EventRecord.of(now_ns, noted.record, noted.policy, noted.direction))
        for action in turn.actions:
            if isinstance(action, StartNode):
                self._wanted.add(action.node)
            else:
                self._wanted.discard(action.node)
                self._stop(action.node)

    def _announce(self) -> None:
        self._announced_ns = self._now_ns()
        stages = self._orchestrator.stages
        there = meshed(stages)
        self._processes.absent = tuple(node for node in stages.nodes if node not in there)
        self._announcer.announce(stages)

    # ---------------------------------------------------------------------------------------------------------- nodes

    def _fork(self, node: str) -> None:
        """Fork the processes of a node, unless those of its last life have not ended or a crash of it is not over."""
        if self._buffers.programs[node].crashed or not all(process.ended() for process in self._ending.get(node, ())):
            return
        self._ending.pop(node, None)
        self._wanted.discard(node)
        self._buffers.restore_limit(node)
        self._starting[node] = processes = self._processes.fork_node(node, self._buffers)
        self._unready[node] = {process.fileno() for process in processes}

    def _take_ready(self, node: str) -> None:
        """Check which processes of a node are ready, and start them when all are."""
        unready = self._unready[node]
        for descriptor in waiting.readable(sorted(unready), 0):
            process = next(process for process in self._starting[node] if process.fileno() == descriptor)
            try:
                process.take()
            except ToolError:
                self.failed(node)
                return
            unready.discard(descriptor)
        if unready:
            return
        processes, now_ns = self._starting.pop(node), self._now_ns()
        del self._unready[node]
        self._processes.take_in(processes, self._t0_ns)
        self._counters.ended.difference_update(process.name for process in processes)
        if self._spans.get(node):
            self._spans[node][-1][1] = now_ns
        self._carry_out(self._orchestrator.tell(NodeReady(node=node), now_ns), now_ns)

    def _stop(self, node: str) -> None:
        """End the processes of a node that run or are about to."""
        starting = self._starting.pop(node, [])
        self._unready.pop(node, None)
        processes = starting or self._processes.of_node(node)
        alive = [process for process in processes if starting or process.name not in self._counters.ended]
        for process in alive:
            self._counters.ended.add(process.name)
            process.stop()
        self._ending.setdefault(node, []).extend(alive)
        if self.runs(node):
            self._spans.setdefault(node, []).append([self._now_ns(), None])
            self._processes.release_memory(node, _WHY)
