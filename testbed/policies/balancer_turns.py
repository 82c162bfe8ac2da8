"""`turns`: shares in proportion to the rates of the nodes, flow by flow, whatever their state.

A hash distributes the flows of a burst randomly: of 30 flows on 3 equal nodes, the busiest node gets 12 or 13.  Here
new flows take the slots of the table in turn, and the nodes are interleaved in the table.  So of any 30 consecutive
flows each node gets 10.  This needs neither the state of the nodes nor the controller: the switch counts
(``controllers/pipeline.py``).
"""

from __future__ import annotations

import numpy as np

from testbed.policies.balancer_view import BalancerRow, ClusterView
from testbed.policies.slots import deal
from testbed.records.events import Ints


class Turns:
    """Weights are the service rates of the serving nodes; the table is reassigned so that they are interleaved."""

    heeds_state = False

    def slots(self, current: Ints, view: ClusterView) -> Ints:
        """See `SlotRule.slots`."""
        return deal(np.where(view.serving, view.service_bps, 0).astype(np.float64), len(current))


ROWS = (
    BalancerRow(
        name="turns",
        doc="weighted round-robin per flow, in proportion to the nodes' rates; ignores the state of the nodes",
        source='Katevenis, Sidiropoulos, Courcoubetis, "Weighted round-robin cell multiplexing", 1991',
        in_turn=True,
        rule=lambda _slots, _nodes, _rng: Turns(),
    ),
)
