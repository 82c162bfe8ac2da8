"""Precursors: what in a node's samples announces a burst, and how strongly.

Four signs, each a quantity per sample:

    slope        load, smoothed over two samples, as a ratio of the link rate
    dispersion   load of the busiest millisecond over the load of the interval: variance inside the interval
    new flows    flows seen for the first time
    density      log2(interval / largest arrival gap): gaps close before a burst

What is usual differs by link, by traffic and by time of day, so each sign is compared with itself: a running mean and
variance over about `BASELINE_SAMPLES` samples give its deviation in standard deviations,

    z = (x - mean) / max(deviation, least deviation),      sign = clip((z - Z_FROM) / (Z_FULL - Z_FROM), 0, 1)

The least deviations are the thresholds that matter in practice: below them a change is not worth an expansion however
regular the traffic was before.  They are in units of the link rate and of the interval, so one set serves any link.
With them a load that rises by 10 % of the link rate is no sign and one that rises by 30 % a full one.

The signs are joined as independent evidence, ``severity = 1 - product of (1 - weight × sign)``: slope alone reaches
0.6, slope with new flows 0.8, all four 0.92.

The baseline takes in a sample only up to `CLIP_Z` deviations from its mean.  A burst so does not teach the detector
that bursts are usual, while a load that has really changed is learned in some dozens of samples, as its deviation
widens.  For `WARM_UP_SAMPLES` there is no baseline and the severity is 0.

All is O(1) a sample and a node.  Source: the running moments are exponentially weighted ones (P. D. Welford, 1962, with
fading memory; see T. Finch, "Incremental calculation of weighted mean and variance", 2009).
"""

from __future__ import annotations

import numpy as np

from testbed import units
from testbed.events import Floats, Ints, PrecursorsAssessed, TrafficSampled
from testbed.policies.fluid import BITS_TIMES_NS

BASELINE_SAMPLES = 64
WARM_UP_SAMPLES = 8
SLOPE_GAIN = 0.5
Z_FROM, Z_FULL = 2.0, 6.0
CLIP_Z = 3.0

#                        slope  dispersion  new flows  density
LEAST_DEVIATION = (0.05, 0.25, 2.0, 0.5)
WEIGHT = (0.6, 0.3, 0.5, 0.4)


class PrecursorPolicy:
    """Watches n nodes; one `assess` a sample.

    Args:
        rate_bps: rates at which the nodes serve, shape [n].
    """

    def __init__(self, rate_bps: Ints) -> None:
        count = len(rate_bps)
        self._ns_per_byte = BITS_TIMES_NS / np.asarray(rate_bps, dtype=np.float64)
        self._least = np.array(LEAST_DEVIATION)[:, None]
        self._weight = np.array(WEIGHT)[:, None]
        self._signs = np.zeros((len(WEIGHT), count))
        self._mean = np.zeros((len(WEIGHT), count))
        self._variance = np.zeros((len(WEIGHT), count))
        self._seen = 0

    def assess(self, sample: TrafficSampled) -> PrecursorsAssessed:
        """Take in the next sample of all nodes and return how severe a burst it announces."""
        self._measure(sample)
        self._seen += 1
        if self._seen == 1:
            self._mean[:] = self._signs
        deviation = np.maximum(np.sqrt(self._variance), self._least)
        z = self._signs - self._mean
        z /= deviation
        self._learn(z, deviation)
        if self._seen <= WARM_UP_SAMPLES:
            return PrecursorsAssessed(sample.nodes, np.zeros(len(sample.nodes)))
        z -= Z_FROM
        z *= 1.0 / (Z_FULL - Z_FROM)
        np.minimum(np.maximum(z, 0.0, out=z), 1.0, out=z)
        z *= self._weight
        return PrecursorsAssessed(sample.nodes, 1.0 - np.multiply.reduce(1.0 - z, axis=0))

    def _measure(self, sample: TrafficSampled) -> None:
        signs, interval_ns = self._signs, sample.interval_ns
        load = sample.arrived_bytes * self._ns_per_byte
        load /= interval_ns
        peak_bin_ns = min(interval_ns, units.NS_PER_MS)
        gap_ns = np.where(sample.arrived_pkts > 0, sample.gap_max_ns, interval_ns)
        np.multiply(sample.peak_1ms_bytes, self._ns_per_byte / peak_bin_ns, out=signs[1])
        signs[1] -= load
        load -= signs[0]
        load *= SLOPE_GAIN if self._seen else 1.0
        signs[0] += load
        signs[2] = sample.new_flows
        np.log2(interval_ns / np.maximum(gap_ns, 1), out=signs[3])

    def _learn(self, z: Floats, deviation: Floats) -> None:
        gain = max(1.0 / self._seen, 1.0 / BASELINE_SAMPLES)
        step = np.minimum(np.maximum(z, -CLIP_Z), CLIP_Z)
        step *= deviation
        self._mean += gain * step
        np.square(step, out=step)
        step -= self._variance
        step *= gain
        self._variance += step
