"""What became of every packet of a plan: at which end it was seen, and where, if at any.

The ends are sets of packet numbers (`numbers`).  A packet belongs at one end, once.  If it is at several it counts at
the first of this order, and the others are *repeated*:

    delivered at a sink
    dropped by a buffer
    lost on a link between switches that is down
    kept from a node by a fault     drawn: at random, on a link that loses packets
                                    swallowed: by a node that has crashed, or by a link that is down
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import reduce

import numpy as np

from testbed.records.events import Ints
from testbed.traffic.numbers import Bools, PacketNumbers, Words, size_of

NOWHERE = -1


@dataclass(frozen=True, eq=False)
class Fates:
    """The ends of the packets of one trial.

    Attributes:
        numbers: of the packets.
        sent: what the senders sent.
        delivered: what each sink saw, by node.
        dropped: what each buffer dropped, by node.
        drawn: what was lost on the way to each node at random.
        swallowed: what each node or its link took while it was down.
        cut: what each link between switches took while it was down, by link.
        again: how often a packet came to an end at which it had been before, over all ends.
    """

    numbers: PacketNumbers
    sent: Words
    delivered: Mapping[str, Words]
    dropped: Mapping[str, Words]
    drawn: Mapping[str, Words]
    swallowed: Mapping[str, Words]
    again: int = 0
    cut: Mapping[str, Words] = field(default_factory=dict)

    @property
    def _kinds(self) -> tuple[Mapping[str, Words], ...]:
        return self.delivered, self.dropped, self.cut, self.drawn, self.swallowed

    def counts(self) -> dict[str, int]:
        """Return the fields of `FateEvidence` that speak of the plan."""
        seen, counts = self._none(), []
        for kind in self._kinds:
            first = self._union(kind.values()) & ~seen
            counts.append(size_of(first))
            seen = seen | first
        everywhere = sum(size_of(words) for kind in self._kinds for words in kind.values())
        return {
            "sent_pkts": size_of(self.sent),
            "delivered_pkts": counts[0],
            "dropped_pkts": counts[1],
            "fault_pkts": counts[2] + counts[3] + counts[4],
            "missing_pkts": size_of(self.sent & ~seen),
            "repeated_pkts": everywhere - size_of(seen) + self.again,
            "unsent_pkts": size_of(seen & ~self.sent),
        }

    def lost(self) -> Bools:
        """Return of each packet whether it was sent and is at no end, but for nodes and node links that were down."""
        elsewhere = [self._union(kind.values()) for kind in self._kinds[:-1]]
        return self.numbers.members(self.sent & ~self._union(elsewhere))

    def swallowed_at(self, nodes: Iterable[str]) -> Ints:
        """Return of each packet the place in `nodes` of the one that took it while it was down, or `NOWHERE`."""
        places = np.full(self.numbers.total, NOWHERE, dtype=np.int64)
        for place, node in enumerate(nodes):
            places[self.numbers.members(self.swallowed[node])] = place
        return places

    def _none(self) -> Words:
        return np.zeros(self.numbers.words, dtype=np.uint64)

    def _union(self, sets: Iterable[Words]) -> Words:
        return reduce(np.bitwise_or, sets, self._none())
