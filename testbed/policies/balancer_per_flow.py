"""`per-flow`: the controller places every flow when its first packet arrives, as textbooks have it.

For comparison.  Each new flow costs a packet-in, a decision and a packet-out before its first packet goes on, and what
the switch's queue to the controller does not hold is lost; in return the choice is made for this flow, with the state
of the nodes as it is now.

A burst brings many flows between two notifications, in which the least loaded node would get them all (Mitzenmacher,
"How useful is old information?", 2000).  So flows go to the node that got the fewest since it was heard last, and of
those to the least loaded one.
"""

from __future__ import annotations

import numpy as np

from testbed.events import Ints
from testbed.policies.balancer_round_robin import RoundRobin
from testbed.policies.balancer_view import ClusterView


class PerFlow(RoundRobin):
    """Places flows; the slots, which the switch does not have under this policy, are dealt evenly."""

    def __init__(self, nodes: int) -> None:
        """Start with nothing placed."""
        self._placed_since_heard = np.zeros(nodes, dtype=np.int64)

    def heard(self, rows: Ints) -> None:
        """Take in that the nodes of `rows` told their state."""
        self._placed_since_heard[rows] = 0

    def place(self, view: ClusterView) -> int:
        """Return the row of the node for a new flow; only a serving one."""
        order = np.lexsort((view.load_bytes, self._placed_since_heard, ~view.serving))
        row = int(order[0])
        self._placed_since_heard[row] += 1
        return row
