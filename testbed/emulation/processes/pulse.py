"""The pulse of a process: when it did not come to its loop, kept where it outlives the process.

A loop that waits for `period_ns` at most beats once a turn.  Two beats that are further apart were a stall: the process
was stopped, starved, or busy with something else.  Of the time between them the period may have been waiting, so a
stall is reported as up to a period too short, never as too long.

The longest stalls lie in memory shared with the trial, made before the process is forked: what a process went through
is known even when a fault ends it, or when it is still stopped as the trial ends.  A beat is one store.
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
