"""`crash`: the node stops responding, its links stay up.

Its XDP program drops everything, its processes are killed, its queue is discarded.  End of the fault: an empty queue
and restarted processes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from testbed.emulation.faults.act import FaultAct, FaultContext, is_control
from testbed.emulation.inventory.difference import Difference
from testbed.scenario.fault import FaultSpec
from testbed.scenario.network import Network

_SETTLE_S = 0.001  # a packet the program let pass before is in the queue by then


class Act(FaultAct):
    """Crashes nodes and restarts them."""

    def __init__(self, context: FaultContext, specs: Sequence[FaultSpec]) -> None:
        """See `FaultAct`."""
        super().__init__(context, specs)
        self._crashed: set[str] = set()

    def begin(self, spec: FaultSpec) -> None:
        """See `FaultAct.begin`."""
        context, node = self.context, spec.node
        context.buffers.programs[node].set_crashed(True)
        context.end(f"mesh {node}", f"agent {node}")
        time.sleep(_SETTLE_S)
        context.counters.discarded_pkts[node] += context.buffers.discard_queue(node)
        self._crashed.add(node)
        context.release(node)
        context.failed(node)

    def end(self, spec: FaultSpec) -> None:
        """See `FaultAct.end`."""
        context, node = self.context, spec.node
        self._count_discarded(node)
        self._crashed.discard(node)
        context.buffers.renew_queue(node)
        context.buffers.programs[node].set_crashed(False)
        for process in context.revive(node) if context.runs(node) else ():
            context.processes[process.name] = process
            context.counters.ended.discard(process.name)

    def close(self) -> None:
        """Count what the nodes that have not come back threw away."""
        for node in self._crashed:
            self._count_discarded(node)

    def lost_packets(self, node: str) -> int:
        """See `FaultAct.lost_packets`."""
        return self.context.buffers.crashed_pkts(node) + self.context.counters.discarded_planned_pkts[node]

    @staticmethod
    def covers(found: Difference, spec: FaultSpec, network: Network) -> bool:
        """Return whether it is the node's egress queue, or its program's word that it has crashed."""
        node = spec.node
        egress = network.interface(node, network.next_hop(node))
        queue = (found.namespace, found.kind, found.interface) == (node, "qdisc", egress)
        return queue or is_control(found, node, "crashed")

    def _count_discarded(self, node: str) -> None:
        """Count the planned packets among the frames that a node which has crashed threw away so far.

        Behind it no packet is in transit any more, so what its program let in and its sink has not seen was lost there,
        and no more of it was thrown away than there were frames.
        """
        counters, behind = self.context.counters, self.context.buffers.behind_pkts(node)
        counters.discarded_planned_pkts[node] = min(counters.discarded_pkts[node], behind)
