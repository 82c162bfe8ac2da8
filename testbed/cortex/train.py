"""Training: ``train(TrainConfig(...))`` makes data, fits the network, scores it, and writes model, manifest and card.

Series run through the network in order of time, a chunk after another, and the recurrent state is carried across
chunks (truncated back-propagation through time): the model lives through whole series in training as it does in a
node, where it is never reset.  Adam; the learning rate rises over the first steps and then falls along a cosine to
zero, so the last weights are the ones to keep and validation data chooses nothing.

Every random choice is named by (seed, purpose, epoch).  After each epoch a checkpoint is written; a run with the same
configuration goes on from it and ends with the same weights as one that was never interrupted.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from testbed.cortex import onnx_export
from testbed.cortex.artefact import DEFAULT_MODEL, load_model, save_model
from testbed.cortex.card import write_card
from testbed.cortex.dataset import TRAIN_STREAM, VALIDATION_STREAM, Dataset, frame_datasets, generated_datasets
from testbed.cortex.generate import TrafficProfile
from testbed.cortex.scoring import score
from testbed.cortex.traces import load_host_trace, notices_of, trace_datasets
from testbed.errors import InputError, MachineError


@dataclass(frozen=True)
class TrainConfig:
    """What a training run depends on.

    Attributes:
        out: folder of the model, its manifest and the checkpoint.
        card: where the model card goes; None is ``MODEL.md`` in `out`.
        seed: of everything random.
        epochs: passes over the training series.
        series, validation_series: number of generated series.
        samples: samples a series.
        hidden: width of the recurrent state.
        batch: series side by side.
        chunk: samples between two steps of the optimiser.
        learning_rate: its highest value.
        quantile: of the need, to be predicted.
        onset_weight: weight of the onset loss beside the pinball loss.
        frame_share: series of generated frames to one of generated bursts.
        crowd_share: of the generated bursts, series that are sums of many sources.
        trace_share: samples of sums of each trace to one of generated bursts.
        traces: recorded host traces to add, as `traces` reads them.
    """

    out: Path = Path("model")
    card: Path | None = None
    seed: int = 1
    epochs: int = 60
    series: int = 1200
    validation_series: int = 128
    samples: int = 2000
    hidden: int = 64
    batch: int = 64
    chunk: int = 100
    learning_rate: float = 4e-3
    quantile: float = 0.95
    onset_weight: float = 0.2
    frame_share: float = 0.4
    crowd_share: float = 0.2
    trace_share: float = 0.3
    traces: tuple[Path, ...] = ()

    def fingerprint(self) -> dict[str, Any]:
        """Return what decides the weights, as JSON data: all but the places to write to."""
        data = {k: v for k, v in dataclasses.asdict(self).items() if k not in ("out", "card", "traces")}
        return {**data, "traces": [path.name for path in self.traces]}


@dataclass(frozen=True)
class TrainProgress:
    """Where a training run stands: `stage` is data, fit or score; `loss` the mean of the last epoch."""

    stage: str
    done: int
    total: int
    loss: float | None = None


Progress = Callable[[TrainProgress], None]


@dataclass(frozen=True)
class TrainingData:
    """Data sets for training and validation by name, and the SHA-256 of each and of the traces."""

    training: tuple[Dataset, ...]
    validation: dict[str, tuple[Dataset, ...]]
    sha256: dict[str, str]


def _silent(_: TrainProgress) -> None:
    return None


def train(config: TrainConfig, progress: Progress = _silent) -> Path:
    """Fit a model as `config` says and return the path of its weights; the manifest lies beside.

    Raises:
        InputError: when the configuration, a trace or a checkpoint does not fit.
        MachineError: when torch is not installed.
    """
    _check(config)
    started = time.monotonic()
    progress(TrainProgress("data", 0, 1))
    data = training_data(config)
    progress(TrainProgress("data", 1, 1))
    from testbed.cortex import fitting  # here and not above: only training needs torch

    def after_epoch(done: int, loss: float) -> None:
        progress(TrainProgress("fit", done, config.epochs, loss))

    weights, loss = fitting.fit(config, data, after_epoch)
    progress(TrainProgress("score", 0, 1))
    path = config.out / DEFAULT_MODEL.name
    manifest = _manifest(config, data, loss)
    save_model(path, weights, manifest)
    manifest["metrics"] = score(load_model(path), data.validation, config.seed)
    manifest["training"]["seconds"] = round(time.monotonic() - started)
    save_model(path, weights, manifest)
    write_card(path, config.card or config.out / "MODEL.md")
    if onnx_export.available():
        onnx_export.write_onnx(load_model(path), config.out / "model.onnx")
    (config.out / fitting.CHECKPOINT).unlink(missing_ok=True)
    progress(TrainProgress("score", 1, 1))
    return path


def _check(config: TrainConfig) -> None:
    if importlib.util.find_spec("torch") is None:
        raise MachineError("training a model", "torch is not installed", "run `pip install 'testbed[train]'`")
    for name in ("epochs", "series", "validation_series", "samples", "hidden", "batch", "chunk"):
        if getattr(config, name) < 1:
            raise InputError(f"training with {name} {getattr(config, name)}", "it must be at least 1")
    if config.seed < 0:
        raise InputError(f"training with seed {config.seed}", "it must not be negative")
    if not 0 < config.quantile < 1:
        raise InputError(f"training for the quantile {config.quantile}", "it must lie between 0 and 1", "0.95 is usual")


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


def _manifest(config: TrainConfig, data: TrainingData, loss: float) -> dict[str, Any]:
    return {
        "quantile": config.quantile,
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "training": {"config": config.fingerprint(), "data_sha256": data.sha256, "loss": loss, "seconds": None},
        "metrics": None,
        "notices": sorted({notice for path in config.traces for notice in notices_of(path)}),
    }
