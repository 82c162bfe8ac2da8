"""What a training run depends on, checked."""

from __future__ import annotations

import dataclasses
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testbed import installing
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
        periods: let the model see the period of the arrivals, too (`runtime.periods`).
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
    periods: bool = False
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


def check(config: TrainConfig) -> None:
    """Refuse settings that make no sense.

    Raises:
        InputError: names the setting.
        MachineError: torch is not installed.
    """
    if importlib.util.find_spec("torch") is None:
        raise MachineError("training a model", "torch is not installed", installing.optional("train"))
    _check_settings(config)


def check_rivals(config: TrainConfig) -> None:
    """Refuse settings with which no rivals can be fitted.

    Raises:
        InputError: names the setting.
        MachineError: scikit-learn, which grows the trees, is not installed.
    """
    if importlib.util.find_spec("sklearn") is None:
        raise MachineError("fitting rivals", "scikit-learn is not installed", installing.optional("evaluate"))
    _check_settings(config)


def _check_settings(config: TrainConfig) -> None:
    for name in ("epochs", "series", "validation_series", "samples", "hidden", "batch", "chunk"):
        if getattr(config, name) < 1:
            raise InputError(f"training with {name} {getattr(config, name)}", "it must be at least 1")
    if config.seed < 0:
        raise InputError(f"training with seed {config.seed}", "it must not be negative")
    if not 0 < config.quantile < 1:
        raise InputError(f"training for the quantile {config.quantile}", "it must lie between 0 and 1", "0.95 is usual")
