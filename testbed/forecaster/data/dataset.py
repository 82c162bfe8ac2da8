"""Series for training and validation: arrivals, queue, features and targets, split so that nothing leaks.

Traffic (generated, or sums of recorded hosts) runs through a fluid queue with some limit, newly drawn for each series
so that the model meets queues that drop and queues that never do.  The queue is sampled as an agent samples it, the
samples go through the agent's own `FeatureExtractor`, and the targets look ahead from each sample.

Splits: a generated series belongs to training or validation by its random stream; of recorded traffic neither a host
nor a moment is in both (see `traces`).
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from testbed import units
from testbed.forecaster.data.frames import FrameProfile, generate_frames
from testbed.forecaster.data.generate import NodeTraffic, TrafficProfile, generate
from testbed.forecaster.data.targets import Bools, bursts, limited_path, needs, onset_within
from testbed.forecaster.runtime.features import ALL, FeatureExtractor
from testbed.forecaster.runtime.horizons import LOOK_AHEAD
from testbed.policies import fluid
from testbed.records.events import Floats, Ints, TrafficSampled

Float32s = NDArray[np.float32]

TRAIN_STREAM, VALIDATION_STREAM = 1, 2
# Buffer limits of training queues, in units of rate x interval.
_LOG_LIMIT_INTERVALS = (math.log(1.0), math.log(2000.0))


@dataclass(frozen=True, eq=False)
class Samples:
    """What agents measure at S nodes, T samples each: int64 [S, T]."""

    rate_bps: Ints
    interval_ns: int
    arrived_bytes: Ints
    peak_1ms_bytes: Ints
    backlog_bytes: Ints
    new_flows: Ints

    @property
    def nodes(self) -> tuple[str, ...]:
        """Return a name for each node."""
        return tuple(f"n{number}" for number in range(1, len(self.rate_bps) + 1))

    def events(self) -> list[TrafficSampled]:
        """Return the samples as the T events that policies take."""
        nodes, zero = self.nodes, np.zeros(len(self.rate_bps), dtype=np.int64)
        columns = (self.arrived_bytes, self.backlog_bytes, self.new_flows, self.peak_1ms_bytes)
        by_time = zip(*(np.ascontiguousarray(column.T) for column in columns), strict=True)
        return [
            TrafficSampled(
                nodes=nodes,
                interval_ns=self.interval_ns,
                arrived_bytes=arrived,
                arrived_pkts=zero,
                dropped_bytes=zero,
                dropped_pkts=zero,
                backlog_bytes=backlog,
                limit_bytes=zero,
                new_flows=new_flows,
                gap_max_ns=zero,
                peak_1ms_bytes=peak,
            )
            for arrived, backlog, new_flows, peak in by_time
        ]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Inputs and targets of S series of T samples for h horizons.

    Attributes:
        samples: what the inputs were made from, LOOK_AHEAD samples longer.
        inputs: float32 [S, T, ALL]; a model takes the first of them.
        growth: log(1 + (need - backlog) / u), float32 [S, T, h].
        onset: whether a burst starts within the horizon, bool [S, T, h].
        calm: no burst is in progress, bool [S, T].
        strength: of the series' precursors, float64 [S]; NaN for recorded traffic.
    """

    samples: Samples
    inputs: Float32s
    growth: Float32s
    onset: Bools
    calm: Bools
    strength: Floats

    def digest(self) -> str:
        """Return a SHA-256 over what is learnt from: samples and targets."""
        seen = self.samples
        total = hashlib.sha256()
        arrays = (seen.rate_bps, seen.arrived_bytes, seen.backlog_bytes, seen.new_flows, self.growth, self.onset)
        for array in arrays:
            total.update(np.ascontiguousarray(array).tobytes())
        return total.hexdigest()


def features_of(samples: Samples) -> Float32s:
    """Return the inputs of the network for every sample, float32 [S, T, ALL]."""
    series, steps = samples.arrived_bytes.shape
    out = np.empty((ALL, series), dtype=np.float32)
    extractor = FeatureExtractor(samples.rate_bps, samples.interval_ns, out)
    inputs = np.empty((series, steps, ALL), dtype=np.float32)
    for step, event in enumerate(samples.events()):
        extractor.step(
            event.arrived_bytes, event.peak_1ms_bytes, event.backlog_bytes, event.new_flows, event.interval_ns
        )
        inputs[:, step] = out.T
    return inputs


