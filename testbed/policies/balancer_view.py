"""The state of the nodes as the balancer knows it, and the interface of the rules that assign slots.

The state of a node is as old as its last notification.  It is *known* if it is not older than `FRESH_PAUSES` of the
longest pauses between two notifications, and does not date from before the last death of the node: an earlier state
does not describe the restarted node.

Rates are smoothed, because one sample of 10 ms says little about the next sample of a bursty flow.  A notification
contains the mean rate since the previous one.  The exponential average with the time constant `RATE_TIME_NS`,

    rate <- rate + (1 - exp(-dt / RATE_TIME_NS)) × (notified - rate)        dt: time since the previous notification

therefore does not depend on how often a node notifies.  Source: J. Eckner, "Algorithms for unevenly spaced time
series", 2012.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from testbed.records.events import Floats, Ints, NodesNotified
from testbed.scenario.tables import BALANCER_POLICIES, BalancerTraits
from testbed.units import NS_PER_MS, NS_PER_S

RATE_TIME_NS = 100 * NS_PER_MS
FRESH_PAUSES = 2.5
LOAD_WINDOW_NS = 10 * NS_PER_MS

_NEVER = -(2**62)


class ClusterView:
    """The last notified state of the nodes; every array has shape [n], in the order of `nodes`.

    Attributes:
        serving: bool, which nodes may hold slots.
        limit_bytes, backlog_bytes, predicted_bytes: as notified last, 0 before the first time.
        severity_ratio: announced burst, 0..1.
        rate_bps: smoothed arrivals.
        service_bps: rate at which each serves, int64; all 1 where nobody said.
        told_ns: when each was heard last; long ago for who never was, or died since.
    """

    def __init__(self, nodes: Sequence[str], pause_ns: int, rates_bps: Sequence[int] = ()) -> None:
        """Start with every node serving and nothing known of any.

        Args:
            nodes: all there are.
            pause_ns: the longest a node lets pass between two notifications.
            rates_bps: at which the nodes serve; without it they count as equal.
        """
        self.nodes = tuple(nodes)
        count = len(self.nodes)
        self._index = {node: i for i, node in enumerate(self.nodes)}
        self._fresh_ns = round(FRESH_PAUSES * pause_ns)
        self.told_ns = np.full(count, _NEVER, dtype=np.int64)
        self.service_bps: Ints = np.array(rates_bps or (1,) * count, dtype=np.int64)
        self.serving: NDArray[np.bool_] = np.ones(count, dtype=bool)
        self.limit_bytes, self.backlog_bytes, self.predicted_bytes = np.zeros((3, count), dtype=np.int64)
        self.severity_ratio, self.rate_bps = np.zeros((2, count), dtype=np.float64)

    def index(self, node: str) -> int | None:
        """Return the row of `node`, or None when it is not one of ours."""
        return self._index.get(node)

    def update(self, event: NodesNotified, now_ns: int) -> Ints:
        """Process a notification and return the rows of its nodes; unknown nodes are ignored."""
        if event.nodes == self.nodes:
            rows, known = np.arange(len(self.nodes)), np.arange(len(self.nodes))
        else:
            known = np.array([i for i, node in enumerate(event.nodes) if node in self._index], dtype=np.int64)
            rows = np.array([self._index[event.nodes[i]] for i in known], dtype=np.int64)
        self.limit_bytes[rows] = event.limit_bytes[known]
        self.backlog_bytes[rows] = event.backlog_bytes[known]
        self.predicted_bytes[rows] = event.predicted_bytes[known]
        self.severity_ratio[rows] = event.severity_ratio[known]
        gain = -np.expm1((self.told_ns[rows] - now_ns) / RATE_TIME_NS)  # 1 for who is heard the first time
        self.rate_bps[rows] += gain * (event.arrived_bps[known] - self.rate_bps[rows])
        self.told_ns[rows] = now_ns
        return rows

    def forget(self, row: int) -> None:
        """Let the state of a node that died say nothing any more."""
        self.told_ns[row] = _NEVER

    def all_known(self, now_ns: int) -> bool:
        """Return whether the state of every serving node is known."""
        return bool(self.told_ns[self.serving].min() > now_ns - self._fresh_ns)

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
    """Deals the slots; one rule, one way of balancing.

    Attributes:
        heeds_state: whether it looks at anything but which nodes serve.
    """

    heeds_state: bool

    def slots(self, current: Ints, view: ClusterView) -> Ints:
        """Return the node index of each slot, shape [slots]; only serving nodes (there is at least one) hold any."""
        ...


@runtime_checkable
class FlowPlacer(SlotRule, Protocol):
    """A rule that places every flow when its first packet arrives."""

    def heard(self, rows: Ints, view: ClusterView) -> None:
        """Note that the nodes of `rows` notified their state."""
        ...

    def place(self, view: ClusterView, now_ns: int) -> int:
        """Return the row of the node for a new flow; only a serving one."""
        ...


@dataclass(frozen=True, kw_only=True)
class BalancerRow(BalancerTraits):
    """A balancer policy and how it is made.

    Attributes:
        rule: makes the rule from the number of slots, that of the nodes, and the source of all it draws.
    """

    rule: Callable[[int, int, random.Random], SlotRule]


def balancer_row(name: str) -> BalancerRow:
    """Return the row of a balancer policy (KeyError when there is none of that name)."""
    row = BALANCER_POLICIES[name]
    assert isinstance(row, BalancerRow), f"{name} does not say how it is made"
    return row
