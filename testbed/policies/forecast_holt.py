"""Holt's double exponential smoothing: predicts that the recent level and trend continue.

In error-correction form, with e = arrived - (level + DAMPING × trend):

    trend <- DAMPING × trend + GAIN × TREND_GAIN × e
    level <- level + DAMPING × (old trend) + GAIN × e
    k steps ahead:  level + (DAMPING + DAMPING² + … + DAMPING^k) × trend

The damping prevents a ramp seen in two samples from being extrapolated over twenty.  Among the simple forecasters this
is the strongest: it reacts to a ramp that precedes a burst as soon as the ramp has a slope.

Source: C. C. Holt, 1957 (reprinted in International Journal of Forecasting 20, 2004); E. S. Gardner, E. McKenzie,
"Forecasting trends in time series", Management Science 31, 1985 (the damped trend).
"""

from __future__ import annotations

import numpy as np

from testbed.policies.forecast_path import PathForecast, Z
from testbed.records.events import ForecastMade, Ints, TrafficSampled

GAIN = 0.5
TREND_GAIN = 0.4
DAMPING = 0.9
ERROR_GAIN = 0.1


class HoltForecaster:
    """Predicts level and damped trend of the rate for each of n nodes; arguments: of `PathForecast`, and the gains."""

    def __init__(
        self,
        rate_bps: Ints,
        interval_ns: int,
        horizon_ns: tuple[int, ...],
        z: float = Z,
        gain: float = GAIN,
        trend_gain: float = TREND_GAIN,
    ) -> None:
        self._path = PathForecast(rate_bps, interval_ns, horizon_ns, z)
        self._gain, self._trend_gain = gain, gain * trend_gain
        self._level, self._trend = np.zeros(len(rate_bps)), np.zeros(len(rate_bps))
        self._variance = np.zeros(len(rate_bps))
        self._reach = np.cumsum(DAMPING**self._path.steps)
        self._started = False

    @property
    def horizon_ns(self) -> tuple[int, ...]:
        """Return the horizons, ascending, counted from the sample."""
        return self._path.horizon_ns

    def step(self, sample: TrafficSampled, now_ns: int) -> ForecastMade:
        """Process the next sample of every node and return the forecast."""
        arrived = self._path.arrived(sample)
        if not self._started:
            self._level, self._started = arrived.copy(), True
        self._trend *= DAMPING
        self._level += self._trend
        error = arrived - self._level
        self._level += self._gain * error
        self._trend += self._trend_gain * error
        self._variance += ERROR_GAIN * (error * error - self._variance)
        path = self._trend[:, None] * self._reach
        path += self._level[:, None]
        return self._path.made(sample, path, np.sqrt(self._variance))
