"""What an agent lets the mesh member beside it see: the last state of the node, in memory shared by a fork.

One writes, one reads, neither waits: the writer makes a number odd while it writes, and a copy made between two looks
at the same even number is whole (a sequence lock; Lameter, "Effective synchronization on Linux/NUMA systems", 2005).
"""

from __future__ import annotations

import mmap
from typing import NamedTuple

_ATTEMPTS = 1000


class NodeState(NamedTuple):
    """State of a node at `taken_ns` of the run's clock."""

    taken_ns: int
    limit_bytes: int
    backlog_bytes: int
    predicted_bytes: int
    severity_ratio: float


class SharedState:
    """Made before the fork; `publish` in the agent, `read` in the mesh member."""

    def __init__(self) -> None:
        memory = memoryview(mmap.mmap(-1, mmap.PAGESIZE))
        self._words, self._ratios = memory.cast("q"), memory.cast("d")

    def publish(self, state: NodeState) -> None:
        """Replace the state."""
        words = self._words
        words[0] |= 1  # it may be odd already: a writer before us was killed while it wrote
        words[1], words[2], words[3] = state.taken_ns, state.limit_bytes, state.backlog_bytes
        words[4], self._ratios[5] = state.predicted_bytes, state.severity_ratio
        words[0] += 1

    def read(self) -> NodeState | None:
        """Return the last state; None before the first, or while a killed writer left half of one."""
        words = self._words
        for _ in range(_ATTEMPTS):
            before = words[0]
            state = NodeState(words[1], words[2], words[3], words[4], self._ratios[5])
            if before and not before & 1 and words[0] == before:
                return state
        return None
