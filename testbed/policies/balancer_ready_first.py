"""`ready-first`: new flows go to nodes with an expanded buffer; if there are none, to the least loaded node.

A node is *expanded* if its limit is well above the floor of the cluster, which is the smallest limit that any node has
notified.  It is *ready* if it is expanded and at least half of its buffer is free.  Free is the part that is needed
neither for its backlog nor for its own forecast: a node that expanded for an expected burst has no space for another
one.  If that space counted as free, all new flows would go to the node that is about to receive the burst.  Ready nodes
share the new flows in proportion to their free buffer.  If no node is ready (all are at the floor, as between bursts,
or full), the rule is `least-loaded`.
"""

from __future__ import annotations

import numpy as np

from testbed.policies.balancer_least_loaded import least_loaded
from testbed.policies.balancer_view import BalancerRow, ClusterView
from testbed.policies.slots import reweight
from testbed.records.events import Floats, Ints

EXPANDED_RATIO = 1.5  # of the floor
FREE_RATIO = 0.5  # of the limit


class ReadyFirst:
    """Remembers the floor."""

    heeds_state = True

    def __init__(self) -> None:
        """Start without a floor: before the first notification no node is expanded."""
        self._floor_bytes = 2**62

    def slots(self, current: Ints, view: ClusterView) -> Ints:
        """See `SlotRule.slots`."""
        weights = self._ready(view)
        return reweight(current, weights if weights.any() else least_loaded(view))

    def _ready(self, view: ClusterView) -> Floats:
        """Return the free buffer of each ready node, 0 for the others, shape [n]; bytes."""
        notified = view.limit_bytes[view.limit_bytes > 0]
        self._floor_bytes = min(self._floor_bytes, int(notified.min(initial=2**62)))
        free = np.maximum(view.limit_bytes - np.maximum(view.backlog_bytes, view.predicted_bytes), 0)
        expanded = view.limit_bytes >= EXPANDED_RATIO * self._floor_bytes
        roomy = free >= FREE_RATIO * view.limit_bytes
        return np.where(view.serving & expanded & roomy, free, 0).astype(np.float64)


ROWS = (
    BalancerRow(
        name="ready-first",
        doc="new flows to nodes with an expanded, at least half free buffer, by free buffer; "
        "else to the least loaded node",
        rule=lambda _slots, _nodes, _rng: ReadyFirst(),
    ),
)
