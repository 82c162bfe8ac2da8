"""A gate behind a forecaster: where forecasts cost more than no forecast would, the baseline rule decides alone.

One forecast is evaluated at a time.  When its horizon has passed, the true need is known: the peak of Lindley's
recursion over the arrivals since then, from the backlog at that time.  (It uses sums over sample intervals; a peak
inside an interval that has drained at its end is not seen.) Then the next forecast is evaluated.  So each sample costs
one step of the recursion, whatever the horizon.

The gate compares exponentially weighted means of the pinball loss of the forecast and of a forecast of no growth.  If
the loss of the forecast is `CLOSE_RATIO` times the other and at least `LEAST_LOSS` larger, the forecast is replaced by
the backlog, and the baseline rule (`buffer_predictive`) determines the size.  Between bursts any reserve is unused:
a gate with a short memory, or with equal weights, would close in every pause and be closed when the next burst comes.

A wrong forecast costs memory and never packets.  So this gate saves memory, on traffic that differs from the training
data of the forecaster.
"""

from __future__ import annotations

import numpy as np

from testbed.policies import fluid
from testbed.policies.arithmetic import Arrays, Mask, Numbers
from testbed.policies.forecast import Forecaster
from testbed.policies.rows import Bools
from testbed.records.events import ForecastMade, Ints, TrafficSampled

MEMORY_SAMPLES = 500
CLOSE_RATIO = 2.0
LEAST_LOSS = 0.25  # intervals; at the quantile 0.95, five of them reserved all the time and unused


class GatedForecaster:
    """Passes on the forecasts of `inner` where they have been useful; implements `Forecaster`.

    Args:
        inner: what forecasts.
        rate_bps: service rates, shape [n].
        interval_ns: nominal sample interval.
        quantile: that `inner` is trained for.
        column: which of its horizons is evaluated: the one that sizes the buffer.
    """

    def __init__(self, inner: Forecaster, rate_bps: Ints, interval_ns: int, quantile: float, column: int) -> None:
        self._inner, self._quantile, self._column = inner, quantile, column
        self._interval_ns = interval_ns
        self._ops = ops = Arrays if len(rate_bps) > 1 else Numbers
        self._served = ops.of_array(fluid.service_bytes(rate_bps, interval_ns))
        self._horizon_samples = max(1, -(-inner.horizon_ns[column] // interval_ns))
        self._gain = min(1.0, self._horizon_samples / MEMORY_SAMPLES)
        self._left = 0
        self._start = self._forecast = self._backlog = self._peak = self._served * 0.0
        self._loss = self._loss_without = self._served * 0.0
        self._closed: Mask = self._loss > LEAST_LOSS
        self._any_closed = False

    @property
    def horizon_ns(self) -> tuple[int, ...]:
        """Return the horizons, ascending, counted from the sample."""
        return self._inner.horizon_ns

    @property
    def closed(self) -> Bools:
        """Return where the forecast is not passed on, shape [n]."""
        return np.asarray(self._ops.to_array(self._closed))

    def step(self, sample: TrafficSampled, now_ns: int) -> ForecastMade:
        """Process the next sample of every node and return the forecast, or the backlog where the gate is closed."""
        made = self._inner.step(sample, now_ns)
        self._watch(sample, made)
        if not self._any_closed:
            return made
        need = np.where(self.closed[:, None], sample.backlog_bytes[:, None], made.need_bytes)
        return ForecastMade(nodes=made.nodes, horizon_ns=made.horizon_ns, need_bytes=need, onset_ratio=made.onset_ratio)

    def _watch(self, sample: TrafficSampled, made: ForecastMade) -> None:
        ops = self._ops
        if self._left:
            arrived = ops.of_array(sample.arrived_bytes) * (self._interval_ns / sample.interval_ns)
            self._backlog = ops.maximum(self._backlog + arrived - self._served, 0.0)
            self._peak = ops.maximum(self._peak, self._backlog)
            self._left -= 1
            if self._left:
                return
            self._evaluate()
        self._start = self._backlog = self._peak = ops.of_array(sample.backlog_bytes)
        self._forecast = ops.maximum(ops.of_array(made.need_bytes[:, self._column]) - self._start, 0)
        self._left = self._horizon_samples

    def _evaluate(self) -> None:
        ops, quantile = self._ops, self._quantile
        came = (self._peak - self._start) / self._served
        short = came - self._forecast / self._served
        loss = ops.maximum(quantile * short, (quantile - 1.0) * short)
        self._loss = self._loss + self._gain * (loss - self._loss)
        self._loss_without = self._loss_without + self._gain * (quantile * came - self._loss_without)
        self._closed = self._loss > CLOSE_RATIO * self._loss_without + LEAST_LOSS
        self._any_closed = bool(ops.any(self._closed))
