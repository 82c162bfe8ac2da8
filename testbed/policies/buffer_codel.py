"""CoDel as a rule for limits: a burst may fill the buffer; a standing queue is reduced to the target.

CoDel drops a packet when the queueing delay was above `target` throughout one `interval`.  It drops the next packet one
interval later, then after interval / √2, interval / √3 …, until the delay is below the target once.  Here a node can
act only through a limit, so the k-th drop becomes the k-th step of the limit:

    not dropping    limit = `max`
    dropping        limit = T + (Q − T) / √k          T = C × target; Q: the backlog when dropping began

**Same as CoDel**: the target; a burst of up to one interval is tolerated; the minimum over the interval (one sample at
or below the target ends it); the intervals between steps; and the count continues if dropping begins again within 16
intervals.  **Different**: CoDel drops one packet per step, at the head of the queue, so an adaptive sender notices
early and loses one packet.  A limit drops every packet that finds the queue above it, at the tail, and the first step
already drops all packets that would make the queue longer than Q. CoDel hardly shortens the queue of a source that does
not adapt; this rule does.  The delay is that of a packet that arrives now (backlog / C), not of the packet that leaves.
It is checked once per sample, and there is at most one step per sample.  The floor `min` applies: if `min` is above C ×
target, the queue is reduced only to `min`.

The memory for `max` is reserved while nothing is dropped, because CoDel assumes a large buffer.

Source: K. Nichols, V. Jacobson, "Controlling queue delay", ACM Queue 10(5), 2012; RFC 8289, 2018, sections 4 and 5.
"""

from __future__ import annotations

from typing import cast

from testbed.policies.arithmetic import Arithmetic, Mask, Sample, Values
from testbed.policies.buffer import BufferPolicy, Range
from testbed.policies.fluid import BITS_TIMES_NS
from testbed.records.events import Ints
from testbed.scenario.buffer import BufferSpec
from testbed.scenario.buffer_options import CodelOptions
from testbed.scenario.tables import BUFFER_POLICIES, options_of

RESUMES_INTERVALS = 16


class CodelRule:
    """Steps the limit of a queue that stays down to the target."""

    asks_always = False

    def __init__(self, spec: BufferSpec, rate_bps: Values, _members: int, ops: Arithmetic) -> None:
        options = cast(CodelOptions, options_of(BUFFER_POLICIES["codel"], spec.options))
        self._ops, self._range = ops, Range(spec, ops)
        self._interval_ns = options.interval_ns
        self._target = ops.whole(rate_bps * (options.target_ns / BITS_TIMES_NS))
        none = self._target * 0
        self._cap = none + spec.max_bytes
        self._above_ns = self._next_ns = self._entry = self._dropping = none
        self._count = self._first_count = none + 1
        self._ended_ns = none + RESUMES_INTERVALS * self._interval_ns

    def initial_bytes(self) -> Ints:
        """Return the cap."""
        initial: Ints = self._ops.to_array(self._cap)
        return initial

    def wish_bytes(self, sample: Sample, predicted_bytes: Values, severity_ratio: Values) -> Values:
        """Return the cap, or while a queue stays above the target the limit of the present step."""
        ops, backlog, passed_ns = self._ops, sample.backlog_bytes, sample.interval_ns
        below = backlog <= self._target
        self._above_ns = ops.where(below, 0, self._above_ns + passed_ns)
        self._step(passed_ns)
        begins = (self._dropping < 1) & (self._above_ns >= self._interval_ns)
        self._begin(begins, backlog)
        self._dropping = ops.where(below, 0, ops.where(begins, 1, self._dropping))
        self._ended_ns = ops.where(self._dropping > 0, 0, self._ended_ns + passed_ns)
        above = ops.whole((self._entry - self._target) / ops.sqrt(self._count))
        return self._range.clip(ops.where(self._dropping > 0, self._target + above, self._cap))

    def _step(self, passed_ns: int) -> None:
        ops = self._ops
        self._next_ns = self._next_ns - passed_ns
        due = (self._dropping > 0) & (self._next_ns <= 0)
        self._count = ops.where(due, self._count + 1, self._count)
        self._next_ns = ops.where(due, self._next_ns + self._interval_ns / ops.sqrt(self._count), self._next_ns)

    def _begin(self, begins: Mask, backlog: Values) -> None:
        """Begin to drop: the count continues from what the last time added, if that was not long ago."""
        ops, added = self._ops, self._count - self._first_count
        soon = (self._ended_ns < RESUMES_INTERVALS * self._interval_ns) & (added > 1)
        first = ops.where(soon, added, 1)
        self._count = ops.where(begins, first, self._count)
        self._first_count = ops.where(begins, first, self._first_count)
        self._entry = ops.where(begins, backlog, self._entry)
        self._next_ns = ops.where(begins, self._interval_ns / ops.sqrt(self._count), self._next_ns)


ROWS = (
    BufferPolicy(
        name="codel",
        doc="`max`; once the queueing delay exceeds `options.target` for `options.interval`, "
        "steps down to rate × target",
        source='Nichols, Jacobson, "Controlling queue delay", 2012; RFC 8289. Adapted: '
        "it lowers the limit instead of dropping packets",
        options=CodelOptions,
        sheds=True,
        rated_rule=CodelRule,
    ),
)
