"""The optimiser's loop, in torch.  `train` is the only caller."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import binary_cross_entropy_with_logits

from testbed.cortex.dataset import Dataset
from testbed.cortex.features import FEATURES
from testbed.cortex.network import ForecastNetwork, horizon_weights, pinball
from testbed.cortex.runtime import WARM_UP_SAMPLES
from testbed.cortex.targets import HORIZON_SAMPLES
from testbed.errors import InputError

if TYPE_CHECKING:
    from testbed.cortex.train import TrainConfig, TrainingData

CHECKPOINT = "checkpoint.pt"
_RISE_STEPS = 50
_MAX_GRADIENT = 1.0

Weights = dict[str, NDArray[np.float32]]
Batch = tuple[Dataset, NDArray[np.int64]]


def fit(config: TrainConfig, data: TrainingData, after_epoch: Callable[[int, float], None]) -> tuple[Weights, float]:
    """Return the fitted weights and the mean loss of the last epoch; runs on one thread.

    Args:
        config: of the run.
        data: of the run.
        after_epoch: called with the number of finished epochs and the mean loss of the last.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _fit(config, data, after_epoch)
    finally:
        torch.set_num_threads(threads)


def _fit(config: TrainConfig, data: TrainingData, after_epoch: Callable[[int, float], None]) -> tuple[Weights, float]:
    torch.manual_seed(config.seed)
    network = ForecastNetwork(FEATURES, config.hidden, len(HORIZON_SAMPLES))
    optimiser = torch.optim.Adam(network.parameters(), lr=config.learning_rate)
    checkpoint = config.out / CHECKPOINT
    done, loss = _resume(checkpoint, config, network, optimiser)
    total_steps = config.epochs * sum(_chunks(part, config.chunk) for part, _ in _batches(config, data, 0))
    step = done * total_steps // config.epochs
    for epoch in range(done, config.epochs):
        losses = []
        for part, rows in _batches(config, data, epoch):
            for inputs, growth, onset, state_box in _walk(part, rows, config.chunk):
                for group in optimiser.param_groups:
                    group["lr"] = config.learning_rate * _schedule(step, total_steps)
                losses.append(_step(config, network, optimiser, inputs, growth, onset, state_box))
                step += 1
        loss = float(np.mean(losses))
        _save(checkpoint, config, network, optimiser, epoch + 1, loss)
        after_epoch(epoch + 1, loss)
    return exported(network), loss


def _batches(config: TrainConfig, data: TrainingData, epoch: int) -> list[Batch]:
    """Return the batches of an epoch in their random order."""
    rng = np.random.default_rng((config.seed, 0xBA7C4, epoch))
    batches: list[Batch] = []
    for part in data.training:
        order = rng.permutation(len(part.inputs))
        batches += [(part, order[start : start + config.batch]) for start in range(0, len(order), config.batch)]
    return [batches[index] for index in rng.permutation(len(batches))]


def _chunks(part: Dataset, chunk: int) -> int:
    learnt: int = part.inputs.shape[1] - WARM_UP_SAMPLES
    return max(1, math.ceil(learnt / chunk))


def _walk(part: Dataset, rows: NDArray[np.int64], chunk: int) -> Iterator[tuple[Any, Any, Any, dict[str, Any]]]:
    """Yield the chunks of a batch in order of time, with a box in which the recurrent state travels.

    The first chunk has the warm-up in front, of which nothing is learnt.
    """
    inputs, growth = torch.from_numpy(part.inputs[rows]), torch.from_numpy(part.growth[rows])
    onset = torch.from_numpy(part.onset[rows].astype(np.float32))
    box: dict[str, Any] = {"state": None, "skip": WARM_UP_SAMPLES}
    start = 0
    for _ in range(_chunks(part, chunk)):
        end = start + chunk + box["skip"]
        yield inputs[:, start:end], growth[:, start:end], onset[:, start:end], box
        start, box["skip"] = end, 0


def _step(
    config: TrainConfig,
    network: ForecastNetwork,
    optimiser: torch.optim.Optimizer,
    inputs: torch.Tensor,
    growth: torch.Tensor,
    onset: torch.Tensor,
    box: dict[str, Any],
) -> float:
    predicted, logits, (hidden, cell) = network(inputs, box["state"])
    box["state"] = (hidden.detach(), cell.detach())
    skip = box["skip"]
    weight = horizon_weights(HORIZON_SAMPLES)
    loss = pinball(growth[:, skip:], predicted[:, skip:], config.quantile, weight)
    loss = loss + config.onset_weight * binary_cross_entropy_with_logits(logits[:, skip:], onset[:, skip:])
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(network.parameters(), _MAX_GRADIENT)
    optimiser.step()
    return float(loss.detach())


def _schedule(step: int, total: int) -> float:
    return min(1.0, (step + 1) / _RISE_STEPS) * 0.5 * (1 + math.cos(math.pi * step / total))


def exported(network: ForecastNetwork) -> Weights:
    """Return the weights in the layout of `artefact.Model`."""
    state = {name: tensor.detach().numpy().astype(np.float32) for name, tensor in network.state_dict().items()}
    return {
        "weight_ih": state["lstm.weight_ih_l0"],
        "weight_hh": state["lstm.weight_hh_l0"],
        "bias": state["lstm.bias_ih_l0"] + state["lstm.bias_hh_l0"],
        "head_weight": state["head.weight"],
        "head_bias": state["head.bias"],
    }


def _save(
    path: Path, config: TrainConfig, network: ForecastNetwork, optimiser: torch.optim.Optimizer, done: int, loss: float
) -> None:
    """Write the checkpoint beside the old one and swap them, so that an interrupted write loses nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {"network": network.state_dict(), "optimiser": optimiser.state_dict(), "done": done, "loss": loss}
    fresh = path.with_suffix(".new")
    torch.save({**state, "config": config.fingerprint()}, fresh)
    fresh.replace(path)


def _resume(
    path: Path, config: TrainConfig, network: ForecastNetwork, optimiser: torch.optim.Optimizer
) -> tuple[int, float]:
    """Load the checkpoint, if there is one, and return the finished epochs and the last loss."""
    if not path.exists():
        return 0, math.nan
    attempted, remedy = f"going on from {path}", "delete it, or give another --out"
    try:
        state = torch.load(path, weights_only=True)
        found = state["config"]
    except (OSError, RuntimeError, EOFError, KeyError, TypeError, pickle.UnpicklingError) as error:
        raise InputError(attempted, f"it cannot be read ({str(error).splitlines()[0]})", remedy) from error
    if found != config.fingerprint():
        differing = sorted(key for key, value in config.fingerprint().items() if found.get(key) != value)
        raise InputError(attempted, f"it belongs to another configuration ({', '.join(differing)})", remedy)
    network.load_state_dict(state["network"])
    optimiser.load_state_dict(state["optimiser"])
    return int(state["done"]), float(state["loss"])
