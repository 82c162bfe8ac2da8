"""`headroom`: the weight of a node is its predicted free buffer times its spare share of the mean rate.

The free buffer is the limit minus the larger of backlog and predicted need.  The spare share decreases linearly with
the arrival rate: 2 for an idle node, 1 at the mean rate of all nodes, 0 at twice the mean rate.  So a forecast burst
already reduces the number of new flows, and later flows even out the unequal shares of the hash.
"""

from __future__ import annotations

import numpy as np

from testbed.policies.balancer_least_loaded import least_loaded
from testbed.policies.balancer_view import BalancerRow, ClusterView
from testbed.policies.slots import reweight
from testbed.records.events import Floats, Ints


def headroom(view: ClusterView) -> Floats:
    """Return the headroom of each serving node, 0 for the others, shape [n], bytes."""
    free = np.maximum(view.limit_bytes - np.maximum(view.backlog_bytes, view.predicted_bytes), 0)
    mean_bps = max(float(view.rate_bps[view.serving].mean()), 1.0)
    spare = np.maximum(2.0 - view.rate_bps / mean_bps, 0.0)
    return np.where(view.serving, free * spare, 0.0)


class Headroom:
    """Weights of `headroom`; if all are 0, those of `least_loaded`."""

    heeds_state = True

    def slots(self, current: Ints, view: ClusterView) -> Ints:
        """See `SlotRule.slots`."""
        weights = headroom(view)
        return reweight(current, weights if weights.any() else least_loaded(view))


ROWS = (
    BalancerRow(
        name="headroom",
        doc="share ∝ predicted free buffer × (2 − arrival rate of the node ÷ mean arrival rate of all nodes)",
        rule=lambda _slots, _nodes, _rng: Headroom(),
    ),
)