def sampled(traffic: NodeTraffic, path: Floats, interval_ms: int, rng: np.random.Generator) -> Samples:
    """Return `traffic` and the backlogs `path` [S, bins] as an agent with that interval measures them."""
    steps = traffic.arrived_bytes.shape[1] // interval_ms
    arrived = _by_sample(traffic.arrived_bytes, interval_ms)
    expected = _by_sample(traffic.new_flows, interval_ms).sum(axis=2)
    return Samples(
        rate_bps=traffic.rate_bps,
        interval_ns=interval_ms * units.NS_PER_MS,
        arrived_bytes=arrived.sum(axis=2),
        peak_1ms_bytes=arrived.max(axis=2),
        backlog_bytes=path[:, interval_ms - 1 : steps * interval_ms : interval_ms].astype(np.int64),
        new_flows=np.floor(expected + rng.random(expected.shape)).astype(np.int64),
    )


def _by_sample(bins: NDArray[np.generic], interval_ms: int) -> NDArray[np.generic]:
    steps = bins.shape[1] // interval_ms
    return bins[:, : steps * interval_ms].reshape(len(bins), steps, interval_ms)


def dataset_of(traffic: NodeTraffic, interval_ms: int, seed: tuple[int, ...]) -> Dataset:
    """Return inputs and targets of `traffic` sampled every `interval_ms`; the last samples serve as future only."""
    rng = np.random.default_rng(seed)
    series = len(traffic.rate_bps)
    served = fluid.service_bytes(traffic.rate_bps, units.NS_PER_MS)
    unit = served * interval_ms
    limit = np.ceil(unit * np.exp(rng.uniform(*_LOG_LIMIT_INTERVALS, series))).astype(np.int64)
    samples = sampled(traffic, limited_path(traffic.arrived_bytes, served, limit), interval_ms, rng)
    free = fluid.backlog_path(traffic.arrived_bytes, served, np.zeros(series))
    inside, starts = bursts(_by_sample(free, interval_ms).max(axis=2), unit)
    growth = needs(traffic.arrived_bytes, served, samples.backlog_bytes, interval_ms)
    growth -= samples.backlog_bytes[:, :-LOOK_AHEAD, None]
    return Dataset(
        samples=samples,
        inputs=features_of(samples)[:, :-LOOK_AHEAD],
        growth=np.log1p(growth / unit[:, None, None]).astype(np.float32),
        onset=onset_within(starts),
        calm=~inside[:, :-LOOK_AHEAD],
        strength=traffic.strength,
    )


# Share of the series at each sample interval (ms), and what durations are multiplied by, so that finer sampling also
# meets bursts of its own scale.
_INTERVAL_MIX = ((10, 0.7, 1.0), (10, 0.1, 2.0), (5, 0.1, 0.6), (1, 0.1, 0.15))


def generated_datasets(profile: TrafficProfile, series: int, samples: int, seed: int, stream: int) -> list[Dataset]:
    """Return generated series of `samples` samples, one data set for each part of the mix; `stream` names the split."""
    parts = []
    for index, (interval_ms, share, tempo) in enumerate(_INTERVAL_MIX):
        name = (seed, stream, index)
        bins = (samples + LOOK_AHEAD) * interval_ms
        traffic = generate(profile, max(1, round(series * share)), bins, name, tempo)
        parts.append(dataset_of(traffic, interval_ms, (*name, _QUEUE_STREAM)))
    return parts


# The same for streams of frames; there the tempo keeps some frames within reach of the horizons at every interval.
_FRAME_MIX = ((10, 0.5, 1.0), (5, 0.2, 0.6), (1, 0.3, 0.3))


def frame_datasets(series: int, samples: int, seed: int, stream: int) -> list[Dataset]:
    """Return series of generated frames, one data set for each part of the mix; `stream` names the split."""
    parts = []
    for index, (interval_ms, share, tempo) in enumerate(_FRAME_MIX):
        name = (seed, stream, index, _FRAME_STREAM)
        bins = (samples + LOOK_AHEAD) * interval_ms
        traffic = generate_frames(FrameProfile(), max(1, round(series * share)), bins, name, tempo)
        parts.append(dataset_of(traffic, interval_ms, (*name, _QUEUE_STREAM)))
    return parts


_QUEUE_STREAM, _FRAME_STREAM = 0xF1, 0xF2
