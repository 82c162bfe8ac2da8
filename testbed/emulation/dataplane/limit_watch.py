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

from testbed.emulation.dataplane.xdp_meter import NodeLook
from testbed.emulation.inventory.difference import Difference

_FOREIGN, _REFUSED, _ADMITTED = range(3)
_WORDS = 5  # of each: how often, first and last time, value expected, value found
_TEXTS = {  # what was expected, what was found
    _FOREIGN: ("{} B set by the agent", "{} B in force"),
    _REFUSED: ("expected: drops only when the backlog exceeds {} B", "found: a drop at a backlog of {} B"),
    _ADMITTED: ("expected: no backlog above {} B", "found: a backlog of {} B"),
}


class LimitWatch:
    """Made before the fork; `put` and `look` in the agent, `differences` in the trial."""

    def __init__(self, node: str, limit_bytes: int, largest_frame_bytes: int) -> None:
        """Watch the buffer of `node`, whose limit is `limit_bytes` now."""
        self._node, self._frame_bytes = node, largest_frame_bytes
        self._words = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("q")
        self.begin(limit_bytes)

    def begin(self, limit_bytes: int) -> None:
        """Begin anew with the limit that is in force, without a packet before."""
        self._limit = self._low = self._high = self._high_before = limit_bytes
        self._backlog_bytes = limit_bytes  # not known before the first look: nothing is concluded from it

    def put(self, limit_bytes: int) -> None:
        """Note that the agent sets a limit now."""
        self._limit = limit_bytes
        self._low, self._high = min(self._low, limit_bytes), max(self._high, limit_bytes)

    def look(self, t_ns: int, look: NodeLook, refused_pkts: int) -> None:
        """Compare a tick with the limits that were set.

        Args:
            t_ns: of the tick, on the run's clock.
            look: what the agent saw; its highest backlog may be of up to 1 ms before the tick before.
            refused_pkts: packets dropped by the buffer since the tick before.
        """
        found_bytes, peak_bytes = look.counters.limit_bytes, look.interval.peak_backlog_bytes
        if found_bytes != self._limit:
            self._note(_FOREIGN, t_ns, self._limit, found_bytes)
        reached = max(self._backlog_bytes, peak_bytes)
        if refused_pkts and reached + self._frame_bytes <= self._low:
            self._note(_REFUSED, t_ns, self._low, reached)
        if peak_bytes > max(self._high, self._high_before):
            self._note(_ADMITTED, t_ns, max(self._high, self._high_before), peak_bytes)
        self._backlog_bytes, self._high_before = look.backlog_bytes, self._high
        self._low = self._high = self._limit

    def _note(self, what: int, t_ns: int, expected: int, found: int) -> None:
        words, at = self._words, what * _WORDS
        first_ns = words[at + 1] if words[at] else t_ns
        words[at], words[at + 1], words[at + 2], words[at + 3], words[at + 4] = (
            words[at] + 1,
            first_ns,
            t_ns,
            expected,
            found,
        )

    def differences(self) -> Iterator[Difference]:
        """Yield what was found: of each kind the first and the last time."""
        for what, (expected, found) in _TEXTS.items():
            count, first_ns, last_ns, *values = self._words[what * _WORDS : (what + 1) * _WORDS]
            before, after = expected.format(values[0]), found.format(values[1])
            for t_ns in sorted({first_ns, last_ns}) if count else ():
                yield Difference(self._node, "buffer", "limit", "", before, after, t_ns)
