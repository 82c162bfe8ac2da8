"""Reactive: two watermarks with a gap between them.

    backlog above HIGH × size, or anything dropped     → double the size
    backlog below LOW × size                           → half the size
    between the two                                    → keep it

The gap is the hysteresis: after a doubling the backlog is at most HIGH / 2 of the new size, which is still above LOW,
so the next sample does not undo it.  Half of the size is free when the rule doubles.  So it follows a queue that grows
by less than half its size within one sample interval and the actuation delay.

This rule is also the *baseline rule* of every predictive policy (`buffer_predictive`).  Therefore it stores its own
size and does not use the limit in force: memory that a wrong forecast reserved must not change what the baseline rule
requests.
"""

from __future__ import annotations

import numpy as np

from testbed.policies.arithmetic import Arithmetic, Arrays, Sample, Values
from testbed.policies.buffer import BufferPolicy, Range
from testbed.records.events import Ints
from testbed.scenario.buffer import BufferSpec

HIGH_RATIO = 0.5
LOW_RATIO = 0.125
FACTOR = 2


class ReactiveRule:
    """Doubles and halves by watermarks."""

    asks_always = False

    def __init__(self, spec: BufferSpec, count: int, ops: Arithmetic = Arrays) -> None:
        self._range, self._ops = Range(spec, ops), ops
        self._floor: Ints = np.full(count, spec.min_bytes, dtype=np.int64)
        self._size = ops.of_array(self._floor)

    def initial_bytes(self) -> Ints:
        """Return the floor."""
        initial: Ints = self._floor.copy()
        return initial

    def wish_bytes(self, sample: Sample, predicted_bytes: Values, severity_ratio: Values) -> Values:
        """Return the size after this sample."""
        ops, backlog, size = self._ops, sample.backlog_bytes, self._size
        grow = (backlog > HIGH_RATIO * size) | (sample.dropped_bytes > 0)
        wish = ops.where(backlog < LOW_RATIO * size, size // FACTOR, size)
        self._size = self._range.clip(ops.where(grow, FACTOR * ops.maximum(size, backlog), wish))
        return self._size


ROWS = (
    BufferPolicy(
        name="reactive",
        doc="doubles the limit above half full or after a drop; halves it below one eighth full",
        rule=lambda spec, count, _members, ops: ReactiveRule(spec, count, ops),
    ),
)
