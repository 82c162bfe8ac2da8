"""The number of every packet of a plan: what identifies it, wherever it is seen.

    number of (flow, seq) = packets of the flows before it + seq

So n packets have the numbers 0 to n - 1, and a set of them is a bit each (``bpf/identity.h``).  In such a set bit k of
word i, 64 bits wide, stands for number 64 i + k.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from testbed.records.events import Ints
from testbed.traffic.plan import PacketPlan

PACKETS_A_WORD = 64
MAX_NUMBERS = 2**32 - 1  # a number has 32 bits, and the last one says "none"

Words = NDArray[np.uint64]
Bools = NDArray[np.bool_]


class PacketNumbers:
    """The numbers of a plan's packets.

    Attributes:
        count: packets of each flow, int64 [f].
        first: number of each flow's first packet, int64 [f].
        total: packets of all flows.
    """

    def __init__(self, count: Ints) -> None:
        """Number the packets of flows that have `count` each."""
        self.count = count.astype(np.int64)
        self.first: Ints = np.cumsum(self.count) - self.count
        self.total = int(self.count.sum())

    @classmethod
    def of_plan(cls, plan: PacketPlan) -> PacketNumbers:
        """Return the numbers of a whole plan."""
        return cls(np.bincount(plan.flow, minlength=len(plan.flows)))

    @property
    def words(self) -> int:
        """Return how many words a set of packets takes, one at least."""
        return max(1, -(-self.total // PACKETS_A_WORD))

    def of(self, flow: NDArray[np.signedinteger], seq: NDArray[np.signedinteger]) -> Ints:
        """Return the numbers of packets `seq` of the flows `flow`, int64."""
        numbers: Ints = self.first[flow] + seq
        return numbers

    def in_order(self, by_row: Ints, plan: PacketPlan) -> Ints:
        """Return a column of the whole plan, one value a packet, in the order of the numbers."""
        ordered: Ints = np.empty_like(by_row)
        ordered[self.of(plan.flow, plan.seq)] = by_row
        return ordered

    def set_of(self, numbers: Ints) -> Words:
        """Return the set of these packets."""
        members = np.zeros(self.words * PACKETS_A_WORD, dtype=np.bool_)
        members[numbers] = True
        return np.packbits(members, bitorder="little").view(np.uint64)

    def members(self, words: Words) -> Bools:
        """Return of every packet whether it is in the set, shape [total]."""
        found: Bools = np.unpackbits(words.view(np.uint8), count=self.total, bitorder="little").view(np.bool_)
        return found


def size_of(words: Words) -> int:
    """Return how many packets are in a set."""
    return int(_BITS_IN[words.view(np.uint8)].sum(dtype=np.int64))


_BITS_IN = np.array([bin(byte).count("1") for byte in range(256)], dtype=np.uint8)
