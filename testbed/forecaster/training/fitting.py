"""The optimiser's loop, in torch.  `train` is the only caller."""

from __future__ import annotations

import io
import math
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import binary_cross_entropy_with_logits

from testbed.files import writing
from testbed.files.reading import Source
from testbed.forecaster.data.dataset import Dataset
from testbed.forecaster.runtime.features import ALL, BASE
from testbed.forecaster.runtime.horizons import HORIZON_SAMPLES
from testbed.forecaster.runtime.lstm import WARM_UP_SAMPLES
from testbed.forecaster.training.config import TrainConfig
from testbed.forecaster.training.data import TrainingData
from testbed.forecaster.training.network import ForecastNetwork, horizon_weights, pinball

CHECKPOINT = "checkpoint.pt"
_MAX_CHECKPOINT_BYTES = 256 * 10**6
_DAMAGED = (OSError, RuntimeError, EOFError, LookupError, TypeError, ValueError, AttributeError)
_ELSEWHERE = "choose another --out"
_RISE_STEPS = 50
_MAX_GRADIENT = 1.0

Weights = dict[str, NDArray[np.float32]]
Batch = tuple[Dataset, NDArray[np.int64]]
State: TypeAlias = "tuple[torch.Tensor, torch.Tensor] | None"  # hidden and cell state; None at the start of a series


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
    network = ForecastNetwork(_width(config), config.hidden, len(HORIZON_SAMPLES))
    optimiser = torch.optim.Adam(network.parameters(), lr=config.learning_rate)
    checkpoint = config.out / CHECKPOINT
    done, loss = _resume(checkpoint, config, network, optimiser)
    total_steps = config.epochs * sum(_chunks(part, config.chunk) for part, _ in _batches(config, data, 0))
    step = done * total_steps // config.epochs
    for epoch in range(done, config.epochs):
        losses = []
        for part, rows in _batches(config, data, epoch):
            state: State = None
            for chunk in _walk(part, rows, config):
                for group in optimiser.param_groups:
                    group["lr"] = config.learning_rate * _schedule(step, total_steps)
                loss, state = _step(config, network, optimiser, chunk, state)
                losses.append(loss)
                step += 1
        loss = float(np.mean(losses))
        _save(checkpoint, config, network, optimiser, epoch + 1, loss)
        after_epoch(epoch + 1, loss)
    return exported(network), loss


def _width(config: TrainConfig) -> int:
    return ALL if config.periods else BASE


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


class Chunk(NamedTuple):
    """A stretch of a batch in order of time, [rows, samples, …]; nothing is learnt of the first `skip` samples."""

    inputs: torch.Tensor
    growth: torch.Tensor
    onset: torch.Tensor
    skip: int


def _walk(part: Dataset, rows: NDArray[np.int64], config: TrainConfig) -> Iterator[Chunk]:
    """Yield the chunks of a batch in order of time; the first has the warm-up in front."""
    length = config.chunk
    inputs, growth = torch.from_numpy(part.inputs[rows][:, :, : _width(config)]), torch.from_numpy(part.growth[rows])
    onset = torch.from_numpy(part.onset[rows].astype(np.float32))
    start, skip = 0, WARM_UP_SAMPLES
    for _ in range(_chunks(part, length)):
        end = start + length + skip
        yield Chunk(inputs[:, start:end], growth[:, start:end], onset[:, start:end], skip)
        start, skip = end, 0


def _step(
    config: TrainConfig, network: ForecastNetwork, optimiser: torch.optim.Optimizer, chunk: Chunk, state: State
) -> tuple[float, State]:
    """Take one step of the optimiser; return the loss and the recurrent state after the chunk."""
    predicted, logits, (hidden, cell) = network(chunk.inputs, state)
    learnt = slice(chunk.skip, None)
    loss = pinball(chunk.growth[:, learnt], predicted[:, learnt], config.quantile, horizon_weights(HORIZON_SAMPLES))
    onset_loss = binary_cross_entropy_with_logits(logits[:, learnt], chunk.onset[:, learnt])
    loss = loss + config.onset_weight * onset_loss
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(network.parameters(), _MAX_GRADIENT)
    optimiser.step()
    return float(loss.detach()), (hidden.detach(), cell.detach())


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
    writing.folder(path.parent, elsewhere=_ELSEWHERE)
    state = {"network": network.state_dict(), "optimiser": optimiser.state_dict(), "done": done, "loss": loss}

    def into(file: BinaryIO) -> None:
        torch.save({**state, "config": config.fingerprint()}, file)

    writing.replace(path, into, elsewhere=_ELSEWHERE)


def _resume(
    path: Path, config: TrainConfig, network: ForecastNetwork, optimiser: torch.optim.Optimizer
) -> tuple[int, float]:
    """Load the checkpoint, if there is one, and return the finished epochs and the last loss."""
    source = Source(path, "delete it, or choose another --out", f"resuming from {path}")
    if not source.exists():
        return 0, math.nan
    content = source.read(_MAX_CHECKPOINT_BYTES)
    try:
        state = torch.load(io.BytesIO(content), weights_only=True)
        found = dict(state["config"])
        if found == config.fingerprint():
            network.load_state_dict(state["network"])
            optimiser.load_state_dict(state["optimiser"])
            return int(state["done"]), float(state["loss"])
    except (*_DAMAGED, pickle.UnpicklingError) as error:
        raise source.refusal(f"it cannot be read ({(str(error).splitlines() or [''])[0]})") from error
    differing = sorted(key for key, value in config.fingerprint().items() if found.get(key) != value)
    raise source.refusal(f"it belongs to another configuration ({', '.join(differing)})")
