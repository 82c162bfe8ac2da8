"""Generated streams of frames: bursts that come by the clock, as video and virtual reality send them.

What announces such a burst is not a ramp but the time since the last one.  Each source sends a frame every period, the
frames of a group of pictures differing in size (the first is the largest), with some jitter in size and time, at the
rate of the line before the node.  One to three sources share a node; their periods drift through each other.

Every series draws from its own stream, as in `generate`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from testbed.forecaster.data.generate import BITS_PER_BYTE, MS_PER_S, NodeTraffic

Range = tuple[float, float]


@dataclass(frozen=True)
class FrameProfile:
    """Ranges that each series draws from; (low, high), uniform, or log-uniform where it says so.

    Attributes:
        rate_bps: service rate of the node (log-uniform).
        load: mean load over the rate.
        base_share: of the load that is no frames but packets at random.
        period_ms: between frames (log-uniform).
        line_ratio: rate at which a frame comes over the node's rate (log-uniform).
        size_jitter: standard deviation of the logarithm of a frame's size.
        time_jitter: standard deviation of a frame's time over the period.
        group: frames in a group of pictures, inclusive.
        first_ratio: size of the first frame of a group over that of the others.
        sources: inclusive.
    """

    rate_bps: Range = (1e7, 1e10)
    load: Range = (0.3, 0.9)
    base_share: Range = (0.0, 0.4)
    period_ms: Range = (8.0, 120.0)
    line_ratio: Range = (3.0, 60.0)
    size_jitter: Range = (0.0, 0.4)
    time_jitter: Range = (0.0, 0.1)
    group: tuple[int, int] = (1, 30)
    first_ratio: Range = (1.0, 4.0)
    sources: tuple[int, int] = (1, 3)


def generate_frames(profile: FrameProfile, series: int, bins: int, seed: tuple[int, ...], tempo: float) -> NodeTraffic:
    """Return the traffic of `series` nodes over `bins` milliseconds; periods are multiplied by `tempo`."""
    rate_bps = np.empty(series, dtype=np.int64)
    arrived = np.empty((series, bins), dtype=np.int64)
    for index in range(series):
        rng = np.random.default_rng((*seed, index))
        rate = _log_uniform(rng, profile.rate_bps)
        line_bytes = rate / (BITS_PER_BYTE * MS_PER_S)
        load, base = rng.uniform(*profile.load), rng.uniform(*profile.base_share)
        count = int(rng.integers(profile.sources[0], profile.sources[1] + 1))
        total = rng.poisson(load * base * line_bytes / 1000.0, bins) * 1000.0
        for _ in range(count):
            total += _source(profile, bins, load * (1 - base) * line_bytes / count, line_bytes, tempo, rng)
        rate_bps[index], arrived[index] = round(rate), np.rint(total)
    return NodeTraffic(rate_bps, arrived, np.zeros((series, bins), dtype=np.float32), np.full(series, np.nan))


def _source(
    profile: FrameProfile, bins: int, mean_bytes: float, line_bytes: float, tempo: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return the bytes a millisecond of one source that sends `mean_bytes` of them on the mean."""
    period = _log_uniform(rng, profile.period_ms) * tempo
    count = int(bins / period) + 2
    jitter = rng.normal(0.0, rng.uniform(*profile.time_jitter) * period, count)
    start = np.maximum.accumulate(rng.uniform(0, period) + np.arange(count) * period + jitter)
    size = np.exp(rng.normal(0.0, rng.uniform(*profile.size_jitter), count))
    size[:: int(rng.integers(profile.group[0], profile.group[1] + 1))] *= rng.uniform(*profile.first_ratio)
    size *= mean_bytes * period / size.mean()
    length = size / (line_bytes * _log_uniform(rng, profile.line_ratio))
    # The rising curve of bytes: up during a frame, level between; a frame waits for the end of the one before.
    begin = np.maximum(start, 0.0)
    begin[1:] = np.maximum(begin[1:], np.maximum.accumulate(begin + length)[:-1])
    times = np.maximum.accumulate(np.column_stack([begin, begin + length]).ravel())
    curve = np.concatenate([[0.0], np.repeat(np.cumsum(size), 2)[:-1]])
    return np.diff(np.interp(np.arange(bins + 1, dtype=np.float64), times, curve))


def _log_uniform(rng: np.random.Generator, bounds: Range) -> float:
    return float(np.exp(rng.uniform(np.log(bounds[0]), np.log(bounds[1]))))
