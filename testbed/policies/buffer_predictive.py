"""Predictive: the larger of the reactive rule's wish and the size that the forecast needs.

    wish = max(reactive, min + (margin × predicted - min)+ × (1 + gain × severity))

The forecast augments a baseline rule, as in Credence: the wish is never below that of the reactive rule.  So a wrong
forecast costs memory, but no packet that the reactive rule would have saved.  The margin covers the error of a forecast
that is right on average.  The severity of the precursors (0 to 1) scales the *expansion*: if several precursors
announce a need, up to `gain` more is requested; a need without precursors is requested as predicted.

All predictive policies are this rule with different forecasters, one file each.  So `oracle` is not the best possible
policy.  It has the least loss that this rule can have with any forecast (`forecast_oracle`), and is the bound that
forecasters are compared with.  It needs no precursors, so the severity does not scale its expansion.

Source: V. Addanki, M. Pacut, S. Schmid, "Credence: augmenting datacenter switch buffer sharing with ML predictions",
NSDI 2024 (the idea of a guaranteed baseline under predictions; the rule is ours).
"""

from __future__ import annotations

from collections.abc import Callable

from testbed.policies.arithmetic import Arithmetic, Sample, Values
from testbed.policies.buffer import Foresight, Range
from testbed.policies.buffer_reactive import ReactiveRule
from testbed.policies.forecast import Forecaster, MakeForecaster
from testbed.policies.forecast_path import horizons_ns
from testbed.records.events import Ints
from testbed.scenario.buffer import BufferSpec


class PredictiveRule:
    """A forecast over the baseline rule; `gain` is how much of the severity scales the expansion."""

    asks_always = False

    def __init__(self, spec: BufferSpec, count: int, ops: Arithmetic, gain: float) -> None:
        self._ops, self._range = ops, Range(spec, ops)
        self._reactive = ReactiveRule(spec, count, ops)
        self._margin = spec.margin_ratio
        self._gain = gain

    def initial_bytes(self) -> Ints:
        """Return the floor."""
        return self._reactive.initial_bytes()

    def wish_bytes(self, sample: Sample, predicted_bytes: Values, severity_ratio: Values) -> Values:
        """Return the larger of the reactive wish and the scaled need, in steps."""
        ops = self._ops
        expansion = ops.real(predicted_bytes) * self._margin - self._range.floor_bytes
        predicted_wish = self._range.stepped(expansion * (self._gain * severity_ratio + 1.0))
        return ops.maximum(predicted_wish, self._reactive.wish_bytes(sample, predicted_bytes, severity_ratio))


def scaled_rule(spec: BufferSpec, count: int, members: int, ops: Arithmetic) -> PredictiveRule:
    """Return the rule whose expansions grow with the severity, by `precursor_gain`."""
    return PredictiveRule(spec, count, ops, spec.precursor_gain)


def unscaled_rule(spec: BufferSpec, count: int, members: int, ops: Arithmetic) -> PredictiveRule:
    """Return the rule for a forecaster that needs no precursors."""
    return PredictiveRule(spec, count, ops, 0.0)


def from_samples(kind: Callable[[Ints, int, tuple[int, ...]], Forecaster]) -> Callable[[Foresight], MakeForecaster]:
    """Return what makes forecasters of a kind that needs samples alone: rates, sample interval, horizons."""

    def forecaster(given: Foresight) -> MakeForecaster:
        spec = given.spec
        return lambda _nodes, rate_bps: kind(rate_bps, spec.sample_interval_ns, horizons_ns(spec))

    return forecaster
