"""The time of a cluster that spans machines: that of the day, without its steps.

Messages carry the time at which they were sealed, and a receiver takes none that is older than the last one or too old
to act on (`wire.sealing`).  In a trial that is CLOCK_MONOTONIC, which all namespaces share.  Machines share the time of
day, as NTP keeps it.  A process takes it once, at its start, and continues with CLOCK_MONOTONIC, whose rate NTP keeps
as well: so it never goes back.  Clocks that differ by less than 100 ms do no harm: a notification counts for some
hundred milliseconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable


class ClusterClock:
    """Nanoseconds since 1970, as this process had them at its start and counts on.

    Attributes:
        t0_ns: what CLOCK_MONOTONIC read when that clock read 0; far below 0.
    """

    def __init__(
        self, monotonic_ns: Callable[[], int] = time.monotonic_ns, day_ns: Callable[[], int] = time.time_ns
    ) -> None:
        """Take the time of day, once."""
        self._monotonic_ns = monotonic_ns
        self.t0_ns = monotonic_ns() - day_ns()

    def now_ns(self) -> int:
        """Return the time."""
        return self._monotonic_ns() - self.t0_ns
