"""Which members monitor which node: a few monitors for each node, the same in every process.

Rendezvous hashing (Thaler and Ravishankar, "Using name-based mappings to increase hit rates", 1998): every pair of node
and possible monitor has a score, and the highest scores monitor.  It is consistent: a member that comes or goes changes
only the sets it is in, and each member monitors about as many nodes as any other.

The set is made from all members, dead or alive.  If it were made from the live ones, two members whose views differ for
a moment would disagree about who has to be sent heartbeats, and a monitor that is sent none would suspect a healthy
node.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b


def monitors_of(node: str, members: Sequence[str], count: int) -> tuple[str, ...]:
    """Return the monitors of `node` among `members`, highest score first: `count`, or all others when fewer."""
    return _monitors(node, tuple(members), count)


@lru_cache(maxsize=2048)  # where many members live in one process each of them asks for every node
def _monitors(node: str, members: tuple[str, ...], count: int) -> tuple[str, ...]:
    others = [member for member in members if member != node]
    return tuple(sorted(others, key=lambda member: (_score(node, member), member), reverse=True)[:count])


def monitored_by(member: str, members: Sequence[str], count: int) -> tuple[str, ...]:
    """Return the nodes that `member` monitors, in the order of `members`."""
    return tuple(node for node in members if member in monitors_of(node, members, count))


def _score(node: str, member: str) -> bytes:
    return blake2b(f"{node} watched by {member}".encode(), digest_size=8).digest()
