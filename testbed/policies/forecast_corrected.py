"""Correction by past errors: adapts a forecaster so that its quantile is reached while the traffic changes.

This is adaptive conformal calibration, and can be put around any forecaster.  When the longest horizon of a forecast
has passed, the true need is known: Lindley's recursion over the arrivals since then, from the backlog at that time.
(It uses sums over sample intervals; a peak inside an interval that has drained at its end is not seen.) With ``miss =
1`` where the true need exceeded the corrected forecast and 0 elsewhere, per node and horizon,

    theta <- clip(theta + GAIN × (miss - (1 - quantile)), LEAST_THETA, MOST_THETA)
    log(1 + corrected growth) = log(1 + forecast growth) + theta

so the fraction of misses converges to ``1 - quantile`` whatever the traffic is, as far as the bounds of theta allow.
Growth is in units of rate × interval.  Theta is an offset of the logarithm, on which the network was trained.  So it
corrects a forecast of zero growth, too, which a factor cannot; for long queues it acts like a factor.

Theta is never negative, so the correction only raises a forecast.  While a queue is idle no forecast is exceeded; theta
would decrease between bursts and be too low when one comes.  It would also decrease where peaks inside an interval,
which are not seen, exceed the forecast.  So a coverage that is too high stays too high.

Source: I. Gibbs, E. Candès, "Adaptive conformal inference under distribution shift", NeurIPS 2021, equation 2; applied
to an offset of the forecast instead of the level of a quantile, as in A. Angelopoulos, E. Candès, R. Tibshirani,
"Conformal PID control for time series prediction", NeurIPS 2023 (quantile tracking).
"""

from __future__ import annotations

import numpy as np

from testbed.policies import fluid
from testbed.policies.forecast import Forecaster
from testbed.records.events import Floats, ForecastMade, Ints, TrafficSampled

GAIN = 0.005
LEAST_THETA, MOST_THETA = 0.0, 1.0
_NONE = -1.0  # growth, where nothing was promised
_ROUNDED_BYTES = 1000  # a forecast may lie so much below the backlog and still say that it stays
_ROUNDING = 1e-6  # intervals; a promise that rounding alone breaks is kept


class Hindsight:
    """Compares past forecasts with the true needs, for n nodes and h horizons.

    Args:
        rate_bps: service rates, shape [n].
        interval_ns: nominal sample interval.
        horizon_ns: horizons, ascending.
    """

    def __init__(self, rate_bps: Ints, interval_ns: int, horizon_ns: tuple[int, ...]) -> None:
        self.unit = fluid.service_bytes(rate_bps, interval_ns)
        self._interval_ns = interval_ns
        self._steps: Ints = -(-np.array(horizon_ns, dtype=np.int64) // interval_ns)
        self._span = int(self._steps[-1])
        # Every arrival is written twice, a span apart, so that the last span of them is one slice.
        self._arrived = np.zeros((len(rate_bps), 2 * self._span))
        self._backlog = np.zeros((self._span, len(rate_bps)), dtype=np.int64)
        self._said = np.zeros((self._span, len(rate_bps), len(horizon_ns)))
        self._seen = 0

    def arrived(self, sample: TrafficSampled) -> tuple[Floats, Floats] | None:
        """Process a sample; return forecast and true growth, [n, h] in intervals, once a forecast is old enough."""
        slot = self._seen % self._span
        amount = sample.arrived_bytes * (self._interval_ns / sample.interval_ns)
        self._arrived[:, slot] = self._arrived[:, slot + self._span] = amount
        self._seen += 1
        if self._seen <= self._span:
            return None
        then = self._seen % self._span  # the oldest arrival, and the forecast made one sample before it
        coming = self._arrived[:, then : then + self._span]
        backlog = self._backlog[(then - 1) % self._span]
        came = fluid.peak_within(coming, self.unit, backlog, self._steps) - backlog[:, None]
        return self._said[(then - 1) % self._span].copy(), came / self.unit[:, None]

    def said(self, growth: Floats, backlog_bytes: Ints) -> None:
        """Remember a forecast: growth [n, h] in intervals over the backlog [n] of the sample just taken in."""
        slot = (self._seen - 1) % self._span
        self._said[slot], self._backlog[slot] = growth, backlog_bytes


class CorrectedForecaster:
    """A forecaster with correction; implements `Forecaster`.

    Args:
        inner: what forecasts.
        rate_bps: service rates, shape [n].
        interval_ns: nominal sample interval.
        quantile: that `inner` is trained for.
    """

    def __init__(self, inner: Forecaster, rate_bps: Ints, interval_ns: int, quantile: float) -> None:
        self._inner = inner
        self._hindsight = Hindsight(rate_bps, interval_ns, inner.horizon_ns)
        self._quantile = quantile
        self._theta = np.zeros((len(rate_bps), len(inner.horizon_ns)))
        self._factor = np.exp(self._theta)

    @property
    def horizon_ns(self) -> tuple[int, ...]:
        """Return the horizons, ascending, counted from the sample."""
        return self._inner.horizon_ns

    def step(self, sample: TrafficSampled, now_ns: int) -> ForecastMade:
        """Process the next sample of every node and return the forecast, corrected."""
        past = self._hindsight.arrived(sample)
        if past is not None:
            self._learn(*past)
        made = self._inner.step(sample, now_ns)
        backlog, unit = sample.backlog_bytes[:, None], self._hindsight.unit[:, None]
        more = made.need_bytes - backlog
        none = more < -_ROUNDED_BYTES  # no forecast yet
        promised = (1.0 + np.maximum(more, 0) / unit) * self._factor - 1.0
        self._hindsight.said(np.where(none, _NONE, promised), sample.backlog_bytes)
        need = np.where(none, made.need_bytes, backlog + np.rint(promised * unit).astype(np.int64))
        return ForecastMade(nodes=made.nodes, horizon_ns=made.horizon_ns, need_bytes=need, onset_ratio=made.onset_ratio)

    def _learn(self, said: Floats, came: Floats) -> None:
        step = GAIN * ((came > said + _ROUNDING) - (1.0 - self._quantile))
        step *= said > _NONE
        self._theta = np.minimum(np.maximum(self._theta + step, LEAST_THETA), MOST_THETA)
        np.exp(self._theta, out=self._factor)
