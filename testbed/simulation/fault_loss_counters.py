"""The packets lost to faults in virtual time: which ones, where, and by which kind of fault."""

from __future__ import annotations

import numpy as np

from testbed.records.events import Ints
from testbed.simulation.queues import Bools
from testbed.traffic.fates import NOWHERE
from testbed.traffic.fault_losses import LostPackets
from testbed.traffic.numbers import PacketNumbers
from testbed.traffic.plan import PacketPlan


class FaultLossCounters:
    """Packets lost at n nodes and their links so far.

    Attributes:
        kept_pkts: packets that never arrived at each node, int64 [n]: dropped while it or its link was down, or lost at
            random.
        discarded_pkts, discarded_bytes: what each discarded with its queue, int64 [n].
    """

    def __init__(self, nodes: int, plan: PacketPlan) -> None:
        """Begin with nothing lost."""
        self._plan = plan
        self._at = np.full(len(plan), NOWHERE, dtype=np.int64)  # by row of the plan: which node's loss it is
        self.kept_pkts, self.discarded_pkts, self.discarded_bytes = np.zeros((3, nodes), dtype=np.int64)
        self._crash_pkts, self._link_pkts = np.zeros((2, nodes), dtype=np.int64)

    def swallow(self, node: Ints, number: Ints, cut: Bools) -> None:
        """Take note of packets that came to nodes which had crashed, or to links that were down (`cut`, by node)."""
        self._at[number] = node
        counts = np.bincount(node, minlength=len(cut))
        self.kept_pkts += counts
        self._link_pkts += np.where(cut, counts, 0)
        self._crash_pkts += np.where(cut, 0, counts)

    def draw(self, row: int, count: int) -> None:
        """Take note of packets that a link lost at random."""
        self.kept_pkts[row] += count

    def discard(self, row: int, number: Ints) -> None:
        """Take note of packets that were thrown away with the queue of a node."""
        self._at[number] = row
        self.discarded_pkts[row] += len(number)
        self.discarded_bytes[row] += int(self._plan.size_bytes[number].sum())
        self._crash_pkts[row] += len(number)

    def of(self, row: int, *, crash: bool) -> int:
        """Return what crashes of a node, or failures of its link, have cost so far."""
        return int((self._crash_pkts if crash else self._link_pkts)[row])

    def lost(self) -> LostPackets:
        """Return the packets that were lost with a node or its link."""
        at = PacketNumbers.of_plan(self._plan).in_order(self._at, self._plan)
        return LostPackets.of(self._plan, at != NOWHERE, at)
