"""`round-robin`: the slots are dealt to the serving nodes in turn, whatever their state.

The choice is made in the switch and a switch does not count flows, so it is the slots that take turns: every node has
the same number of them, plus or minus one.
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
