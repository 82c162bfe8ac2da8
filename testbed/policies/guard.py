"""Checks what a policy that was loaded at run time (a plug-in) returns.

The policies of the testbed are checked against their interfaces by the tests; those of users are not.  A size that is
not a number would cause an error far from its origin.  So every return value is checked where it is returned: its
shape, its type and its range.  An error names the function, its file and its line.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from testbed.policies.arithmetic import Arithmetic, Sample, Values
from testbed.policies.balancer_view import ClusterView, FlowPlacer, SlotRule
from testbed.policies.buffer import SizingRule
from testbed.policies.forecast import Forecaster
from testbed.records.events.node import ForecastMade
from testbed.records.events.record import Ints
from testbed.records.events.sample import TrafficSampled
from testbed.scenario.answers import hold, made


class GuardedRule:
    """A sizing rule whose return values are checked."""

    def __init__(self, rule: SizingRule, count: int, ops: Arithmetic) -> None:
        self._rule, self._count, self._ops = rule, count, ops
        self.asks_always = bool(getattr(rule, "asks_always", False))

    def initial_bytes(self) -> Ints:
        """See `SizingRule`."""
        sizes = np.asarray(self._rule.initial_bytes())
        hold(self._rule.initial_bytes, _wrong_sizes(sizes, (self._count,)))
        return sizes.astype(np.int64)

    def wish_bytes(self, sample: Sample, predicted_bytes: Values, severity_ratio: Values) -> Values:
        """See `SizingRule`."""
        wish: Any = self._rule.wish_bytes(sample, predicted_bytes, severity_ratio)
        array = np.asarray(wish)
        shape = np.asarray(sample.backlog_bytes).shape
        hold(self._rule.wish_bytes, _wrong_sizes(array, shape))
        whole: Values = self._ops.whole(wish) if array.dtype.kind == "f" else wish
        return whole


class GuardedForecaster:
    """A forecaster whose forecasts are checked."""

    def __init__(self, forecaster: Forecaster) -> None:
        self._forecaster = forecaster
        self.horizon_ns = tuple(forecaster.horizon_ns)

    def step(self, sample: TrafficSampled, now_ns: int) -> ForecastMade:
        """See `Forecaster`."""
        made: Any = self._forecaster.step(sample, now_ns)
        nodes, horizons = len(sample.nodes), len(self.horizon_ns)
        if not isinstance(made, ForecastMade):
            hold(self._forecaster.step, f"a {type(made).__name__}, not a ForecastMade")
        hold(self._forecaster.step, _wrong_sizes(np.asarray(made.need_bytes), (nodes, horizons), "need_bytes"))
        onset = np.asarray(made.onset_ratio)
        if onset.shape != (nodes,) or not np.all((onset >= 0) & (onset <= 1)):
            hold(self._forecaster.step, f"an onset_ratio that is not {nodes} numbers from 0 to 1")
        forecast: ForecastMade = made
        return forecast


class GuardedSlots:
    """A slot rule whose tables are checked."""

    def __init__(self, rule: SlotRule) -> None:
        self._rule = rule
        self.heeds_state = bool(getattr(rule, "heeds_state", True))

    def slots(self, current: Ints, view: ClusterView) -> Ints:
        """See `SlotRule`."""
        dealt = np.asarray(self._rule.slots(current, view))
        hold(self._rule.slots, _wrong_deal(dealt, len(current), view))
        return dealt.astype(np.int64)


def _wrong_sizes(sizes: np.ndarray[Any, Any], shape: tuple[int, ...], what: str = "sizes") -> str:
    """Return what is wrong with sizes in bytes; empty if nothing is."""
    if sizes.dtype.kind not in "iuf":
        return f"{what} of type {sizes.dtype}, not numbers"
    if sizes.shape != shape:
        return f"{what} of shape {list(sizes.shape)}, not {list(shape)}"
    if not np.all(np.isfinite(sizes)):
        return f"{what} that are no numbers (NaN or infinite)"
    if np.any(sizes < 0):
        return f"negative {what}: {float(np.min(sizes)):g} bytes"
    return ""


def _wrong_deal(dealt: np.ndarray[Any, Any], count: int, view: ClusterView) -> str:
    if dealt.dtype.kind not in "iu":
        return f"slots of type {dealt.dtype}, not whole numbers"
    if dealt.shape != (count,):
        return f"slots of shape {list(dealt.shape)}, not {[count]}"
    if np.any((dealt < 0) | (dealt >= len(view.nodes))):
        return f"a slot for node {int(dealt.max())} of {len(view.nodes)}"
    if not np.all(view.serving[dealt]):
        return "a slot for a node that does not serve"
    return ""


def slot_rule(make: Callable[..., SlotRule], *arguments: Any) -> SlotRule:
    """Return the slot rule of a plug-in; a rule that places each flow is not handled here."""
    rule = made(make, *arguments)
    return rule if isinstance(rule, FlowPlacer) else GuardedSlots(rule)
