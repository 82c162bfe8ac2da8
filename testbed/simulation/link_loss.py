"""Packets that a link loses at random: the same random numbers as in ``bpf/node.bpf.c``.

Whether the n-th packet to a node is lost is a hash of the seed of the fault and n.  So both engines lose the same
packets.

Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014), the mixing of SplitMix64.
"""

from __future__ import annotations

import numpy as np

from testbed.simulation.queues import Bools

_STEP = np.uint64(0x9E3779B97F4A7C15)
_MIX_A, _MIX_B = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


class LinkLoss:
    """The draws of one node's link.

    Attributes:
        drawn_pkts, lost_pkts: since the start of the run.
    """

    def __init__(self) -> None:
        """Lose nothing until a fault begins."""
        self.drawn_pkts = self.lost_pkts = 0
        self._seed, self._threshold = np.uint64(0), np.uint64(0)

    @property
    def active(self) -> bool:
        """Return whether packets are drawn."""
        return bool(self._threshold > 0)

    def set(self, ratio: float, seed: int = 0) -> None:
        """Lose that share of the packets from now on; 0 loses none and draws none."""
        self._seed, self._threshold = np.uint64(seed), np.uint64(round(ratio * 2**32))

    def draw(self, count: int) -> Bools:
        """Return which of the next packets are lost, shape [count]."""
        numbers = np.arange(self.drawn_pkts + 1, self.drawn_pkts + count + 1, dtype=np.uint64)
        z = self._seed + numbers * _STEP  # arithmetic is modulo 2^64
        z = (z ^ z >> np.uint64(30)) * _MIX_A
        z = (z ^ z >> np.uint64(27)) * _MIX_B
        lost: Bools = (z ^ z >> np.uint64(31)) >> np.uint64(32) < self._threshold
        self.drawn_pkts += count
        self.lost_pkts += int(lost.sum())
        return lost
