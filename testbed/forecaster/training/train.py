"""Training: ``train(TrainConfig(...))`` makes data, fits the network, scores it, and writes model, manifest and card.

Series run through the network in order of time, a chunk after another, and the recurrent state is carried across
chunks (truncated back-propagation through time): the model lives through whole series in training as it does in a
node, where it is never reset.  Adam; the learning rate rises over the first steps and then falls along a cosine to
zero, so the last weights are the ones to keep and validation data chooses nothing.

Every random choice is named by (seed, purpose, epoch).  After each epoch a checkpoint is written; a run with the same
configuration resumes from it and ends with the same weights as one that was never interrupted.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from testbed.forecaster.data.traces import notices_of
from testbed.forecaster.evaluation.card import write_card
from testbed.forecaster.evaluation.scoring import score
from testbed.forecaster.runtime.artefact import DEFAULT_MODEL, load_model, save_model
from testbed.forecaster.training import onnx_export
from testbed.forecaster.training.config import TrainConfig, check
from testbed.forecaster.training.data import TrainingData, training_data


@dataclass(frozen=True)
class TrainProgress:
    """Where a training run stands: `stage` is data, fit or score; `loss` the mean of the last epoch."""

    stage: str
    done: int
    total: int
    loss: float | None = None


Progress = Callable[[TrainProgress], None]


def _silent(_: TrainProgress) -> None:
    return None


def train(config: TrainConfig, progress: Progress = _silent) -> Path:
    """Fit a model as `config` says and return the path of its weights; the manifest lies beside.

    Raises:
        InputError: when the configuration, a trace or a checkpoint does not fit.
        MachineError: when torch is not installed.
    """
    check(config)
    started = time.monotonic()
    progress(TrainProgress("data", 0, 1))
    data = training_data(config)
    progress(TrainProgress("data", 1, 1))
    from testbed.forecaster.training import fitting  # here and not above: only training needs torch

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


def _manifest(config: TrainConfig, data: TrainingData, loss: float) -> dict[str, Any]:
    return {
        "quantile": config.quantile,
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "training": {"config": config.fingerprint(), "data_sha256": data.sha256, "loss": loss, "seconds": None},
        "metrics": None,
        "notices": sorted({notice for path in config.traces for notice in notices_of(path)}),
    }
