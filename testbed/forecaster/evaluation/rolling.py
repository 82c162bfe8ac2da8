"""Series as an evaluation walks through them: samples, what came of each, and what was forecast at each.

Time runs forward only.  The forecasters go through a series sample by sample from a fresh state; the first
`WARM_UP_SAMPLES` count for nobody.  The first `FITTED_SHARE` of what is left is there for rivals that learn (and for
the choice of alarm thresholds); all are judged on the rest.  Series of equal length run side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from testbed.forecaster.data.arrivals import REFERENCE_BPS, Series, reference_unit, whole
from testbed.forecaster.data.dataset import Float32s, Samples, features_of, sampled
from testbed.forecaster.data.generate import NodeTraffic
from testbed.forecaster.data.targets import Bools, bursts, onset_within
from testbed.forecaster.runtime.horizons import HORIZON_SAMPLES, LOOK_AHEAD
from testbed.forecaster.runtime.lstm import WARM_UP_SAMPLES
from testbed.policies import fluid
from testbed.records.events import Floats, Ints

FITTED_SHARE = 0.4
LEAST_SAMPLES = 120  # warm-up, look-ahead, and some dozens to fit and to judge


@dataclass(frozen=True, eq=False)
class Group:
    """S series of T judged samples; amounts are in units of rate × interval.

    Attributes:
        names: of the series.
        samples: LOOK_AHEAD longer.
        inputs: of the network, [S, T, ALL].
        arrived, backlog: [S, T].
        growth: of the need over the backlog that came true, [S, T, h].
        onset: whether a burst started within the horizon, [S, T, h].
        starts: whether a burst starts in the sample, [S, T + LOOK_AHEAD].
        calm: whether none is in progress, [S, T].
        announced: whether a precursor is in progress, [S, T]; None where nobody knows.
    """

    names: tuple[str, ...]
    samples: Samples
    inputs: Float32s
    arrived: Floats
    backlog: Floats
    growth: Floats
    onset: Bools
    starts: Bools
    calm: Bools
    announced: Bools | None

    @property
    def length(self) -> int:
        """Return T."""
        return int(self.growth.shape[1])

    @property
    def first(self) -> int:
        """Return the first sample after the warm-up."""
        return WARM_UP_SAMPLES

    @property
    def split(self) -> int:
        """Return the first judged sample."""
        return self.first + round(FITTED_SHARE * (self.length - self.first))


def groups_of(series: Sequence[Series], interval_ms: int) -> list[Group]:
    """Return the series in groups of equal length, in order of their first; all are at the reference rate."""
    by_length: dict[int, list[Series]] = {}
    for one in series:
        by_length.setdefault(len(one.arrived_bytes) // interval_ms, []).append(one)
    return [_group(members, samples, interval_ms) for samples, members in by_length.items()]


def traffic_of(series: Sequence[Series], bins: int) -> NodeTraffic:
    """Return the first `bins` milliseconds of the series as whole bytes at the reference rate."""
    arrived = whole(np.stack([one.arrived_bytes[:bins] for one in series]))
    silent = np.zeros(bins)
    flows = [silent if one.new_flows is None else one.new_flows[:bins] for one in series]
    count = len(series)
    return NodeTraffic(
        np.full(count, REFERENCE_BPS, dtype=np.int64),
        arrived,
        np.stack(flows).astype(np.float32),
        np.full(count, np.nan),
    )


def _group(series: Sequence[Series], steps: int, interval_ms: int) -> Group:
    traffic = traffic_of(series, steps * interval_ms)
    served = fluid.service_bytes(traffic.rate_bps, 10**6)
    path = fluid.backlog_path(traffic.arrived_bytes, served, np.zeros(len(series)))
    samples = sampled(traffic, path, interval_ms, np.random.default_rng(0))
    unit = reference_unit(interval_ms)
    inside, starts = bursts(path.reshape(len(series), steps, interval_ms).max(axis=2), served * interval_ms)
    judged = slice(0, steps - LOOK_AHEAD)
    backlog = path[:, interval_ms - 1 :: interval_ms]
    return Group(
        names=tuple(one.name for one in series),
        samples=samples,
        inputs=features_of(samples)[:, judged],
        arrived=samples.arrived_bytes[:, judged] / unit,
        backlog=backlog[:, judged] / unit,
        growth=_growth(path, interval_ms)[:, judged] / unit,
        onset=onset_within(starts),
        starts=starts,
        calm=~inside[:, judged],
        announced=_announced(series, steps, interval_ms, judged),
    )


def _growth(path: Floats, interval_ms: int) -> Floats:
    """Return the highest backlog within each horizon over that at the sample, [S, samples, h]."""
    now = path[:, interval_ms - 1 :: interval_ms]
    ahead = (fluid.peaks_ahead(path, horizon * interval_ms) for horizon in HORIZON_SAMPLES)
    return np.stack([peak[:, interval_ms - 1 :: interval_ms] - now for peak in ahead], axis=2)


def _announced(series: Sequence[Series], steps: int, interval_ms: int, judged: slice) -> Bools | None:
    masks = [one.announced for one in series if one.announced is not None]
    if len(masks) < len(series):
        return None
    by_sample = np.stack([mask[: steps * interval_ms] for mask in masks]).reshape(len(masks), steps, interval_ms)
    return np.asarray(by_sample[:, judged].any(axis=2))


def needs_in_intervals(need_bytes: Ints, group: Group, interval_ms: int) -> Floats:
    """Return forecast needs [S, T + LOOK_AHEAD, h] as growth over the backlog, [S, T, h] in intervals."""
    growth = (need_bytes - group.samples.backlog_bytes[:, :, None]) / reference_unit(interval_ms)
    return np.asarray(growth[:, : group.length])
