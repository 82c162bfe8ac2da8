"""Deflection: the choice of the sibling to which a full node hands its packets.

A full node drops a packet, or hands it once to a sibling with free buffer.  The choice must exist before the packet
arrives, so every node always knows its present sibling.

**Candidates.**  In a cluster, any other node.  With a second tier, nodes of the first tier hand packets only to the
second tier, and nodes of the second tier to none (all their packets have already been handed over once).

**Choice.**  The node with the most free buffer, by the last notifications.  If all full nodes chose the same best node,
they would fill it before its next notification (Mitzenmacher, "How useful is old information?", 2000).  So a node keeps
its sibling while the sibling has at least `KEEP_RATIO` of the free buffer of the best node.  The first choice is the
next node in a ring, and so differs between nodes.  It is made when all nodes have notified, or when the others have
been silent long enough to count as away.  A node with less than `LEAST_FREE_RATIO` of its limit free is not chosen,
because it will soon need the rest itself.  If there is no candidate, none is named, and a full node drops.

**Away.**  A node is not chosen if its port is down, if it has been silent for `SILENT_PAUSES` of the longest pauses
between two notifications, or if it is dead.  A node that was dead must notify again, because its old state does not
describe the restarted node.  If all nodes were silent, this process itself was stopped, and all timeouts restart.

The message with a name may be lost, so each name is sent again with the first input after `REPEAT_NS`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from testbed.policies.agreement import REASON as MESH
from testbed.policies.readiness import KEEPALIVE_NS, SILENT_PAUSES
from testbed.policies.rows import Bools
from testbed.records.events import Action, Event, Ints, NameSiblings, NodeJoined, NodeLeft, NodesNotified
from testbed.scenario.network import Host
from testbed.units import NS_PER_S

DEFLECTION = "deflection"  # the policy's name in the history
KEEP_RATIO = 0.5
LEAST_FREE_RATIO = 1 / 8
REPEAT_NS = NS_PER_S

_NOBODY = -1
_NEVER = -(2**62)


class DeflectionPolicy:
    """Names siblings: `NodesNotified`, `NodeLeft` and `NodeJoined` in, `NameSiblings` out.

    Nodes that were not given at the start are ignored.
    """

    def __init__(self, nodes: Sequence[Host], pause_ns: int = KEEPALIVE_NS) -> None:
        """Start without state: the first names are chosen after the first notifications.

        `pause_ns` is the longest pause of a live node between two of them (`readiness.longest_pause_ns`).
        """
        self._silence_ns = SILENT_PAUSES * pause_ns
        self._names = tuple(node.name for node in nodes)
        self._row_of = {name: row for row, name in enumerate(self._names)}
        count, last_tier = len(nodes), max(node.tier for node in nodes)
        tier = np.array([node.tier for node in nodes], dtype=np.int64)
        self._may_take: Bools = tier == last_tier
        self._may_hand: Bools = (tier < last_tier) | (last_tier == 1)
        self._free_bytes, self._limit_bytes = np.zeros((2, count), dtype=np.int64)
        self._heard_ns = np.full(count, _NEVER, dtype=np.int64)
        self._named_ns = np.full(count, _NEVER, dtype=np.int64)
        self._first_heard_ns: int | None = None
        self._naming = False
        self._away: list[set[str]] = [set() for _ in nodes]
        self._sibling: Ints = np.full(count, _NOBODY, dtype=np.int64)
        self._ring = _ring(np.flatnonzero(self._may_take), count)

    def handle(self, event: Event, now_ns: int) -> list[Action]:
        """See `Policy.handle`."""
        if isinstance(event, NodesNotified):
            self._hear(event, now_ns)
        elif isinstance(event, NodeLeft):
            self._leave(event)
        elif isinstance(event, NodeJoined):
            self._join(event)
        else:
            return []
        return self._name(now_ns)

    def next_deadline_ns(self) -> int | None:
        """Return None: it acts only on events."""
        return None

    def _hear(self, event: NodesNotified, now_ns: int) -> None:
        if now_ns - int(self._heard_ns.max()) > self._silence_ns // 2:
            self._heard_ns[self._heard_ns > _NEVER] = now_ns
        if self._first_heard_ns is None:
            self._first_heard_ns = now_ns
        known = [k for k, node in enumerate(event.nodes) if node in self._row_of]
        rows = [self._row_of[event.nodes[k]] for k in known]
        self._limit_bytes[rows] = event.limit_bytes[known]
        self._free_bytes[rows] = np.maximum(event.limit_bytes - event.backlog_bytes, 0)[known]
        self._heard_ns[rows] = now_ns

    def _leave(self, event: NodeLeft) -> None:
        if event.node in self._row_of:
            row = self._row_of[event.node]
            self._away[row].add(event.reason)
            if event.reason == MESH:
                self._heard_ns[row] = _NEVER

    def _join(self, event: NodeJoined) -> None:
        if event.node in self._row_of:
            reasons = self._away[self._row_of[event.node]]
            reasons.difference_update({event.reason} if event.reason else set(reasons))

    def _name(self, now_ns: int) -> list[Action]:
        """Return the names that changed or must be repeated."""
        if not self._may_name(now_ns):
            return []
        before, self._sibling = self._sibling, self._choose(self._open(now_ns))
        named = self._named_ns > _NEVER
        due = (self._sibling != before) | (named & (now_ns - self._named_ns >= REPEAT_NS))
        rows = np.flatnonzero(due & self._may_hand)
        if not rows.size:
            return []
        self._named_ns[rows] = now_ns
        siblings = tuple("" if k == _NOBODY else self._names[k] for k in self._sibling[rows].tolist())
        return [NameSiblings(nodes=tuple(self._names[row] for row in rows.tolist()), siblings=siblings)]

    def _may_name(self, now_ns: int) -> bool:
        """Return whether all available nodes have notified; else the first one would be the sibling of all others."""
        if not self._naming and self._first_heard_ns is not None:
            present = np.array([not reasons for reasons in self._away], dtype=bool)
            all_heard = bool(self._heard_ns[present].min(initial=now_ns) > _NEVER)
            self._naming = all_heard or now_ns - self._first_heard_ns >= self._silence_ns
        return self._naming

    def _open(self, now_ns: int) -> Bools:
        """Return which nodes may be a sibling now, bool [n]."""
        here = np.array([not reasons for reasons in self._away], dtype=bool)
        heard = now_ns - self._heard_ns < self._silence_ns
        roomy = (self._free_bytes > 0) & (self._free_bytes >= LEAST_FREE_RATIO * self._limit_bytes)
        taking: Bools = self._may_take & here & heard & roomy
        return taking

    def _choose(self, taking: Bools) -> Ints:
        """Return the sibling of each node, shape [n]."""
        free = np.where(taking, self._free_bytes, -1)
        best = _best_other(free)
        best_free = np.where(best == _NOBODY, 0, free[best])
        kept = np.where(self._sibling == _NOBODY, self._ring, self._sibling)
        keeps = (kept != _NOBODY) & taking[kept] & (free[kept] >= KEEP_RATIO * best_free)
        chosen: Ints = np.where(keeps, kept, best)
        return np.where(self._may_hand, chosen, _NOBODY)


def _ring(takers: Ints, count: int) -> Ints:
    """Return for each of `count` nodes the next taker in a ring that is not itself, shape [n]."""
    nodes = np.arange(count)
    place = np.searchsorted(takers, nodes, side="right") if count == len(takers) else nodes
    following: Ints = takers[place % len(takers)]
    return np.where(following == nodes, _NOBODY, following)


def _best_other(free: Ints) -> Ints:
    """Return for each node the row with the most free bytes but its own, `_NOBODY` where none has any; shape [n]."""
    first = int(np.argmax(free))
    others = free.copy()
    others[first] = -1
    second = int(np.argmax(others))
    best = np.full(len(free), first if free[first] > 0 else _NOBODY, dtype=np.int64)
    best[first] = second if others[second] > 0 else _NOBODY
    return best
