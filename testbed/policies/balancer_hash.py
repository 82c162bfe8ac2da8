"""`hash`: each slot goes to the serving node with the highest hash score for it, whatever the state of the nodes.

Rendezvous hashing (Thaler & Ravishankar, 1998): when a node leaves, only its own slots move, and they move back when it
returns.  The cost is uneven shares, as with any plain hash: the number of slots of a node is binomially distributed.
"""

from __future__ import annotations

import random

import numpy as np

from testbed.policies.balancer_view import BalancerRow, ClusterView
from testbed.records.events import Ints


class HighestScore:
    """Fixed random scores, shape [slots, n]."""

    heeds_state = False

    def __init__(self, slots: int, nodes: int, rng: random.Random) -> None:
        """Draw the scores."""
        self._scores = np.array([[rng.random() for _ in range(nodes)] for _ in range(slots)])

    def slots(self, current: Ints, view: ClusterView) -> Ints:
        """See `SlotRule.slots`."""
        winners: Ints = np.argmax(np.where(view.serving, self._scores, -1.0), axis=1).astype(np.int64)
        return winners


ROWS = (
    BalancerRow(
        name="hash",
        doc="rendezvous hashing: each slot to the node with the highest hash score; ignores the state of the nodes",
        source="Thaler, Ravishankar, 1998 (rendezvous hashing)",
        rule=HighestScore,
    ),
)
