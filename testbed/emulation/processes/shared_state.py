"""Memory that the agent and the mesh member of a node share.

    agent ─ SharedState: the last state of the node ─▶ member, which sends it to the others
    agent ◀─ SharedPeers: the states of the others ─ member, which receives them

One process writes, the other reads, and neither waits.  The writer makes a number odd while it writes; a copy made
between two readings of the same even number is consistent (a sequence lock; Lameter, "Effective synchronization on
Linux/NUMA systems", 2005).
"""

from __future__ import annotations

import mmap
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar, cast

_ATTEMPTS = 1000
_T = TypeVar("_T")


class NodeState(NamedTuple):
    """State of a node at `taken_ns` of the run's clock."""

    taken_ns: int
    limit_bytes: int
    backlog_bytes: int
    predicted_bytes: int
    severity_ratio: float


class PeersState(NamedTuple):
    """How strongly the other nodes announce a burst, 0..1, as known at `taken_ns` of the run's clock."""

    taken_ns: int
    severity_ratio: float


class _Cell(Generic[_T]):
    """Made before the fork; the first word is the sequence lock's number.

    A reader that looks every 10 ms at what changes every 100 ms keeps its last copy, with the number it had.
    """

    def __init__(self) -> None:
        memory = memoryview(mmap.mmap(-1, mmap.PAGESIZE))
        self._words, self._ratios = memory.cast("q"), memory.cast("d")
        self._number, self._copy = 0, cast("_T | None", None)

    def _read(self, copy: Callable[[], _T]) -> _T | None:
        """Return a whole copy; None before the first, or while a killed writer left half of one."""
        words = self._words
        if words[0] == self._number:
            return self._copy
        for _ in range(_ATTEMPTS):
            before = words[0]
            state = copy()
            if before and not before & 1 and words[0] == before:
                self._number, self._copy = before, state
                return state
        return None


class SharedState(_Cell[NodeState]):
    """`publish` in the agent, `read` in the mesh member."""

    def publish(self, state: NodeState) -> None:
        """Replace the state."""
        words = self._words
        words[0] |= 1  # it may be odd already: a writer before us was killed while it wrote
        words[1], words[2], words[3] = state.taken_ns, state.limit_bytes, state.backlog_bytes
        words[4], self._ratios[5] = state.predicted_bytes, state.severity_ratio
        words[0] += 1

    @property
    def severity_ratio(self) -> float:
        """Return the severity of the last state, alone, without a look at the rest: 0 before the first."""
        return self._ratios[5]

    def read(self) -> NodeState | None:
        """Return the last state, None without a whole one."""
        words = self._words
        return self._read(lambda: NodeState(words[1], words[2], words[3], words[4], self._ratios[5]))


class SharedPeers(_Cell[PeersState]):
    """`publish` in the mesh member, `read` in the agent."""

    def publish(self, state: PeersState) -> None:
        """Replace the state."""
        self._words[0] |= 1
        self._words[1], self._ratios[2] = state.taken_ns, state.severity_ratio
        self._words[0] += 1

    def read(self) -> PeersState | None:
        """Return the last state, None without a whole one."""
        return self._read(lambda: PeersState(self._words[1], self._ratios[2]))
