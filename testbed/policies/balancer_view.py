"""What the balancer knows of the nodes, and the interface of the rules that deal slots by it.

The state is as old as the last notification of each node.  Rates are smoothed over about ten notifications (100 ms at
the default interval), because one 10 ms sample of a bursty flow says little about the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from testbed.events import Floats, Ints, NodesNotified
from testbed.units import NS_PER_MS, NS_PER_S

RATE_GAIN = 0.1
LOAD_WINDOW_NS = 10 * NS_PER_MS


class ClusterView:
    """The last notified state of the nodes; every array has shape [n], in the order of `nodes`.

    Attributes:
        serving: bool, which nodes may hold slots.
        limit_bytes, backlog_bytes, predicted_bytes: as notified last, 0 before the first time.
        severity_ratio: announced burst, 0..1.
        rate_bps: smoothed arrivals.
    """

    def __init__(self, nodes: Sequence[str]) -> None:
        """Start with every node serving and nothing known of any."""
        self.nodes = tuple(nodes)
        count = len(self.nodes)
        self._index = {node: i for i, node in enumerate(self.nodes)}
        self._heard = np.zeros(count, dtype=bool)
        self.serving: NDArray[np.bool_] = np.ones(count, dtype=bool)
        self.limit_bytes, self.backlog_bytes, self.predicted_bytes = np.zeros((3, count), dtype=np.int64)
        self.severity_ratio, self.rate_bps = np.zeros((2, count), dtype=np.float64)

    def index(self, node: str) -> int | None:
        """Return the row of `node`, or None when it is not one of ours."""
        return self._index.get(node)

    def update(self, event: NodesNotified) -> Ints:
        """Take in a notification and return the rows it was about; nodes that are not ours are passed over."""
        if event.nodes == self.nodes:
            rows, known = np.arange(len(self.nodes)), np.arange(len(self.nodes))
        else:
            known = np.array([i for i, node in enumerate(event.nodes) if node in self._index], dtype=np.int64)
            rows = np.array([self._index[event.nodes[i]] for i in known], dtype=np.int64)
        self.limit_bytes[rows] = event.limit_bytes[known]
        self.backlog_bytes[rows] = event.backlog_bytes[known]
        self.predicted_bytes[rows] = event.predicted_bytes[known]
        self.severity_ratio[rows] = event.severity_ratio[known]
        gain = np.where(self._heard[rows], RATE_GAIN, 1.0)
        self.rate_bps[rows] += gain * (event.arrived_bps[known] - self.rate_bps[rows])
        self._heard[rows] = True
        return rows

    @property
    def free_bytes(self) -> Ints:
        """Return what each buffer still takes."""
        free: Ints = np.maximum(self.limit_bytes - self.backlog_bytes, 0)
        return free

    @property
    def load_bytes(self) -> Floats:
        """Return how loaded each node is: its backlog and what arrives in the next 10 ms."""
        load: Floats = self.backlog_bytes + self.rate_bps * (LOAD_WINDOW_NS / NS_PER_S / 8)
        return load


class SlotRule(Protocol):
    """Deals the slots; one rule, one way of balancing."""

    def slots(self, current: Ints, view: ClusterView) -> Ints:
        """Return the node index of each slot, shape [slots]; only serving nodes (there is at least one) hold any."""
        ...
