"""A buffer policy of a user: the highest recent burst, forgotten slowly, times a margin.

Run it against the others: `python -m testbed simulate scenarios/plugins/own-policy.yaml`.
"""

from pydantic import Field

from testbed.policies.buffer import BufferPolicy, Range
from testbed.scenario.base import Spec
from testbed.scenario.tables import BUFFER_POLICIES, options_of


class Options(Spec):
    """What stands under `buffer: {options: …}`."""

    alpha: float = Field(0.05, gt=0, le=1, description="how much of the peak is forgotten with each sample")
    margin: float = Field(2.0, ge=1, description="buffer for one byte of peak")


class EwmaPeak:
    """Holds `margin` times the decaying maximum of the backlog."""

    asks_always = False

    def __init__(self, spec, count, ops):
        options = options_of(BUFFER_POLICIES[spec.policy], spec.options)
        self._keep, self._margin = 1 - options.alpha, options.margin
        self._range, self._ops = Range(spec, ops), ops
        self._count, self._peak = count, 0.0

    def initial_bytes(self):
        """Return the sizes before the first sample: the floor."""
        return [self._range.floor_bytes] * self._count

    def wish_bytes(self, sample, predicted_bytes, severity_ratio):
        """Return the sizes after a sample, in whole steps of the range."""
        seen = sample.backlog_bytes + sample.dropped_bytes
        self._peak = self._ops.maximum(self._peak * self._keep, seen)
        return self._range.stepped(self._peak * self._margin)


ROWS = (
    BufferPolicy(
        name="ewma-peak",
        doc="a margin over the decaying maximum of the backlog",
        options=Options,
        rule=lambda spec, count, members, ops: EwmaPeak(spec, count, ops),
    ),
)
