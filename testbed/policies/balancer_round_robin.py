"""`round-robin`: the slots are assigned to the serving nodes in turn, whatever their state.

New flows are mapped to slots by a hash in the switch, which does not count flows.  So not the flows but the slots take
turns: the numbers of slots of two nodes differ by at most one.
"""

from __future__ import annotations

import numpy as np

from testbed.policies.balancer_view import BalancerRow, ClusterView
from testbed.policies.slots import reweight
from testbed.records.events import Ints


class RoundRobin:
    """Equal weights."""

    heeds_state = False

    def slots(self, current: Ints, view: ClusterView) -> Ints:
        """See `SlotRule.slots`."""
        return reweight(current, view.serving.astype(np.float64))


ROWS = (
    BalancerRow(
        name="round-robin",
        doc="equal shares; ignores the state of the nodes",
        rule=lambda _slots, _nodes, _rng: RoundRobin(),
    ),
)
