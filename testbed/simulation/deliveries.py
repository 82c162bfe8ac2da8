"""Packets until they leave their node, and, where faults may discard a queue, what each sink has seen of each flow.

The departure time of an admitted packet is known at once, so the packet needs no further event.  Packets are kept in
blocks.  Those that have left are removed when enough of them have gathered, or when their number is asked for.

The flow tables are those of the kernel's sinks, as far as `traffic.fault_losses` reads them.
"""

from __future__ import annotations

import numpy as np

from testbed.records.events import Ints
from testbed.simulation.packet_trace import PacketTrace
from testbed.simulation.queues import Bools
from testbed.traffic.fault_losses import FlowRows
from testbed.traffic.plan import PacketPlan

_FLOW = np.dtype([("pkts", "<u8"), ("highest_seq", "<u4"), ("epoch", "<u4"), ("epoch_first_seq", "<u4")])
_NO_SEQ = 2**32 - 1
_BLOCK_PKTS = 1 << 18

Columns = tuple[Ints, ...]  # departure, node, number in the plan, delay


class Deliveries:
    """What n nodes have taken in and not yet delivered, and the flow tables of their sinks.

    Args:
        nodes: their names.
        plan: the packets.
        by_flow: whether to keep the flow tables.
        trace: notes each delivery, if given.

    Attributes:
        epoch: the present one.
        block, block_pkts: columns that somebody else fills with packets, int64 [4, p], and how many they hold.
    """

    def __init__(
        self, nodes: tuple[str, ...], plan: PacketPlan, *, by_flow: bool, trace: PacketTrace | None = None
    ) -> None:
        self._nodes, self._plan, self._trace = nodes, plan, trace
        self._tables = np.zeros((len(nodes), len(plan.flows)), dtype=_FLOW) if by_flow else None
        self.epoch = 0
        self._waiting: Columns = (np.zeros(0, dtype=np.int64),) * 4
        self._fresh: list[Columns] = []
        self._fresh_pkts = 0
        self.block = np.empty((4, _BLOCK_PKTS), dtype=np.int64)
        self.block_pkts = 0

    def admit(self, departs_ns: Ints, node: Ints, number: Ints, delay_ns: Ints) -> None:
        """Process packets, shape [p]."""
        self._fresh.append((departs_ns, node, number, delay_ns))
        self._fresh_pkts += len(node)

    def close_block(self) -> None:
        """Process what has been written into the block, and clear it."""
        if self.block_pkts:
            self.admit(*self.block[:, : self.block_pkts].copy())
            self.block_pkts = 0

    @property
    def worth_it(self) -> bool:
        """Return whether so many packets have come since `deliver` that it pays to call it."""
        return self._fresh_pkts + self.block_pkts >= max(_BLOCK_PKTS, len(self._waiting[0]))

    def deliver(self, until_ns: int) -> tuple[Ints, Ints, Ints]:
        """Deliver what departs by `until_ns`; return node and delay of each packet, and its number in the plan."""
        self.close_block()
        self._waiting = tuple(np.concatenate(parts) for parts in zip(self._waiting, *self._fresh, strict=True))
        self._fresh, self._fresh_pkts = [], 0
        departs_ns, node, number, delay_ns = self._waiting
        due = departs_ns <= until_ns
        self._keep(~due)
        if self._tables is not None:
            self._count(self._tables, node[due], number[due])
        if self._trace is not None:
            self._trace.deliver(number[due], delay_ns[due])
        return node[due], delay_ns[due], number[due]

    def discard(self, row: int) -> Ints:
        """Throw away what waits at a node since `deliver`; return the numbers of those packets."""
        there = self._waiting[1] == row
        discarded: Ints = self._waiting[2][there]
        self._keep(~there)
        return discarded

    def waiting(self) -> tuple[Ints, Ints]:
        """Return how many packets, and bytes, wait at each node since `deliver`; shape [n]."""
        _, node, number, _ = self._waiting
        count = len(self._nodes)
        sizes = self._plan.size_bytes[number]
        return np.bincount(node, minlength=count), np.bincount(node, sizes, count).astype(np.int64)

    def flows(self) -> dict[str, FlowRows]:
        """Return a copy of every sink's flow table, by node; nothing where none are kept."""
        if self._tables is None:
            return {}
        return {name: table.copy() for name, table in zip(self._nodes, self._tables, strict=True)}

    def _keep(self, chosen: Bools) -> None:
        self._waiting = tuple(column[chosen] for column in self._waiting)

    def _count(self, tables: FlowRows, node: Ints, number: Ints) -> None:
        at = (node, self._plan.flow[number])
        seq = self._plan.seq[number].astype(np.uint32)
        self._mark_epoch(tables, node, number)
        np.add.at(tables["pkts"], at, 1)
        np.maximum.at(tables["highest_seq"], at, seq)

    def _mark_epoch(self, tables: FlowRows, node: Ints, number: Ints) -> None:
        """Note the first number of the flows that nothing has come of in this epoch."""
        flow, seq = self._plan.flow[number], self._plan.seq[number].astype(np.uint32)
        new = (tables["pkts"][node, flow] == 0) | (tables["epoch"][node, flow] != self.epoch)
        at = node[new], flow[new]
        tables["epoch"][at], tables["epoch_first_seq"][at] = self.epoch, _NO_SEQ
        np.minimum.at(tables["epoch_first_seq"], at, seq[new])
