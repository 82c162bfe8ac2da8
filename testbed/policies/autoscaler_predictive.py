"""`predictive`: as many nodes as the load will need when a node that is ordered now serves.

The load of all nodes together is forecast by double exponential smoothing with a damped trend,

    level ← α × load + (1 - α) × (level + φ × trend)      trend ← β × (level - level before) + (1 - β) × φ × trend
    forecast = level + (φ + φ² + … + φʰ) × trend

for h periods ahead, the *horizon*: boot and warm-up of a node, and one period more, since nothing else is decided
before.  What decides is the higher one of forecast and measured load: a wrong forecast may cost nodes, but never the
nodes that the present load needs.

**Damping.**  A load that jumps has a trend for some periods after the jump.  Undamped, three periods ahead, that makes
the forecast overshoot the jump by three quarters of its height, and the stabilisation window keeps the nodes.  φ = 0.9
keeps what matters of a rise that goes on and halves the overshoot.

**The gate.**  Each forecast is held against the load when its time has come.  While the mean relative error, smoothed
like the level, is above `error`, the measured load alone decides: that is the reactive rule.  The gate is wide, because
forecasts of a load that rises and falls are worst where they turn, and needed in the rise that follows.

**Where it pays.**  A reactive rule lags behind by the horizon.  The part of each node that `utilisation` leaves free
covers the lag while the load grows by less than that part within the horizon; then a forecast only costs nodes.  It
pays for rises that last longer than the horizon and grow by more (`scenarios/slow-boot.yaml`).  No forecast by trend
helps with a jump, or with a rise that is over within the horizon.

A node is removed when `slack` + 1 fewer would do: at one fewer, a load that wavers around a multiple of the capacity
would remove and order the same node again and again.

Source: E. S. Gardner, E. McKenzie, "Forecasting trends in time series", Management Science 31(10), 1985, for the damped
trend of C. C. Holt, "Forecasting seasonals and trends by exponentially weighted moving averages", 1957.
"""

from __future__ import annotations

from collections import deque

from testbed.policies.autoscaler import AutoscalerRow, Capacity, Wish
from testbed.records.events import LoadMeasured
from testbed.scenario.autoscaler import AutoscalerSpec

LEVEL_WEIGHT, TREND_WEIGHT, DAMPING = 0.6, 0.4, 0.9


class Predictive:
    """Remembers level and trend of the load, and the forecasts whose time has not come."""

    stabilises = True

    def __init__(self, spec: AutoscalerSpec, capacity: Capacity) -> None:
        self._capacity, self._most_error = capacity, spec.error_ratio
        self.slack = spec.slack_nodes
        self._horizon_ns = spec.horizon_ns + spec.period_ns
        steps = self._horizon_ns / spec.period_ns
        self._reach = DAMPING * (1 - DAMPING**steps) / (1 - DAMPING)  # periods of undamped trend
        self._level: float | None = None
        self._trend = self._error = 0.0
        self._open: deque[tuple[int, float]] = deque()

    def wish(self, seen: LoadMeasured, now_ns: int) -> Wish:
        """See `ScalingRule.wish`."""
        self._learn(seen.load_bps)
        self._judge(seen.load_bps, now_ns)
        assert self._level is not None
        forecast_bps = max(0.0, self._level + self._reach * self._trend)
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
        before, damped = self._level, DAMPING * self._trend
        self._level = LEVEL_WEIGHT * load_bps + (1 - LEVEL_WEIGHT) * (before + damped)
        self._trend = TREND_WEIGHT * (self._level - before) + (1 - TREND_WEIGHT) * damped

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
        source="Gardner and McKenzie, 1985 (the forecast)",
        rule=lambda spec, capacity, _ahead: Predictive(spec, capacity),
    ),
)
