"""The run's clock: nanoseconds since the start of the run, in every process of the trial."""

from __future__ import annotations

import mmap
import struct
import time

_WORD = struct.Struct("q")


class RunClock:
    """CLOCK_MONOTONIC minus the start time t0, which is set once, when everything is ready.

    It lives in memory shared with every process forked later.  Before the start it reads 0, so that it never goes back.
    """

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, mmap.PAGESIZE)

    def start_at(self, t0_ns: int) -> None:
        """Set the start time (CLOCK_MONOTONIC, ns)."""
        _WORD.pack_into(self._memory, 0, t0_ns)

    def now_ns(self) -> int:
        """Return the time since the start, at least 0."""
        (t0_ns,) = _WORD.unpack_from(self._memory, 0)
        return max(0, time.monotonic_ns() - t0_ns) if t0_ns else 0
