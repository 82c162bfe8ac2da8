"""Packets until they are delivered, and what each sink saw of each flow: kept where a fault may throw a queue away.

Without faults a packet that was admitted is as good as delivered and none of this is needed.  With them, the flow
tables are those of the kernel's sinks as far as `traffic.fault_losses` reads them.
"""

from __future__ import annotations

import numpy as np

from testbed.records.events import Ints
from testbed.simulation.queues import Bools
from testbed.traffic.fault_losses import FlowRows
from testbed.traffic.plan import PacketPlan

_FLOW = np.dtype([("pkts", "<u8"), ("highest_seq", "<u4"), ("epoch", "<u4"), ("epoch_first_seq", "<u4")])
_NO_SEQ = 2**32 - 1

Columns = tuple[Ints, ...]  # departure, node, number in the plan, delay


class Deliveries:
    """What n nodes have taken in and not yet delivered, and the flow tables of their sinks.

    Attributes:
        epoch: the present one.
    """

    def __init__(self, nodes: tuple[str, ...], plan: PacketPlan) -> None:
        self._nodes, self._plan = nodes, plan
        self._tables = np.zeros((len(nodes), len(plan.flows)), dtype=_FLOW)
        self.epoch = 0
        self._waiting: Columns = (np.zeros(0, dtype=np.int64),) * 4

    def admit(self, departs_ns: Ints, node: Ints, number: Ints, delay_ns: Ints) -> None:
        """Take in packets, shape [p]."""
        fresh = (departs_ns, node, number, delay_ns)
        self._waiting = tuple(np.concatenate(pair) for pair in zip(self._waiting, fresh, strict=True))

    def deliver(self, until_ns: int) -> tuple[Ints, Ints]:
        """Deliver what departs by `until_ns`; return node and delay of each packet."""
        departs_ns, node, number, delay_ns = self._waiting
        due = departs_ns <= until_ns
        self._keep(~due)
        self._count(node[due], number[due])
        return node[due], delay_ns[due]

    def discard(self, row: int) -> Ints:
        """Throw away what waits at a node; return the numbers of those packets."""
        there = self._waiting[1] == row
        discarded: Ints = self._waiting[2][there]
        self._keep(~there)
        return discarded

    def flows(self) -> dict[str, FlowRows]:
        """Return a copy of every sink's flow table, by node."""
        return {name: self._tables[row].copy() for row, name in enumerate(self._nodes)}

    def _keep(self, chosen: Bools) -> None:
        self._waiting = tuple(column[chosen] for column in self._waiting)

    def _count(self, node: Ints, number: Ints) -> None:
        at = (node, self._plan.flow[number])
        seq = self._plan.seq[number].astype(np.uint32)
        self._mark_epoch(node, number)
        np.add.at(self._tables["pkts"], at, 1)
        np.maximum.at(self._tables["highest_seq"], at, seq)

    def _mark_epoch(self, node: Ints, number: Ints) -> None:
        """Note the first number of the flows that nothing has come of in this epoch."""
        tables, flow, seq = self._tables, self._plan.flow[number], self._plan.seq[number].astype(np.uint32)
        new = (tables["pkts"][node, flow] == 0) | (tables["epoch"][node, flow] != self.epoch)
        at = node[new], flow[new]
        tables["epoch"][at], tables["epoch_first_seq"][at] = self.epoch, _NO_SEQ
        np.minimum.at(tables["epoch_first_seq"], at, seq[new])
