"""Precursors: the changes in a node's samples that announce a burst, and their strength.

Four signs, each a quantity per sample:

    slope        load, smoothed over two samples, as a ratio of the link rate
    dispersion   load of the busiest millisecond over the load of the interval: variance inside the interval
    new flows    flows seen for the first time
    density      log2(interval / largest arrival gap): gaps close before a burst

The usual values differ by link, traffic and time of day, so each sign is compared with its own history: a running mean
and variance over about `BASELINE_SAMPLES` samples give its deviation in standard deviations,

    z = (x - mean) / max(deviation, least deviation),      sign = clip((z - Z_FROM) / (Z_FULL - Z_FROM), 0, 1)

The least deviations are the thresholds that matter in practice: a smaller change is not worth an expansion, however
regular the traffic was before.  They are in units of the link rate and of the interval, so the same values apply to any
link.  With them, a load that rises by 10 % of the link rate gives the sign 0, and one that rises by 30 % the sign 1.

The signs are combined as independent evidence, ``severity = 1 - product of (1 - weight × sign)``: slope alone reaches
0.6, slope with new flows 0.8, all four 0.92.

Before a sample updates the baseline, it is limited to `CLIP_Z` deviations from the mean.  So a burst does not become
the usual value, but a lasting change of the load is learned within some dozens of samples, as the deviation grows.  For
`WARM_UP_SAMPLES` there is no baseline and the severity is 0.

All updates cost O(1) per sample and node.  Source: the running moments are exponentially weighted ones (P. D. Welford,
1962, with fading memory; see T. Finch, "Incremental calculation of weighted mean and variance", 2009).
"""

from __future__ import annotations

from testbed import units
from testbed.policies.arithmetic import Arithmetic, Sample, Values, arithmetic_of
from testbed.policies.fluid import BITS_TIMES_NS

BASELINE_SAMPLES = 64
WARM_UP_SAMPLES = 8
SLOPE_GAIN = 0.5
Z_FROM, Z_FULL = 2.0, 6.0
CLIP_Z = 3.0

#                        slope  dispersion  new flows  density
LEAST_DEVIATION = (0.05, 0.25, 2.0, 0.5)
WEIGHT = (0.6, 0.3, 0.5, 0.4)


class Baseline:
    """The usual values of some quantities (rows of a block), and how far a value lies above them.

    Args:
        ops: the arithmetic.
        least_deviation: of each row.
    """

    def __init__(self, ops: Arithmetic, least_deviation: Values) -> None:
        self._ops, self._least = ops, least_deviation
        self._mean: Values | None = None
        self._variance: Values = 0.0 * least_deviation

    def sign(self, value: Values, gain: float) -> Values:
        """Return the strength of the sign `value`, 0 to 1, and update the baseline with weight `gain`."""
        ops = self._ops
        mean = value if self._mean is None else self._mean
        deviation = ops.maximum(ops.sqrt(self._variance), self._least)
        z = (value - mean) / deviation
        step = ops.minimum(ops.maximum(z, -CLIP_Z), CLIP_Z) * deviation
        self._mean = mean + gain * step
        self._variance = self._variance + gain * (step * step - self._variance)
        return ops.minimum(ops.maximum((z - Z_FROM) * (1.0 / (Z_FULL - Z_FROM)), 0.0), 1.0)


class PrecursorPolicy:
    """Computes one `severity_ratio` per sample for n nodes.

    Args:
        rate_bps: service rates of the nodes, shape [n]; or the rate of one.
    """

    def __init__(self, rate_bps: Values) -> None:
        self._ops = arithmetic_of(rate_bps)
        self._ns_per_byte = BITS_TIMES_NS / rate_bps
        zero = 0.0 * rate_bps
        least, self._weights = (
            self._ops.stacked(tuple(value + zero for value in row)) for row in (LEAST_DEVIATION, WEIGHT)
        )
        self._baselines = [Baseline(self._ops, deviation) for deviation in least]
        self._load: Values = 0.0
        self._seen = 0

    def severity_ratio(self, sample: Sample) -> Values:
        """Process the next sample of all nodes; return the severity, 0 to 1."""
        self._seen += 1
        gain = max(1.0 / self._seen, 1.0 / BASELINE_SAMPLES)
        silent: Values = 1.0
        for baseline, value, weight in zip(self._baselines, self._measured(sample), self._weights, strict=True):
            silent = silent * self._ops.product(1.0 - weight * baseline.sign(value, gain))
        return (1.0 - silent) * (self._seen > WARM_UP_SAMPLES)

    def _measured(self, sample: Sample) -> list[Values]:
        """Return slope, dispersion, new flows and density."""
        ops, interval_ns = self._ops, sample.interval_ns
        load = sample.arrived_bytes * self._ns_per_byte / interval_ns
        peak = sample.peak_1ms_bytes * (self._ns_per_byte / min(interval_ns, units.NS_PER_MS))
        gap_ns = ops.where(sample.arrived_pkts > 0, sample.gap_max_ns, interval_ns)
        self._load = self._load + (load - self._load) * (SLOPE_GAIN if self._seen > 1 else 1.0)
        density = ops.log2(interval_ns / ops.maximum(gap_ns, 1))
        return ops.stacked((self._load, peak - load, sample.new_flows, density))
