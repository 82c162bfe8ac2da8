"""`per-flow`: the controller places every flow when its first packet arrives, as in textbooks.  For comparison.

Each new flow costs a packet-in, a decision and a packet-out before its first packet is forwarded, and packets that do
not fit into the switch's queue to the controller are lost.  In return, each flow is placed by itself, using the current
state of the nodes.

A burst starts many flows between two notifications; the least loaded node would get all of them (Mitzenmacher, "How
useful is old information?", 2000).  So a flow goes to the node that got the fewest flows in the present round; among
those, to the least loaded one; among equals, to the one that notified last.  A round ends when every serving node has
notified since the round began.  (If the count of each node were reset by its own notification, nodes that notify more
often would get more flows.) While the state of a serving node is unknown, loads are ignored.
"""

from __future__ import annotations

import numpy as np

from testbed.policies.balancer_round_robin import RoundRobin
from testbed.policies.balancer_view import BalancerRow, ClusterView
from testbed.records.events import Ints


class PerFlow(RoundRobin):
    """Places flows; the slots, which the switch does not use under this policy, are assigned evenly."""

    def __init__(self, nodes: int) -> None:
        """Start without placed flows and notifications."""
        self._placed_in_round = np.zeros(nodes, dtype=np.int64)
        self._heard_in_round = np.zeros(nodes, dtype=bool)

    def heard(self, rows: Ints, view: ClusterView) -> None:
        """Note that the nodes of `rows` notified their state."""
        self._heard_in_round[rows] = True
        if self._heard_in_round[view.serving].all():
            self._heard_in_round[:], self._placed_in_round[:] = False, 0

    def place(self, view: ClusterView, now_ns: int) -> int:
        """Return the row of the node for a new flow; only a serving one."""
        load = view.load_bytes if view.all_known(now_ns) else np.zeros(len(view.nodes))
        order = np.lexsort((-view.told_ns, load, self._placed_in_round, ~view.serving))
        row = int(order[0])
        self._placed_in_round[row] += 1
        return row


ROWS = (
    BalancerRow(
        name="per-flow",
        doc="the first packet of every flow goes to the controller, which chooses the node; for comparison",
        places_flows=True,
        refused_by={"simulation": "the simulation does not model the path of a packet to the controller and back"},
        rule=lambda _slots, nodes, _rng: PerFlow(nodes),
    ),
)
