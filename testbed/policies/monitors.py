"""Which members monitor which node: a few monitors for each node, the same in every process.

Rendezvous hashing (Thaler and Ravishankar, "Using name-based mappings to increase hit rates", 1998): every pair of a
node and a possible monitor has a score, and the members with the highest scores monitor the node.  When a member is
added or removed, only the sets that contain it change.  Each member monitors about the same number of nodes.

The sets are computed from all members, dead or alive.  If they were computed from the live members, two members with
different views would disagree for a moment about who must receive heartbeats, and a monitor that receives none would
suspect a healthy node.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b


def monitors_of(node: str, members: Sequence[str], count: int) -> tuple[str, ...]:
    """Return the monitors of `node` among `members`, highest score first: `count`, or all others when fewer."""
    return _monitors(node, tuple(members), count)


@lru_cache(maxsize=2048)  # many members in one process each ask for every node
def _monitors(node: str, members: tuple[str, ...], count: int) -> tuple[str, ...]:
    others = [member for member in members if member != node]
    return tuple(sorted(others, key=lambda member: (_score(node, member), member), reverse=True)[:count])


def monitored_by(member: str, members: Sequence[str], count: int) -> tuple[str, ...]:
    """Return the nodes that `member` monitors, in the order of `members`."""
    return tuple(node for node in members if member in monitors_of(node, members, count))


def _score(node: str, member: str) -> bytes:
    return blake2b(f"{node} watched by {member}".encode(), digest_size=8).digest()


class Rings:
    """The monitors in a mesh of any size: one ring per monitor of a node; the successor in each ring is a monitor.

    Each ring is ordered by a different hash of the names.  So each member has `count` monitors and monitors about as
    many nodes, whatever the size.  If a few members are added or removed, only their neighbours are affected.  Members
    that fail together (a rack, a site) are rarely neighbours.  Rendezvous hashing would compute n² scores, a minute for
    10,000 members; rings cost n log n.

    Source: L. Suresh et al., Stable and Consistent Membership at Scale with Rapid (USENIX ATC 2018): monitoring along
    pseudo-random rings gives an expander graph.
    """

    def __init__(self, members: tuple[str, ...], count: int) -> None:
        """Create `count` rings, but at most as many as there are other members."""
        self._monitors: dict[str, list[str]] = {member: [] for member in members}
        self._monitored: dict[str, list[str]] = {member: [] for member in members}
        for ring in range(min(count, len(members) - 1)):
            self._close(sorted(members, key=lambda member: _score(f"ring {ring}", member)))

    def _close(self, order: list[str]) -> None:
        """Assign to each member, as a monitor, the next one in this order that is not yet its monitor."""
        for at, node in enumerate(order):
            taken = (node, *self._monitors[node])
            after = (order[(at + step) % len(order)] for step in range(1, len(order)))
            monitor = next(member for member in after if member not in taken)
            self._monitors[node].append(monitor)
            self._monitored[monitor].append(node)

    def monitors_of(self, node: str) -> tuple[str, ...]:
        """Return the monitors of a node; none if the node is not a member."""
        return tuple(self._monitors.get(node, ()))

    def monitored_by(self, member: str) -> tuple[str, ...]:
        """Return the nodes that a member monitors."""
        return tuple(self._monitored.get(member, ()))


@lru_cache(maxsize=8)
def rings_of(members: tuple[str, ...], count: int) -> Rings:
    """Return the rings of these members; members in one process share them."""
    return Rings(members, count)
