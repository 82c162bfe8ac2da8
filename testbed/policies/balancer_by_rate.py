"""`by-rate`: every node gets slots in proportion to its service rate, whatever its state.

This is `round-robin` for unequal nodes: the shares are right on average, and the current state is not used.  A rule
that uses the state of the nodes must be better than this one to justify its messages.
"""

from __future__ import annotations

import numpy as np

from testbed.policies.balancer_view import BalancerRow, ClusterView
from testbed.policies.slots import reweight
from testbed.records.events import Ints


class ByRate:
    """Weights are the service rates of the serving nodes."""

    heeds_state = False

    def slots(self, current: Ints, view: ClusterView) -> Ints:
        """See `SlotRule.slots`."""
        return reweight(current, np.where(view.serving, view.service_bps, 0).astype(np.float64))


ROWS = (
    BalancerRow(
        name="by-rate",
        doc="shares in proportion to the nodes' rates; ignores the state of the nodes",
        source='Zhou et al., "WCMP: weighted cost multipathing for improved fairness in data centers", EuroSys 2014',
        rule=lambda _slots, _nodes, _rng: ByRate(),
    ),
)
