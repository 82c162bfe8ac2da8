"""The pulse of a process: records the times in which its loop stood still, in memory that outlives the process.

A loop that waits at most `period_ns` beats once per iteration.  If two beats are further apart, there was a stall: the
process was stopped, got no CPU time, or was busy.  Part of the time between the beats, up to one period, may have been
normal waiting.  So a stall is reported up to one period too short, but never too long.

The longest stalls are stored in memory that is shared with the trial and created before the process is forked.  So they
are known even if a fault ends the process, or if it is still stopped when the trial ends.  A beat is one memory store.
"""

from __future__ import annotations

import mmap

from testbed.records.stages import KEPT_STALLS, NOTED_NS, Stall

_LAST, _STALLS = 0, 1  # words: the last beat, then began and lasted of each stall
PULSE_WORDS = _STALLS + 2 * KEPT_STALLS


class Pulse:
    """Beaten by one process, read by another.

    Attributes:
        period_ns: how long the loop waits at most.
    """

    def __init__(self, period_ns: int, words: memoryview | None = None) -> None:
        """Begin with nothing noted, or continue in `words`: `PULSE_WORDS` words of 8 bytes of shared memory."""
        self.period_ns = period_ns
        self._words = memoryview(mmap.mmap(-1, 8 * PULSE_WORDS)).cast("q") if words is None else words

    def begin(self, now_ns: int) -> None:
        """Begin to count, at a time of CLOCK_MONOTONIC; what was between two lives of a process is no stall."""
        self._words[_LAST] = now_ns

    def beat(self, now_ns: int) -> None:
        """Say that the loop has come round."""
        words = self._words
        if now_ns - words[_LAST] - self.period_ns > NOTED_NS:
            self._note(now_ns)
        words[_LAST] = now_ns

    def stalls(self, t0_ns: int, now_ns: int | None = None) -> tuple[Stall, ...]:
        """Return the longest stalls after `t0_ns`, in times since then.

        Args:
            t0_ns: the start of the run (CLOCK_MONOTONIC).
            now_ns: for a process that should be running, the time: it may stand still at this moment.
        """
        words = self._words[_STALLS:].tolist()
        spans = [(began, lasted) for began, lasted in zip(words[::2], words[1::2], strict=True) if lasted]
        began_ns = self._words[_LAST] + self.period_ns
        if now_ns is not None and self._words[_LAST] and now_ns - began_ns > NOTED_NS:
            spans.append((began_ns, now_ns - began_ns))
        since = [
            Stall(max(0, began - t0_ns), began + lasted - t0_ns - max(0, began - t0_ns)) for began, lasted in spans
        ]
        return tuple(sorted(stall for stall in since if stall.lasted_ns > 0))

    def _note(self, now_ns: int) -> None:
        """Keep the stall that ends now, in place of the shortest one."""
        words = self._words
        if not words[_LAST]:
            return
        began_ns = words[_LAST] + self.period_ns
        shortest = min(range(_STALLS, len(words), 2), key=lambda at: words[at + 1])
        if now_ns - began_ns > words[shortest + 1]:
            words[shortest + 1] = 0  # a reader must not take the new time for the old length
            words[shortest], words[shortest + 1] = began_ns, now_ns - began_ns
