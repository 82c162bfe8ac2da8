"""The data of a training run: generated bursts and frames, sums of recorded hosts; some of each for validation."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from testbed.forecaster.data.dataset import TRAIN_STREAM, VALIDATION_STREAM, Dataset, frame_datasets, generated_datasets
from testbed.forecaster.data.generate import TrafficProfile
from testbed.forecaster.data.traces import load_host_trace, trace_datasets
from testbed.forecaster.training.config import TrainConfig


@dataclass(frozen=True)
class TrainingData:
    """Data sets for training and validation by name, and the SHA-256 of each and of the traces."""

    training: tuple[Dataset, ...]
    validation: dict[str, tuple[Dataset, ...]]
    sha256: dict[str, str]


def training_data(config: TrainConfig) -> TrainingData:
    """Return all data of a training run; the same configuration gives the same data."""
    mixed, plain = TrafficProfile(crowd_share=config.crowd_share), TrafficProfile()
    training = generated_datasets(mixed, config.series, config.samples, config.seed, TRAIN_STREAM)
    held_out = generated_datasets(plain, config.validation_series, config.samples, config.seed, VALIDATION_STREAM)
    validation = {"generated": tuple(held_out)}
    sha256 = {"generated training": _digest(training), "generated validation": _digest(held_out)}
    if config.frame_share > 0:
        learnt, judged = (
            frame_datasets(max(1, round(count * config.frame_share)), config.samples, config.seed, stream)
            for count, stream in ((config.series, TRAIN_STREAM), (config.validation_series, VALIDATION_STREAM))
        )
        training += learnt
        validation["generated frames"] = tuple(judged)
        sha256 |= {"frames training": _digest(learnt), "frames validation": _digest(judged)}
    for index, path in enumerate(config.traces):
        trace = load_host_trace(path)
        learnt, judged = (
            trace_datasets(trace, config.trace_share * count * config.samples, config.seed + index, stream)
            for count, stream in ((config.series, TRAIN_STREAM), (config.validation_series, VALIDATION_STREAM))
        )
        training += learnt
        validation[path.stem] = tuple(judged)
        sha256[path.name] = trace.sha256
    return TrainingData(tuple(training), validation, sha256)


def _digest(parts: Sequence[Dataset]) -> str:
    return hashlib.sha256("".join(part.digest() for part in parts).encode()).hexdigest()
