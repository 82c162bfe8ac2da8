"""The progress of a simulated run, for a process that waits for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from testbed.units import NS_PER_MS, NS_PER_S

_SAID_NS = 100 * NS_PER_MS


@dataclass(slots=True)
class Course:
    """The course of a run.

    Attributes:
        duration_ns: how long its traffic lasts.
        tell: takes what is being done, and for how long that has been so by the clock; see `engine.Recorder`.
        now_ns: how far it is.
        drains_ns: how long the queues take to drain after the traffic, in virtual time; None before its end.
    """

    duration_ns: int
    tell: Callable[[str, int], object] = lambda _what, _for_ns: None
    now_ns: int = 0
    drains_ns: int | None = None
    _began_ns: int | None = None
    _said_ns: int = 0

    def say(self, clock_ns: int) -> None:
        """Report the progress, ten times a second; `clock_ns` is the time of a clock."""
        if self._began_ns is None:
            self._began_ns = clock_ns
        if clock_ns - self._said_ns >= _SAID_NS:
            self._said_ns = clock_ns
            self.tell(self.words(), clock_ns - self._began_ns)

    def words(self) -> str:
        """Return what is being done."""
        if self.drains_ns is not None:
            drained_s, ran_s = self.drains_ns / NS_PER_S, self.duration_ns / NS_PER_S
            return f"simulating: after {ran_s:,.1f} s of traffic queues drain for {drained_s:,.1f} s of virtual time"
        done_s = min(self.now_ns, self.duration_ns) / NS_PER_S
        return f"simulating: {done_s:,.1f} of {self.duration_ns / NS_PER_S:,.1f} s of virtual time"
