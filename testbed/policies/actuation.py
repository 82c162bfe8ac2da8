"""Actuation: expansions take time, shrinks do not.

A grant from the pool reserves memory at once, but the larger limit takes effect only `delay_ns` later (for example
because memory must be registered or a device queue resized).  Each expansion has its own delay, so a ramp of grants
becomes the same ramp of limits, shifted in time.  A shrink lowers the limit immediately and cancels pending expansions.
A cancelled expansion never takes effect; a new request starts a new delay.

    limit in force <= granted <= capacity of the pool      at every moment
"""

from __future__ import annotations

from collections import deque

from testbed.policies.arithmetic import Mask, Values, arithmetic_of
from testbed.policies.rows import Rows


class Actuation:
    """Grants and limits of n nodes.

    Attributes:
        granted_bytes: memory reserved.
        limit_bytes: limit in force.
    """

    def __init__(self, start_bytes: Values, delay_ns: int) -> None:
        self._ops = arithmetic_of(start_bytes)
        self.granted_bytes = self.limit_bytes = start_bytes
        self._delay_ns = delay_ns
        self._under_way: deque[tuple[int, Values]] = deque()

    @property
    def next_ready_ns(self) -> int | None:
        """Return when the next expansion takes effect."""
        return self._under_way[0][0] if self._under_way else None

    def give_up(self, want_bytes: Values) -> Mask:
        """Lower grants to `want_bytes` where this is less; return which limits changed."""
        self.granted_bytes = self._ops.minimum(self.granted_bytes, want_bytes)
        return self._cut()

    def grant(self, rows: Rows, granted_bytes: Values, now_ns: int) -> Mask:
        """Process the pool's answer for `rows`; return which limits changed at once."""
        granted = self._ops.replaced(self.granted_bytes, rows, granted_bytes)
        grown = self._ops.any(granted > self.granted_bytes)
        self.granted_bytes = granted
        changed = self._cut()
        if grown:
            self._under_way.append((now_ns + self._delay_ns, granted))
            changed = changed | self.release(now_ns)
        return changed

    def release(self, now_ns: int) -> Mask:
        """Apply the expansions that are due at `now_ns`; return which limits changed."""
        before = self.limit_bytes
        while self._under_way and self._under_way[0][0] <= now_ns:
            self.limit_bytes = self._ops.maximum(self.limit_bytes, self._under_way.popleft()[1])
        return self.limit_bytes != before

    def _cut(self) -> Mask:
        above = self.limit_bytes > self.granted_bytes
        for k, (ready_ns, limit) in enumerate(self._under_way):
            self._under_way[k] = (ready_ns, self._ops.minimum(limit, self.granted_bytes))
        if self._ops.any(above):
            self.limit_bytes = self._ops.minimum(self.limit_bytes, self.granted_bytes)
        return above
