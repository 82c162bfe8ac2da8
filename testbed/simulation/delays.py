"""One-way delays of the packets of every node, counted into histograms in large blocks."""

from __future__ import annotations

import numpy as np

from testbed.records.events import Ints
from testbed.records.histogram import Histogram, log_edges_ns

_BLOCK_PKTS = 1 << 18


class DelayCounts:
    """Histograms of n nodes that share their edges."""

    def __init__(self, nodes: int) -> None:
        self._edges_ns = log_edges_ns()
        self._counts = np.zeros((nodes, len(self._edges_ns) - 1), dtype=np.int64)
        self._max_ns = np.full(nodes, -1, dtype=np.int64)
        self._blocks: list[tuple[Ints, Ints]] = []
        self._waiting = 0

    def add(self, node: Ints, delay_ns: Ints) -> None:
        """Process the delays of packets, shape [p]."""
        self._blocks.append((node, delay_ns))
        self._waiting += len(node)
        if self._waiting >= _BLOCK_PKTS:
            self._count()

    def histogram(self, node: int) -> Histogram:
        """Return the histogram of one node."""
        self._count()
        largest = int(self._max_ns[node])
        return Histogram(self._edges_ns, self._counts[node], largest if largest >= 0 else None)

    def _count(self) -> None:
        if not self._blocks:
            return
        node, delay_ns = (np.concatenate(parts) for parts in zip(*self._blocks, strict=True))
        self._blocks, self._waiting = [], 0
        bins = self._counts.shape[1]
        bin_of = np.minimum(np.searchsorted(self._edges_ns, delay_ns, side="right") - 1, bins - 1)
        counts = np.bincount(node * bins + bin_of, minlength=self._counts.size)
        self._counts += counts.reshape(self._counts.shape)
        np.maximum.at(self._max_ns, node, delay_ns)
