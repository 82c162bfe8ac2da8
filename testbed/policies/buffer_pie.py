"""PIE as a rule for limits: a controller of the delay determines the fraction of the bytes to drop.

In every `update` interval, the drop fraction p changes by the difference between delay and target, and by the change of
the delay:

    p ← p + scale(p) × (0.125/s × (delay − target) + 1.25/s × (delay − delay before)),       delay = backlog / C

The steps are smaller where p is small. p decreases by 1/50 while the queue is empty.  Nothing is dropped in the first
`burst` after the queue was short, nor while p < 0.2 and the delay was below half of the target.

PIE drops each packet with probability p.  Here a node can act only through a limit.  So p is converted to the limit
that admits the fraction 1 − p of the bytes, assuming that as many bytes arrive, evenly, until the next sample as in the
last one (A bytes, of which the link serves S):

    p = 0    limit = `max`
    p > 0    limit = backlog + (1 − p) × A − S

If this is above the backlog, the queue grows by the difference and is then full.  If it is below, nothing is admitted
until the queue has drained to the limit.  In both cases (1 − p) × A bytes are admitted.

**Same as PIE**: the controller with its gains, steps, decay and burst allowance, and the fraction that is dropped.
**Different**: the drops are not random.  They come together at the end or the beginning of a sample interval, while PIE
distributes them over the flows; and of the bytes beyond A all are dropped. p changes once per sample, so `update` is at
least the sample interval. The floor `min` applies.

Source: R. Pan et al., "PIE: a lightweight control scheme to address the bufferbloat problem", HPSR 2013; RFC 8033,
2017, sections 4 and 5.
"""

from __future__ import annotations

from typing import cast

from testbed.policies.arithmetic import Arithmetic, Sample, Values
from testbed.policies.buffer import BufferPolicy, Range
from testbed.policies.fluid import BITS_TIMES_NS
from testbed.records.events import Ints
from testbed.scenario.buffer import BufferSpec
from testbed.scenario.buffer_options import PieOptions
from testbed.scenario.tables import BUFFER_POLICIES, options_of
from testbed.units import NS_PER_S

ALPHA_PER_S, BETA_PER_S = 0.125, 1.25
SCALES = ((0.1, 2), (0.01, 8), (0.001, 32), (0.0001, 128), (0.00001, 512), (0.000001, 2048))  # below p: step over
DECAY = 0.98
LARGEST_STEP = 0.02  # where p is 0.1 or more
SAFE_RATIO = 0.2


class PieRule:
    """Sets the limit so that the drop rate is that of the PIE controller."""

    asks_always = False

    def __init__(self, spec: BufferSpec, rate_bps: Values, _members: int, ops: Arithmetic) -> None:
        self._options = cast(PieOptions, options_of(BUFFER_POLICIES["pie"], spec.options))
        self._ops, self._range = ops, Range(spec, ops)
        self._bytes_per_ns = rate_bps / BITS_TIMES_NS
        self.ratio = 0.0 * self._bytes_per_ns
        self._before_ns = self.ratio
        self._burst_ns = self.ratio + float(self._options.burst_ns)
        self._cap = ops.whole(self.ratio) + spec.max_bytes
        self._since_ns = 0

    def initial_bytes(self) -> Ints:
        """Return the cap."""
        initial: Ints = self._ops.to_array(self._cap)
        return initial

    def wish_bytes(self, sample: Sample, predicted_bytes: Values, severity_ratio: Values) -> Values:
        """Return the cap, or the limit that admits the share 1 − p of what arrives."""
        ops, backlog = self._ops, sample.backlog_bytes
        delay_ns = backlog / self._bytes_per_ns
        self._since_ns += sample.interval_ns
        if self._since_ns >= self._options.update_ns:
            self._since_ns = 0
            self._update(delay_ns)
        half = self._options.target_ns / 2
        safe = (self._burst_ns > 0) | (self.ratio <= 0) | ((self.ratio < SAFE_RATIO) & (self._before_ns < half))
        admitted = (1.0 - self.ratio) * sample.arrived_bytes - self._bytes_per_ns * sample.interval_ns
        limit = ops.whole(ops.maximum(backlog + admitted, 0.0))
        return self._range.clip(ops.where(safe, self._cap, limit))

    def _update(self, delay_ns: Values) -> None:
        ops, target_ns = self._ops, self._options.target_ns
        step = (ALPHA_PER_S * (delay_ns - target_ns) + BETA_PER_S * (delay_ns - self._before_ns)) * (1 / NS_PER_S)
        over: Values = 1.0 + 0.0 * self.ratio
        for below, part in SCALES:
            over = ops.where(self.ratio < below, float(part), over)
        step = ops.where(self.ratio >= SCALES[0][0], ops.minimum(step / over, LARGEST_STEP), step / over)
        ratio = ops.minimum(ops.maximum(self.ratio + step, 0.0), 1.0)
        empty = (delay_ns <= 0) & (self._before_ns <= 0)
        self.ratio = ops.where(empty, ratio * DECAY, ratio)
        short = (self.ratio <= 0) & (delay_ns < target_ns / 2) & (self._before_ns < target_ns / 2)
        left_ns = ops.maximum(self._burst_ns - self._options.update_ns, 0.0)
        self._burst_ns = ops.where(short, float(self._options.burst_ns), left_ns)
        self._before_ns = delay_ns


ROWS = (
    BufferPolicy(
        name="pie",
        doc="sets the limit so that the drop rate is that of the PIE controller (`options.target`)",
        source='Pan et al., "PIE", HPSR 2013; RFC 8033. Adapted: it sets the limit instead of dropping at random',
        options=PieOptions,
        sheds=True,
        rated_rule=PieRule,
    ),
)
