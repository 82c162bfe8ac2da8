"""`predictive`: as many nodes as the load will need when a node that is ordered now serves.

The load of all nodes together is forecast by double exponential smoothing (Holt), a level and a trend,

    level ← α × load + (1 - α) × (level + trend)        trend ← β × (level - level before) + (1 - β) × trend

at the *horizon*: boot and warm-up of a node, and one period more, since nothing else is decided before.  What decides
is the higher one of forecast and measured load: a wrong forecast may cost nodes, but never the nodes that the present
load needs.

**The gate.**  Each forecast is held against the load when its time has come.  While the mean relative error, smoothed
like the level, is above `error`, the measured load alone decides: that is the reactive rule.

A node is removed when two fewer would do: at one fewer, a load that wavers around a multiple of the capacity would
remove and order the same node again and again.

Source: C. C. Holt, "Forecasting seasonals and trends by exponentially weighted moving averages", 1957 (reprinted 2004).
"""

from __future__ import annotations

from collections import deque

from testbed.policies.autoscaler import AutoscalerRow, Capacity, Wish
from testbed.records.events import LoadMeasured
from testbed.scenario.autoscaler import AutoscalerSpec

LEVEL_WEIGHT, TREND_WEIGHT = 0.6, 0.4


class Predictive:
    """Remembers level and trend of the load, and the forecasts whose time has not come."""

    slack, stabilises = 1, True

    def __init__(self, spec: AutoscalerSpec, capacity: Capacity) -> None:
        self._capacity, self._most_error = capacity, spec.error_ratio
        self._horizon_ns = spec.horizon_ns + spec.period_ns
        self._steps = self._horizon_ns / spec.period_ns
        self._level: float | None = None
        self._trend = self._error = 0.0
        self._open: deque[tuple[int, float]] = deque()

    def wish(self, seen: LoadMeasured, now_ns: int) -> Wish:
        """See `ScalingRule.wish`."""
        self._learn(seen.load_bps)
        self._judge(seen.load_bps, now_ns)
        assert self._level is not None
        forecast_bps = max(0.0, self._level + self._steps * self._trend)
        self._open.append((now_ns + self._horizon_ns, forecast_bps))
        trusted = self._error <= self._most_error
        expected_bps = max(forecast_bps, seen.load_bps) if trusted else float(seen.load_bps)
        reason = "forecast" if expected_bps > seen.load_bps else "load"
        reason += "" if trusted else f" (forecasts are off by {self._error:.2f})"
        return Wish(self._capacity.nodes_for(expected_bps), round(expected_bps), reason)

    def _learn(self, load_bps: int) -> None:
        if self._level is None:
            self._level = float(load_bps)
            return
        before = self._level
        self._level = LEVEL_WEIGHT * load_bps + (1 - LEVEL_WEIGHT) * (before + self._trend)
        self._trend = TREND_WEIGHT * (self._level - before) + (1 - TREND_WEIGHT) * self._trend

    def _judge(self, load_bps: int, now_ns: int) -> None:
        """Hold the forecasts whose time has come against the load."""
        while self._open and self._open[0][0] <= now_ns:
            _, forecast_bps = self._open.popleft()
            error = abs(forecast_bps - load_bps) / max(load_bps, self._capacity.used_bps)
            self._error += LEVEL_WEIGHT * (error - self._error)


ROWS = (
    AutoscalerRow(
        name="predictive",
        doc="uses the forecast of the load when a new node would be ready; while its error is large, the measured load",
        source="Holt, 1957 (the forecast)",
        rule=lambda spec, capacity, _ahead: Predictive(spec, capacity),
    ),
)
