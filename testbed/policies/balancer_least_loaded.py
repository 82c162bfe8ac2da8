"""`least-loaded`: all new flows go to the node with the smallest load; in a tie the nodes share them.

The load is the backlog plus the arrivals of 10 ms.  The rule causes herding: until the next notification of the chosen
node, all new flows go to it (Mitzenmacher, "How useful is old information?", 2000).  Loads that differ by less than a
twentieth of a buffer count as a tie; otherwise the noise of single packets would decide.
"""

from __future__ import annotations

import numpy as np

from testbed.policies.balancer_view import BalancerRow, ClusterView
from testbed.policies.slots import reweight
from testbed.records.events import Floats, Ints

EQUAL_LOADS_RATIO = 0.05  # of the buffer limit


def least_loaded(view: ClusterView) -> Floats:
    """Return weight 1 for each serving node of the least load, 0 for the others, shape [n]."""
    load = np.where(view.serving, view.load_bytes, np.inf)
    lowest = int(np.argmin(load))
    tolerance = EQUAL_LOADS_RATIO * float(view.limit_bytes[lowest])
    weights: Floats = (load <= load[lowest] + tolerance).astype(np.float64)
    return weights


class LeastLoaded:
    """Weights of `least_loaded`."""

    heeds_state = True

    def slots(self, current: Ints, view: ClusterView) -> Ints:
        """See `SlotRule.slots`."""
        return reweight(current, least_loaded(view))


ROWS = (
    BalancerRow(
        name="least-loaded",
        doc="all new flows go to the least loaded node; nodes with equal load share them",
        source='Mitzenmacher, "How useful is old information?", 2000 (why it herds)',
        rule=lambda _slots, _nodes, _rng: LeastLoaded(),
    ),
)
