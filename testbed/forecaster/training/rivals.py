"""Rivals fitted to the training series of a model, tuned on its validation series: same data, a stated effort.

Each has the same budget: `SETTINGS` names `BUDGET` settings for each.  A regression is fitted with each of them to at
most `TUNING_ROWS` samples, drawn evenly from all training series, and judged on all validation series; the best one is
fitted again to `FITTED_ROWS`.  Smoothers have nothing to fit; their gains are judged in the same way.

What is judged is the pinball loss at the horizon number `TUNED_AT`: the mean over the series of each validation set,
and of the sets the geometric mean, so that a set with long queues does not decide alone.

Nothing here needs torch.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np

from testbed.errors import InputError
from testbed.forecaster.data.dataset import Dataset, Float32s
from testbed.forecaster.evaluation import metrics
from testbed.forecaster.evaluation.fitted_rivals import BUDGET, FITS, TUNED_AT
from testbed.forecaster.evaluation.fitted_rivals import SETTINGS as STREAM_SETTINGS
from testbed.forecaster.evaluation.regressions import Autoregression, Linear, Stretch, Trees
from testbed.forecaster.evaluation.rivals import SMOOTHERS, forecaster_needs
from testbed.forecaster.evaluation.trained_rivals import beside, save_rivals
from testbed.forecaster.runtime.artefact import Model, load_model
from testbed.forecaster.runtime.features import BASE_NAMES
from testbed.forecaster.runtime.horizons import HORIZON_SAMPLES, LOOK_AHEAD
from testbed.forecaster.runtime.lstm import WARM_UP_SAMPLES
from testbed.forecaster.training.config import TrainConfig, check_rivals
from testbed.forecaster.training.data import TrainingData, training_data
from testbed.policies import fluid
from testbed.records.events import Floats

TUNING_ROWS, FITTED_ROWS = 60_000, 400_000

_WIDE = tuple(BASE_NAMES.index(name) for name in ("peak_1ms", "new_flows"))
Setting = Mapping[str, Any]
# "lagged" gives a regression the history of these inputs, too, and not of the arrivals only.
SETTINGS: Mapping[str, tuple[Setting, ...]] = {
    **STREAM_SETTINGS,
    "linear": tuple({"length": length, "lagged": lagged} for lagged in ((), _WIDE) for length in (20, 10, 40)),
    "trees": tuple(
        {"max_leaf_nodes": leaves, "max_depth": 8, "max_iter": trees, "learning_rate": 10 / trees, "lagged": lagged}
        for lagged in ((), _WIDE)
        for leaves, trees in ((31, 100), (63, 100), (31, 200))
    ),
}

Note = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Examples:
    """A data set as regressions read one (`regressions.Walked`); amounts are in units of rate × interval."""

    arrived: Floats
    backlog: Floats
    inputs: Float32s
    growth: Floats

    @classmethod
    def of(cls, data: Dataset) -> Examples:
        """Return the same samples; the inputs are logarithms, and the first and third of them arrivals and backlog."""
        arrived, backlog = (np.expm1(data.inputs[:, :, BASE_NAMES.index(n)]) for n in ("arrived", "backlog"))
        growth = np.expm1(data.growth.astype(np.float64))
        return cls(arrived.astype(np.float64), backlog.astype(np.float64), data.inputs, growth)


def train_rivals(config: TrainConfig, note: Note = lambda _: None) -> Path:
    """Fit the rivals of the model in `config.out` and return the path of their file, beside the model.

    Raises:
        InputError: when there is no model, or its training data are not those of `config`.
        MachineError: when scikit-learn is not installed.
    """
    check_rivals(config)
    started = time.monotonic()
    model = load_model(config.out)
    note("making the series")
    data = training_data(config)
    _refuse_other_data(model, data)
    path = beside(config.out)
    fitted, tuned = _fitted(data, model.quantile, note)
    gains = {name: tuned[name]["setting"] for name in SMOOTHERS}
    manifest = {
        "quantile": model.quantile,
        "budget": {"settings": BUDGET, "tuning_rows": TUNING_ROWS, "fitted_rows": FITTED_ROWS},
        "tuned": tuned,
        "data_sha256": data.sha256,
        "seconds": round(time.monotonic() - started),
        "notices": list(model.manifest.get("notices", [])),
    }
    regressions = (
        cast("Autoregression", fitted["AR"]),
        cast("Linear", fitted["linear"]),
        cast("Trees", fitted["trees"]),
    )
    save_rivals(path, gains, *regressions, manifest)
    return path


def _refuse_other_data(model: Model, data: TrainingData) -> None:
    said = model.manifest["training"]["data_sha256"]
    differing = sorted(name for name in {*said, *data.sha256} if said.get(name) != data.sha256.get(name))
    if differing:
        happened = f"its training data were others ({', '.join(differing)})"
        raise InputError(
            "fitting rivals to the training series of the model",
            happened,
            "give the options that the model was trained with",
        )


def _fitted(data: TrainingData, quantile: float, note: Note) -> tuple[dict[str, object], dict[str, Any]]:
    """Return the fitted regressions, and for every rival the chosen setting and the losses of all."""
    learnt = _stretches(data.training)
    fitted: dict[str, object] = {}
    tuned: dict[str, Any] = {}
    for name in SMOOTHERS:
        note(f"tuning {name}")
        tuned[name] = _tuned(name, [_smoother_loss(name, setting, data, quantile) for setting in _settings(name)])
    for name, fit in FITS.items():
        note(f"tuning {name}")
        one = partial(fit, learnt, quantile, (TUNED_AT,), most=TUNING_ROWS)
        losses = [_regression_loss(one(**setting), data, quantile) for setting in _settings(name)]
        tuned[name] = _tuned(name, losses)
        note(f"fitting {name}")
        fitted[name] = fit(learnt, quantile, most=FITTED_ROWS, **tuned[name]["setting"])
    return fitted, tuned


def _settings(name: str) -> Sequence[Setting]:
    return SETTINGS[name][:BUDGET]


def _tuned(name: str, losses: Sequence[float]) -> dict[str, Any]:
    return {"setting": dict(_settings(name)[int(np.argmin(losses))]), "losses": [round(loss, 6) for loss in losses]}


def _stretches(parts: Sequence[Dataset]) -> list[Stretch]:
    return [Stretch(Examples.of(part), slice(WARM_UP_SAMPLES, part.inputs.shape[1])) for part in parts]


def _regression_loss(model: Any, data: TrainingData, quantile: float) -> float:
    def said(part: Dataset) -> Floats:
        return np.asarray(model.growth(Examples.of(part))[:, :, 0])

    return _loss(said, data, quantile)


def _smoother_loss(name: str, setting: Setting, data: TrainingData, quantile: float) -> float:
    def said(part: Dataset) -> Floats:
        samples = part.samples
        horizon_ns = tuple(horizon * samples.interval_ns for horizon in HORIZON_SAMPLES)
        forecaster = SMOOTHERS[name](samples.rate_bps, samples.interval_ns, horizon_ns, **setting)
        needs = forecaster_needs(forecaster, samples)[:, :, TUNED_AT] - samples.backlog_bytes
        unit = fluid.service_bytes(samples.rate_bps, samples.interval_ns)
        return np.asarray(needs[:, :-LOOK_AHEAD] / unit[:, None])

    return _loss(said, data, quantile)


def _loss(said: Callable[[Dataset], Floats], data: TrainingData, quantile: float) -> float:
    """Return the geometric mean over the validation sets of the mean pinball loss of their series."""
    late = slice(WARM_UP_SAMPLES, None)
    means = []
    for parts in data.validation.values():
        losses = [
            metrics.pinball_losses(
                np.expm1(part.growth[:, late, TUNED_AT]),
                said(part)[:, late],  # type: ignore[arg-type]
                quantile,
            )
            for part in parts
        ]
        means.append(float(np.concatenate(losses).mean()))
    return math.exp(float(np.mean(np.log(np.maximum(means, 1e-9)))))
