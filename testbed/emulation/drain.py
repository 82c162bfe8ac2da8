"""The end of the traffic: waits until the queues are empty; packets still queued after that count as in flight.

The wait is limited (`engine.longest_drain_ns`), and a request to stop ends it early.  Packets that are queued after
that are discarded all at once and counted as in flight.  If packets were counted while a queue moves, some would be
counted twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from testbed.emulation.dataplane.node_buffers import NodeBuffers
from testbed.emulation.processes.status_table import Row
from testbed.engine import STOPPED_DRAIN_NS
from testbed.units import NS_PER_MS, NS_PER_S

_SETTLED_NS = 200 * NS_PER_MS
_LOOK_S = 0.02


class Drain:
    """The queues of a trial after its traffic.

    Args:
        buffers: where the packets are.
        longest_ns: for how long to wait at most.
        row: says in the status table what is waited for.
    """

    def __init__(self, buffers: NodeBuffers, longest_ns: int, row: Row) -> None:
        self._buffers, self._longest_ns, self._row = buffers, longest_ns, row

    def wait(self, stopping: Callable[[], bool], each_turn: Callable[[], None]) -> None:
        """Wait until nothing arrives nor waits any more, or for as long as is allowed."""
        self._row.does("draining the queues")
        now_ns = time.monotonic_ns()
        deadline_ns, settled_ns, before = now_ns + self._longest_ns, now_ns + _SETTLED_NS, self._progress()
        while now_ns < min(deadline_ns, settled_ns):
            time.sleep(_LOOK_S)
            now_ns, after, waiting_pkts = time.monotonic_ns(), self._progress(), self._waiting_pkts()
            self._say(waiting_pkts, deadline_ns - now_ns)
            if after != before or waiting_pkts:
                before, settled_ns = after, now_ns + _SETTLED_NS
            if stopping():
                deadline_ns = min(deadline_ns, now_ns + STOPPED_DRAIN_NS)
            each_turn()

    def cut(self) -> dict[str, int]:
        """Throw away what still waits; return how many packets, by node."""
        waiting = [node for node in self._buffers.qdiscs if self._waiting_at(node)]
        return {node: self._buffers.discard_queue(node) for node in waiting}

    def _say(self, waiting_pkts: int, left_ns: int) -> None:
        left_s = max(0, left_ns) // NS_PER_S
        self._row.does(f"draining the queues: {waiting_pkts:,} packets left, at most {left_s} s")

    def _progress(self) -> tuple[int, ...]:
        counters = [program.snapshot().arrived_pkts for program in self._buffers.programs.values()]
        return (*counters, *(sink.snapshot().delivered_pkts for sink in self._buffers.sinks.values()))

    def _waiting_pkts(self) -> int:
        return sum(self._waiting_at(node) for node in self._buffers.qdiscs)

    def _waiting_at(self, node: str) -> int:
        found = self._buffers.qdiscs[node].find()
        return 0 if found is None else found.backlog_pkts  # taken away: the inventory names it
