"""`cooperative`: new flows take slots in turn; the shares of the nodes equalise their work.

The *work* of a node is the time that it needs for its backlog and for the traffic that its present flows will bring
within `HORIZON_S`, in seconds:

    work = backlog / service rate + smoothed arrival rate / service rate × HORIZON_S

The bytes V of the expected new flows are distributed by water filling: each node gets the share that raises its work to
a common level L, and a node above L gets nothing:

    share = max(0, L - work) × service rate,        L such that the shares add up to V

The choice of V determines the rule.  With V near 0, all new flows go to the node with the least work, however small the
difference, and until the next notification this node receives a whole burst (`least-loaded`).  With very large V the
work does not matter (`by-rate`).  V should be the bytes that arrive before the next decision takes effect.  The largest
burst that the nodes can just serve arrives at the sum of their service rates.  So V is this sum times `PLANNED_S`: the
time between two decisions (20 ms) plus the sample interval (10 ms) plus the message delays, doubled as a safety margin.

Flows take the slots in turn (`balancer_turns`), and the nodes are interleaved in the table, so that even the few flows
of a small burst are distributed in these shares.

Source: the rule is ours.  Water filling by work is "join the shortest expected delay" with a known batch (Selen, Adan,
Kapodistria, van Leeuwaarden, "Steady-state analysis of shortest expected delay routing", 2016).  That with stale state
the jobs between two updates should be spread over several servers is a result of Mitzenmacher, "How useful is old
information?", 2000, and Dahlin, "Interpreting stale load information", 2000.
"""

from __future__ import annotations

import numpy as np

from testbed.policies.balancer_view import BalancerRow, ClusterView
from testbed.policies.slots import deal
from testbed.records.events import Floats, Ints

HORIZON_S = 0.1
PLANNED_S = 0.05
_BITS = 8


def filling(work_s: Floats, rate: Floats, volume: float) -> Floats:
    """Distribute `volume` so that all nodes that get a part of it have the same work afterwards; shape [n].

    Args:
        work_s: present work, shape [n].
        rate: service rate of each node, shape [n]; at least one above 0.  A node with rate 0 gets nothing.
        volume: above 0, in the unit of `rate` times seconds.
    """
    order = np.argsort(np.where(rate > 0, work_s, np.inf), kind="stable")
    order = order[: int((rate > 0).sum())]
    rates = np.cumsum(rate[order])
    works = np.cumsum(rate[order] * work_s[order])
    reached = int(np.searchsorted(rates * work_s[order] - works, volume, side="left"))  # nodes below the level
    level = (volume + works[reached - 1]) / rates[reached - 1]
    poured: Floats = np.maximum(level - work_s, 0.0) * rate
    return poured


class Cooperative:
    """The weight of a node is its part of the new flows' bytes."""

    heeds_state = True

    def slots(self, current: Ints, view: ClusterView) -> Ints:
        """See `SlotRule.slots`."""
        rate = view.service_bps / _BITS
        work_s = (view.backlog_bytes + view.rate_bps / _BITS * HORIZON_S) / rate
        serving = np.where(view.serving, rate, 0.0)
        return deal(filling(work_s, serving, PLANNED_S * float(serving.sum())), len(current))


ROWS = (
    BalancerRow(
        name="cooperative",
        doc="new flows are assigned in turn, in shares that equalise (backlog + expected arrivals) / rate of all nodes",
        in_turn=True,
        rule=lambda _slots, _nodes, _rng: Cooperative(),
    ),
)
