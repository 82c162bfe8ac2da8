"""`turns`: shares in proportion to the nodes' rates, flow by flow, whatever the state of the nodes.

A hash deals the flows of a burst as dice would: of 30 flows on 3 equal nodes the busiest gets 12 or 13.  Here new flows
take the slots of the table in turn, and the table has the nodes interleaved, so that of any 30 flows in a row each node
gets 10.  No state is needed for that, and no controller: the switch counts (``controllers/pipeline.py``).
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
