"""Predictive: whatever is the larger, what reaction wants or what the forecast needs.

    wish = max(reactive, floor + (margin × predicted - floor)+ × (1 + gain × severity))

The forecast is an augmentation over a floor policy, as in Credence: because the reactive rule's wish is always met, a
wrong prediction costs memory, never packets that reaction would have saved.  The margin covers the error of a forecast
that is right on the whole.  The severity of the precursors (0..1) scales the *expansion*: a need that several signs
announce is met with up to `gain` more, a need with no sign is met as predicted.

The policies `ewma`, `holt`, `lstm` and `oracle` are this rule with different forecasters.  So the oracle is not the
best that could be thought of, but the least loss that this rule can have with any forecast (`forecast_oracle`), which
is what a forecaster is to be measured against.  It needs no precursors, so severity does not scale its expansion.

Source: V. Addanki, M. Pacut, S. Schmid, "Credence: augmenting datacenter switch buffer sharing with ML predictions",
NSDI 2024 (the idea of a guaranteed floor under predictions; the rule is ours).
"""

from __future__ import annotations

from testbed.policies.arithmetic import Arithmetic, Arrays, Sample, Values
from testbed.policies.buffer import Range
from testbed.policies.buffer_reactive import ReactiveRule
from testbed.records.events import Ints
from testbed.scenario.model import BufferSpec


class PredictiveRule:
    """A forecast over the reactive floor."""

    asks_always = False

    def __init__(self, spec: BufferSpec, count: int, ops: Arithmetic = Arrays) -> None:
        self._ops, self._range = ops, Range(spec, ops)
        self._reactive = ReactiveRule(spec, count, ops)
        self._margin = spec.margin_ratio
        self._gain = 0.0 if spec.policy == "oracle" else spec.precursor_gain

    def initial_bytes(self) -> Ints:
        """Return the floor."""
        return self._reactive.initial_bytes()

    def wish_bytes(self, sample: Sample, predicted_bytes: Values, severity_ratio: Values) -> Values:
        """Return the larger of the reactive wish and the scaled need, in steps."""
        ops = self._ops
        expansion = ops.real(predicted_bytes) * self._margin - self._range.floor_bytes
        predicted_wish = self._range.stepped(expansion * (self._gain * severity_ratio + 1.0))
        return ops.maximum(predicted_wish, self._reactive.wish_bytes(sample, predicted_bytes, severity_ratio))
