"""Checks that the limit of a node's buffer is always the one its agent set.

The limit is in memory that root can write.  At every tick the limit in force has to be the one the agent set last.
Between ticks packets show it: a dropped one needs a backlog near the lowest limit of that time, and no backlog after an
admitted packet exceeds the highest (``bpf/queue.h``).  So a limit not set by the agent is detected if it is in force at
a tick or if it changed the fate of a packet.

What was found is kept in memory shared with the trial, which reads it at the end, even if a fault has killed the agent.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator

import numpy as np

from testbed.emulation.dataplane.nodes_look import NodesLook
from testbed.emulation.inventory.difference import Difference
from testbed.policies.rows import Bools
from testbed.records.events import Ints

_FOREIGN, _REFUSED, _ADMITTED = range(3)
_COUNT, _FIRST, _LAST, _EXPECTED, _FOUND = range(5)  # of each: how often, first and last time, two values
_TEXTS = {  # what was expected, what was found
    _FOREIGN: ("{} B set by the agent", "{} B in force"),
    _REFUSED: ("expected: drops only when the backlog exceeds {} B", "found: a drop at a backlog of {} B"),
    _ADMITTED: ("expected: no backlog above {} B", "found: a backlog of {} B"),
}


class LimitWatch:
    """Made before the fork; `put` and `look` in the agent, `differences` in the trial."""

    def __init__(self, nodes: tuple[str, ...], limit_bytes: Ints, largest_frame_bytes: int) -> None:
        """Watch the buffers of `nodes`, whose limits are `limit_bytes` [n] now."""
        self._nodes, self._frame_bytes = nodes, largest_frame_bytes
        shape = (len(nodes), len(_TEXTS), _FOUND + 1)
        self._found_words: Ints = np.frombuffer(mmap.mmap(-1, 8 * int(np.prod(shape))), dtype=np.int64).reshape(shape)
        self.begin(limit_bytes)

    def begin(self, limit_bytes: Ints) -> None:
        """Start again with the limits in force and no earlier packet."""
        self._limit = self._low = self._high = self._high_before = limit_bytes.copy()
        self._backlog_bytes = limit_bytes  # not known before the first look: nothing is concluded from it

    def put(self, row: int, limit_bytes: int) -> None:
        """Note that the agent sets a limit now."""
        if self._low is self._limit:  # the first since a look: arrays are shared as long as they are equal
            self._low, self._high, self._limit = self._limit.copy(), self._limit.copy(), self._limit.copy()
        self._limit[row] = limit_bytes
        self._low[row], self._high[row] = min(self._low[row], limit_bytes), max(self._high[row], limit_bytes)

    def look(self, t_ns: int, look: NodesLook) -> None:
        """Compare a tick with the limits that were set.

        Args:
            t_ns: of the tick, on the run's clock.
            look: what the agent saw; a highest backlog may be of up to 1 ms before the tick before.
        """
        peak_bytes, found_bytes, refused_pkts = look.peak_backlog_bytes, look.limit_bytes, look.refused_pkts
        self._note(found_bytes != self._limit, _FOREIGN, t_ns, self._limit, found_bytes)
        if np.count_nonzero(refused_pkts):
            reached = np.maximum(self._backlog_bytes, peak_bytes)
            alone = (refused_pkts > 0) & (reached + self._frame_bytes <= self._low)
            self._note(alone, _REFUSED, t_ns, self._low, reached)
        highest = self._high if self._high is self._high_before else np.maximum(self._high, self._high_before)
        self._note(peak_bytes > highest, _ADMITTED, t_ns, highest, peak_bytes)
        self._backlog_bytes, self._high_before = look.backlog_bytes, self._high
        self._low = self._high = self._limit

    def _note(self, where: Bools, what: int, t_ns: int, expected: Ints, found: Ints) -> None:
        if not np.count_nonzero(where):
            return
        for row in np.flatnonzero(where).tolist():
            cell = self._found_words[row, what]
            cell[_FIRST] = cell[_FIRST] if cell[_COUNT] else t_ns
            cell[_COUNT], cell[_LAST] = cell[_COUNT] + 1, t_ns
            cell[_EXPECTED], cell[_FOUND] = expected[row], found[row]

    def differences(self) -> Iterator[Difference]:
        """Yield what was found: of each node and kind the first and the last time."""
        for node, kinds in zip(self._nodes, self._found_words.tolist(), strict=True):
            for (expected, found), (count, first_ns, last_ns, *values) in zip(_TEXTS.values(), kinds, strict=True):
                before, after = expected.format(values[0]), found.format(values[1])
                for t_ns in sorted({first_ns, last_ns}) if count else ():
                    yield Difference(node, "buffer", "limit", "", before, after, t_ns)
