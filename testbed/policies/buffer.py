"""Sizing a buffer: the interface of the rules, and what all of them share.

A rule looks at one sample (and, if it predicts, at a forecast) and says what size each node should have: its *wish*.
What happens to a wish is the same for all rules, so that a comparison of two policies compares their rules only:

    wish ── floor and cap ── shrink hold ── never below the backlog ── pool ── actuation delay ──▶ limit

* Floor and cap are `min` and `max` of the scenario.
* The shrink hold (`ShrinkHold`) lets a size grow at once and shrink only when less was enough for `shrink_hold`.
* The pool (`pool.Pool`) may refuse a wish in part; the node asks again with the next sample.
* The actuation delay (`actuation.Actuation`) is the time a real expansion takes.  A shrink is one store and waits for
  nothing; it never goes below the backlog of the moment, except where the pool's own rule demands memory back.

The rules, one file each: `buffer_static` (static-min, static-mean, static-max), `buffer_dynamic_threshold`,
`buffer_reactive`, `buffer_predictive` (ewma, holt, lstm, oracle: the same rule with other forecasters).
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from testbed.events import Floats, Ints, TrafficSampled
from testbed.spec.scenario import BufferSpec

GRAINS = 64  # sizes that follow a quantity step by this part of the range, so that noise does not resize
_ROUNDING_GRAINS = 1e-9  # what floats may be above the whole number that is meant


class SizingRule(Protocol):
    """Says how large the buffers of n nodes should be.

    Attributes:
        asks_always: whether a grant may become too large by what other nodes do, so that the pool must be asked with
            every sample and not only when the wish changes.
    """

    asks_always: bool

    def initial_bytes(self) -> Ints:
        """Return the sizes before the first sample, shape [n]."""
        ...

    def wish_bytes(self, sample: TrafficSampled, predicted_bytes: Ints, severity_ratio: Floats) -> Ints:
        """Return the sizes the rule wants now, within floor and cap, shape [n].

        Args:
            sample: what the nodes saw.
            predicted_bytes: peak backlog to come, shape [n]; the present backlog where nothing predicts.
            severity_ratio: how strongly a burst is announced, 0..1, shape [n].
        """
        ...


class Range:
    """Floor and cap of a size, and the steps between."""

    def __init__(self, spec: BufferSpec) -> None:
        self.floor_bytes, self.cap_bytes = spec.min_bytes, spec.max_bytes
        self._grain = max(1, (spec.max_bytes - spec.min_bytes) // GRAINS)
        self._most_grains = -(-(spec.max_bytes - spec.min_bytes) // self._grain)

    def clip(self, size_bytes: Ints) -> Ints:
        """Return the sizes cut to floor and cap."""
        clipped: Ints = np.minimum(np.maximum(size_bytes, self.floor_bytes), self.cap_bytes)
        return clipped

    def stepped(self, above_bytes: Floats) -> Ints:
        """Return the floor and as many whole steps as hold `above_bytes` more, cut to floor and cap."""
        grains = np.ceil(above_bytes / self._grain - _ROUNDING_GRAINS)
        np.minimum(np.maximum(grains, 0.0, out=grains), self._most_grains, out=grains)
        size = grains.astype(np.int64)
        size *= self._grain
        size += self.floor_bytes
        return np.minimum(size, self.cap_bytes, out=size)


class ShrinkHold:
    """Lets sizes grow at once and shrink only to what the last `hold_ns` at most wanted.

    A sliding maximum would need the whole window; here a window opens when the wish falls below the size, remembers
    the highest wish in it, and when `hold_ns` have passed the size falls to that.  A size so lives at least one hold
    after it was wanted and at most two, at O(1).
    """

    def __init__(self, start_bytes: Ints, hold_ns: int) -> None:
        self._size: Ints = start_bytes.copy()
        self._hold_ns = hold_ns
        self._since_ns = np.zeros(len(start_bytes), dtype=np.int64)
        self._highest = np.zeros(len(start_bytes), dtype=np.int64)

    def held(self, wish_bytes: Ints, now_ns: int) -> Ints:
        """Return the sizes to have at `now_ns` when `wish_bytes` [n] are wanted."""
        np.maximum(self._highest, wish_bytes, out=self._highest)
        renew = self._highest >= self._size
        renew |= now_ns - self._since_ns >= self._hold_ns
        np.copyto(self._size, self._highest, where=renew)
        np.copyto(self._since_ns, now_ns, where=renew)
        np.copyto(self._highest, 0, where=renew)
        size: Ints = self._size.copy()
        return size
