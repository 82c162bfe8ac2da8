"""From samples to the inputs of the network: dimensionless, so that one model serves any link.

Every quantity in bytes is divided by what the node's link serves in one sample interval, ``u = rate x interval``; the
busiest millisecond by what it serves in one millisecond.  A burst of twice the line rate then looks the same at 10
Mbit/s and at 10 Gbit/s.  All inputs pass through ``log(1 + x)``, which keeps a queue of a thousand intervals and one
of a tenth on one scale without constants fitted to some data set.

Three running means and one decaying maximum carry what a short recurrent memory would have to relearn: the usual
load, the usual rate of new flows, and how high bursts have filled the queue in the last seconds.  What the arrivals
repeat is found by `periods`.  A model may do without: then only the first `BASE` inputs are computed.

Left out on purpose: ``gap_max_ns`` (the kernel sees a gap only when it ends, a trace of bins not at all below a bin)
and ``dropped_*`` (they follow from arrivals and backlog, and depend on the limit that the forecast itself moves).
``new_flows`` comes from a sketch in the kernel; it is clipped, and training hides it in part of the series.

The same class runs in training (n = all series) and in the node (n = 1, where it computes with plain numbers): there is
no second implementation to differ.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from testbed import units
from testbed.forecaster.runtime.periods import PERIOD_NAMES, PeriodFeatures
from testbed.policies.arithmetic import Arrays, Numbers, Values
from testbed.policies.fluid import service_bytes
from testbed.records.events import Ints

BASE_NAMES = (
    "arrived",
    "peak_1ms",
    "backlog",
    "new_flows",
    "arrived_fast",
    "arrived_slow",
    "new_flows_slow",
    "backlog_envelope",
)
ALL_NAMES = (*BASE_NAMES, *PERIOD_NAMES)
BASE, ALL = len(BASE_NAMES), len(ALL_NAMES)
WIDTHS = (BASE, ALL)  # how many of the inputs, from the first on, a model may take
FEATURE_NAMES = BASE_NAMES  # those of the shipped model
FEATURES = len(FEATURE_NAMES)

FAST_WEIGHT = 0.2  # running mean over about 5 samples
SLOW_WEIGHT = 0.01  # and over about 100
ENVELOPE_DECAY = 0.995  # a burst is half forgotten after 140 samples
MAX_NEW_FLOWS = 64


class FeatureExtractor:
    """Features of n nodes, one `step` a sample, into the rows of a given array.

    Args:
        rate_bps: service rates, shape [n].
        interval_ns: nominal sample interval.
        out: array of floats, overwritten by each step, of shape [BASE, n], or [ALL, n] for a model that takes
            the period, too.
    """

    def __init__(self, rate_bps: Ints, interval_ns: int, out: NDArray[Any]) -> None:
        self._ops = ops = Arrays if len(rate_bps) > 1 else Numbers
        self._out = out
        self._base = out[:BASE]
        self._rows = self._base if len(rate_bps) > 1 else out[:BASE, 0]
        self._periods = PeriodFeatures(len(rate_bps)) if len(out) > BASE else None
        self._interval_ns = interval_ns
        self._per_interval, self._per_ms = (
            ops.of_array(1.0 / service_bytes(rate_bps, ns)) for ns in (interval_ns, units.NS_PER_MS)
        )
        self._means: tuple[Values, Values, Values] | None = None
        self._envelope = 0.0 * self._per_ms

    def step(
        self, arrived_bytes: Ints, peak_1ms_bytes: Ints, backlog_bytes: Ints, new_flows: Ints, interval_ns: int
    ) -> None:
        """Take in the next sample of every node, arrays of shape [n]; `interval_ns` is the time it really covers."""
        ops, of_array = self._ops, self._ops.of_array
        arrived = of_array(arrived_bytes) * self._per_interval
        if interval_ns != self._interval_ns:
            # A late tick covers more time: its rate counts, not its bytes.
            arrived = arrived * (self._interval_ns / max(interval_ns, 1))
        peak, backlog = of_array(peak_1ms_bytes) * self._per_ms, of_array(backlog_bytes) * self._per_interval
        flows = ops.minimum(of_array(new_flows), MAX_NEW_FLOWS)
        fast, slow, flow_mean = self._means or (arrived, arrived, flows)
        fast = fast + FAST_WEIGHT * (arrived - fast)
        slow = slow + SLOW_WEIGHT * (arrived - slow)
        flow_mean = flow_mean + SLOW_WEIGHT * (flows - flow_mean)
        self._means = fast, slow, flow_mean
        self._envelope = ops.maximum(self._envelope * ENVELOPE_DECAY, backlog)
        self._rows[:] = cast("Any", (arrived, peak, backlog, flows, fast, slow, flow_mean, self._envelope))
        np.log1p(self._base, self._base)
        if self._periods is not None:
            self._write_periods(self._periods, arrived, backlog)

    def _write_periods(self, periods: PeriodFeatures, arrived: Any, backlog: Any) -> None:
        level, peak, rows = self._rows[0], self._rows[1], self._out[BASE:]
        if self._ops is Arrays:
            periods.step(level, peak, arrived, backlog, rows)
        else:
            periods.step_of_one(level.item(), peak.item(), arrived, backlog, rows[:, 0])
