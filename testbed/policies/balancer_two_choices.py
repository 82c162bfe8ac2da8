"""`two-choices`: each slot has two candidate nodes and goes to the less loaded of them.

Two random choices achieve nearly all of the benefit of comparing all nodes, without the herding that choosing the least
loaded node causes with stale state (Mitzenmacher, "The power of two choices in randomized load balancing", 2001).  A
slot represents the flows that will hash to it.  Slots choose one after the other.  Each adds its share of the traffic
to the load of the chosen node, so that later slots take this into account.  A slot stays at its node unless the load of
the other candidate is lower by more than this share.  Each slot has its own fixed random order of all nodes; its
candidates are the first two that serve.
"""

from __future__ import annotations

import random

import numpy as np

from testbed.policies.balancer_view import BalancerRow, ClusterView
from testbed.records.events import Ints


class TwoChoices:
    """Fixed random rankings, one a slot."""

    heeds_state = True

    def __init__(self, slots: int, nodes: int, rng: random.Random) -> None:
        """Draw the rankings."""
        self._rankings = [rng.sample(range(nodes), nodes) for _ in range(slots)]

    def slots(self, current: Ints, view: ClusterView) -> Ints:
        """See `SlotRule.slots`."""
        serving, load = view.serving.tolist(), view.load_bytes.tolist()
        share = max(sum(load) / len(self._rankings), 1.0)
        table = current.tolist()
        for slot, ranking in enumerate(self._rankings):
            candidates = _first_two(ranking, serving)
            best = min(candidates, key=load.__getitem__)
            if table[slot] not in candidates or load[best] + share < load[table[slot]]:
                table[slot] = best
            load[table[slot]] += share
        return np.array(table, dtype=np.int64)


def _first_two(ranking: list[int], serving: list[bool]) -> list[int]:
    chosen = []
    for node in ranking:
        if serving[node]:
            chosen.append(node)
            if len(chosen) == 2:
                break
    return chosen


ROWS = (
    BalancerRow(
        name="two-choices",
        doc="each slot has two candidate nodes and is assigned to the less loaded one",
        source='Mitzenmacher, "The power of two choices in randomized load balancing", 2001',
        rule=TwoChoices,
    ),
)
