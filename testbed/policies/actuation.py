"""Actuation: expansions take time, shrinks do not.

A grant from the pool reserves memory at once, but the larger limit is in force only `delay_ns` later (memory to be
registered, a device queue to be resized).  Each expansion waits its own delay, so a ramp of grants becomes a ramp of
limits, shifted.  A shrink lowers the limit in the same call and cuts what is still under way: an expansion that was
taken back while it waited does not come into force, and asking again means waiting again.

    limit in force <= granted <= capacity of the pool      at every moment
"""

from __future__ import annotations

from collections import deque

import numpy as np

from testbed.events import Ints
from testbed.policies.rows import Bools, Rows


class Actuation:
    """Grants and limits of n nodes.

    Attributes:
        granted_bytes: memory reserved, shape [n].
        limit_bytes: limit in force, shape [n].
    """

    def __init__(self, start_bytes: Ints, delay_ns: int) -> None:
        self.granted_bytes: Ints = start_bytes.copy()
        self.limit_bytes: Ints = start_bytes.copy()
        self._delay_ns = delay_ns
        self._under_way: deque[tuple[int, Ints]] = deque()

    @property
    def next_ready_ns(self) -> int | None:
        """Return when the next expansion comes into force."""
        return self._under_way[0][0] if self._under_way else None

    def give_up(self, want_bytes: Ints) -> Bools:
        """Lower grants to `want_bytes` [n] where that is less; return whose limit changed, bool [n]."""
        np.minimum(self.granted_bytes, want_bytes, out=self.granted_bytes)
        return self._cut()

    def grant(self, rows: Rows, granted_bytes: Ints, now_ns: int) -> Bools:
        """Take in the pool's answer for `rows`; return whose limit changed at once, bool [n]."""
        grown = bool((granted_bytes > self.granted_bytes[rows]).any())
        self.granted_bytes[rows] = granted_bytes
        changed: Bools = self._cut()
        if grown:
            self._under_way.append((now_ns + self._delay_ns, self.granted_bytes.copy()))
            changed |= self.release(now_ns)
        return changed

    def release(self, now_ns: int) -> Bools:
        """Put into force what is ready at `now_ns`; return whose limit changed, bool [n]."""
        before = self.limit_bytes
        while self._under_way and self._under_way[0][0] <= now_ns:
            self.limit_bytes = np.maximum(self.limit_bytes, self._under_way.popleft()[1])
        changed: Bools = self.limit_bytes != before
        return changed

    def _cut(self) -> Bools:
        above: Bools = self.limit_bytes > self.granted_bytes
        for _, limit in self._under_way:
            np.minimum(limit, self.granted_bytes, out=limit)
        if np.count_nonzero(above):
            self.limit_bytes = np.minimum(self.limit_bytes, self.granted_bytes)
        return above
