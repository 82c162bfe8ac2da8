"""From a predicted arrival rate to the buffer that it needs: shared by the smoothing forecasters.

A smoother gives the mean arrivals of each coming interval, ``a[k]``, and the standard deviation s of its one-step
errors.  The buffer must hold more than the mean: after k intervals the summed error has the standard deviation
s × sqrt(k).  So the path that is exceeded with a probability of only 10 % is

    S[k] = backlog + sum of (a[j] - c) + Z × s × sqrt(k)

and its Lindley reflection is the need.  The last term makes the comparison with the LSTM fair: the LSTM learns a high
quantile, so the other forecasters must predict the same quantile.

The probability of a burst is that of arrivals above the service rate at the end of the longest horizon, with the
logistic function as an approximation of the normal distribution (error below 0.01).
"""

from __future__ import annotations

import numpy as np

from testbed.policies import fluid
from testbed.records.events import Floats, ForecastMade, Ints, TrafficSampled
from testbed.scenario.buffer import BufferSpec

Z = 1.2816  # the 0.9 quantile of the normal distribution
SIZING_SAMPLES = 5
AHEAD_SAMPLES = (1, SIZING_SAMPLES, 10, 20)
_LOGISTIC = 1.702
_LARGEST_EXPONENT = 30.0


def horizons_ns(spec: BufferSpec) -> tuple[int, ...]:
    """Return the horizons of a scenario's forecasts: the actuation delay and 1, 5, 10, 20 samples more.

    A `horizon` that the scenario names is one of them too.
    """
    usual = {spec.actuation_delay_ns + samples * spec.sample_interval_ns for samples in AHEAD_SAMPLES}
    return tuple(sorted(usual | {sizing_horizon_ns(spec)}))


def sizing_horizon_ns(spec: BufferSpec) -> int:
    """Return how far ahead a forecast must look to size a buffer: `horizon`, else the delay and 5 samples more."""
    if spec.horizon_ns is not None:
        return spec.horizon_ns
    return spec.actuation_delay_ns + SIZING_SAMPLES * spec.sample_interval_ns


def sizing_column(horizon_ns: tuple[int, ...], spec: BufferSpec) -> int:
    """Return which horizon sizes the buffer: the first that reaches as far as wanted, else the longest."""
    wanted = sizing_horizon_ns(spec)
    return next((column for column, horizon in enumerate(horizon_ns) if horizon >= wanted), len(horizon_ns) - 1)


class PathForecast:
    """Turns rate paths of n nodes into forecasts.

    Args:
        rate_bps: service rates, shape [n].
        interval_ns: length of a step of the path, the nominal sample interval.
        horizon_ns: horizons, ascending.
        z: quantile of the normal distribution that is added.
    """

    def __init__(self, rate_bps: Ints, interval_ns: int, horizon_ns: tuple[int, ...], z: float = Z) -> None:
        self.horizon_ns = horizon_ns
        self.served = fluid.service_bytes(rate_bps, interval_ns)
        self.interval_ns = interval_ns
        self._horizon_steps: Ints = -(-np.array(horizon_ns, dtype=np.int64) // interval_ns)
        self.steps: Floats = np.arange(1.0, self._horizon_steps[-1] + 1)
        self._spread = z * np.diff(np.sqrt(self.steps), prepend=0.0)

    def arrived(self, sample: TrafficSampled) -> Floats:
        """Return the sample's arrivals as bytes a nominal interval, shape [n]; a late sample counts by its length."""
        return sample.arrived_bytes.astype(np.float64) * (self.interval_ns / sample.interval_ns)

    def made(self, sample: TrafficSampled, path: Floats, deviation: Floats) -> ForecastMade:
        """Return the forecast for arrivals `path` [n, steps], changed in place, and one-step `deviation` [n]."""
        np.maximum(path, 0.0, out=path)
        excess = (path[:, -1] - self.served) / (deviation + 1.0)
        chance = 1.0 / (1.0 + np.exp(np.minimum(-_LOGISTIC * excess, _LARGEST_EXPONENT)))
        path += deviation[:, None] * self._spread
        need = fluid.peak_within(path, self.served, sample.backlog_bytes, self._horizon_steps)
        return ForecastMade(nodes=sample.nodes, horizon_ns=self.horizon_ns, need_bytes=need, onset_ratio=chance)
