"""From samples to the inputs of the network: dimensionless, so that one model serves any link.

Every quantity in bytes is divided by what the node's link serves in one sample interval, ``u = rate x interval``; the
busiest millisecond by what it serves in one millisecond.  A burst of twice the line rate then looks the same at 10
Mbit/s and at 10 Gbit/s.  All inputs pass through ``log(1 + x)``, which keeps a queue of a thousand intervals and one
of a tenth on one scale without constants fitted to some data set.

Three running means and one decaying maximum carry what a short recurrent memory would have to relearn: the usual
load, the usual rate of new flows, and how high bursts have filled the queue in the last seconds.

Left out on purpose: ``gap_max_ns`` (the kernel sees a gap only when it ends, a trace of bins not at all below a bin)
and ``dropped_*`` (they follow from arrivals and backlog, and depend on the limit that the forecast itself moves).
``new_flows`` comes from a sketch in the kernel; it is clipped, and training hides it in part of the series.

The same class runs in training (n = all series) and in the node (n = 1): there is no second implementation to differ.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from testbed import units
from testbed.events import Ints
from testbed.policies.fluid import service_bytes

Float32s = NDArray[np.float32]

FEATURE_NAMES = (
    "arrived",
    "peak_1ms",
    "backlog",
    "new_flows",
    "arrived_fast",
    "arrived_slow",
    "new_flows_slow",
    "backlog_envelope",
)
FEATURES = len(FEATURE_NAMES)

FAST_WEIGHT = 0.2  # running mean over about 5 samples
SLOW_WEIGHT = 0.01  # and over about 100
ENVELOPE_DECAY = np.float32(0.995)  # a burst is half forgotten after 140 samples
MAX_NEW_FLOWS = np.float32(64.0)


class FeatureExtractor:
    """Features of n nodes, one `step` a sample, into the rows of a given array.

    Args:
        rate_bps: service rates, shape [n].
        interval_ns: nominal sample interval.
        out: float32 array of shape [FEATURES, n], overwritten by each step.
    """

    def __init__(self, rate_bps: Ints, interval_ns: int, out: Float32s) -> None:
        nodes = len(rate_bps)
        self._out = out
        self._interval_ns = interval_ns
        per_interval, per_ms = (1.0 / service_bytes(rate_bps, ns) for ns in (interval_ns, units.NS_PER_MS))
        self._scale = np.stack([per_interval, per_ms, per_interval, np.ones(nodes)]).astype(np.float32)
        self._values = np.zeros((FEATURES, nodes), dtype=np.float32)
        self._measured = self._values[:4]
        self._arrived, self._peak, self._backlog, self._new_flows = self._measured
        self._means, self._envelope = self._values[4:7], self._values[7]
        self._arrived_means, self._flow_mean = self._values[4:6], self._values[6]
        self._weights = np.array([[FAST_WEIGHT], [SLOW_WEIGHT], [SLOW_WEIGHT]], dtype=np.float32)
        self._shift = np.zeros((3, nodes), dtype=np.float32)
        self._arrived_shift, self._flow_shift = self._shift[:2], self._shift[2]
        self._started = False

    def step(
        self, arrived_bytes: Ints, peak_1ms_bytes: Ints, backlog_bytes: Ints, new_flows: Ints, interval_ns: int
    ) -> None:
        """Take in the next sample of every node, arrays of shape [n]; `interval_ns` is the time it really covers."""
        # Assigning casts without the buffers that a ufunc of two types goes through.
        self._arrived[:], self._peak[:] = arrived_bytes, peak_1ms_bytes
        self._backlog[:], self._new_flows[:] = backlog_bytes, new_flows
        np.multiply(self._measured, self._scale, self._measured)
        np.minimum(self._new_flows, MAX_NEW_FLOWS, out=self._new_flows)
        if interval_ns != self._interval_ns:
            # A late tick covers more time: its rate counts, not its bytes.
            self._arrived *= np.float32(self._interval_ns / max(interval_ns, 1))
        self._update_memory()
        np.log1p(self._values, self._out)

    def _update_memory(self) -> None:
        if not self._started:
            self._arrived_means[:], self._flow_mean[:] = self._arrived, self._new_flows
            self._started = True
        np.subtract(self._arrived, self._arrived_means, self._arrived_shift)
        np.subtract(self._new_flows, self._flow_mean, self._flow_shift)
        np.multiply(self._shift, self._weights, self._shift)
        np.add(self._means, self._shift, self._means)
        np.multiply(self._envelope, ENVELOPE_DECAY, self._envelope)
        np.maximum(self._envelope, self._backlog, out=self._envelope)
