"""Converts node names to rows of arrays, and back: events name nodes, state is stored in arrays over them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from testbed.records.events import Ints

Rows = Ints | slice
Bools = NDArray[np.bool_]


class NodeRows:
    """Rows of `nodes` in their order; for all nodes this is a slice, which costs nothing."""

    def __init__(self, nodes: tuple[str, ...]) -> None:
        self.nodes = nodes
        self._row = {node: row for row, node in enumerate(nodes)}
        if len(self._row) != len(nodes):
            raise ValueError("a node is named twice")

    def of(self, nodes: tuple[str, ...]) -> Rows:
        """Return the rows of `nodes` (KeyError if one is unknown)."""
        if nodes is self.nodes or nodes == self.nodes:
            return slice(None)
        return np.array([self._row[node] for node in nodes], dtype=np.int64)

    def where(self, mask: Bools) -> tuple[tuple[str, ...], Rows]:
        """Return names and rows where `mask` [n] holds."""
        if mask.all():
            return self.nodes, slice(None)
        rows = np.flatnonzero(mask)
        return tuple([self.nodes[row] for row in rows.tolist()]), rows
