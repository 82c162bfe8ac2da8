"""Exponentially weighted moving average: predicts that the recent mean continues.

    level <- level + GAIN × (arrived - level)

The predicted rate of every future step is the level.  So this forecaster cannot announce a burst before the arrivals
increase.  Its advantage over a reactive rule is that it extrapolates the *backlog* when the rate exceeds the link rate.

Source: R. G. Brown, "Statistical forecasting for inventory control", 1959 (simple exponential smoothing).
"""

from __future__ import annotations

import numpy as np

from testbed.policies.forecast_path import PathForecast, Z
from testbed.records.events import ForecastMade, Ints, TrafficSampled

GAIN = 0.4
ERROR_GAIN = 0.1


class EwmaForecaster:
    """Predicts a constant rate for each of n nodes; arguments as for `PathForecast`, and the gain."""

    def __init__(
        self, rate_bps: Ints, interval_ns: int, horizon_ns: tuple[int, ...], z: float = Z, gain: float = GAIN
    ) -> None:
        self._path, self._gain = PathForecast(rate_bps, interval_ns, horizon_ns, z), gain
        self._level = np.zeros(len(rate_bps))
        self._variance = np.zeros(len(rate_bps))
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
        error = arrived - self._level
        self._level += self._gain * error
        self._variance += ERROR_GAIN * (error * error - self._variance)
        path = np.repeat(self._level[:, None], len(self._path.steps), axis=1)
        return self._path.made(sample, path, np.sqrt(self._variance))
