"""A ranking of all forecasters over many series of several sets: which is better, wherever the traffic comes from.

Every series is cut to one of a few lengths, so that series of one length run side by side, and counts once.  A
forecaster's loss for a series is given at each horizon and over all of them (geometric mean, so that the longest
horizon, whose losses are largest, does not decide alone).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from testbed.forecaster.evaluation.config import EvaluateConfig, check
from testbed.forecaster.evaluation.evaluate import plain, setting_of
from testbed.forecaster.evaluation.forecasts import LSTM, foretold, series_losses
from testbed.forecaster.evaluation.ranking import LEAST_LOSS, over_many, ranking
from testbed.forecaster.evaluation.rolling import groups_of
from testbed.forecaster.evaluation.series import Set, all_sets
from testbed.forecaster.evaluation.trained_rivals import TrainedRivals, load_rivals
from testbed.forecaster.runtime.artefact import Model, load_model
from testbed.forecaster.runtime.horizons import HORIZON_SAMPLES
from testbed.records.events import Floats

Losses = Mapping[str, Floats]  # by forecaster, [horizons, series]


def rank(config: EvaluateConfig, progress: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """Return the ranking over all series that `config` names, as JSON data.

    Raises:
        InputError: when the model, a trace or a setting does not fit.
    """
    check(config)
    config = dataclasses.replace(config, cut=True)
    model, trained = load_model(config.model), load_rivals(config.model)
    read_as: list[str] = []
    sets = all_sets(config, model, read_as.append)
    found = []
    for number, one in enumerate(sets, start=1):
        progress(f"{one[0]}: set {number} of {len(sets)}, {len(one[1])} series")
        found.append(_losses(one, model, trained, config))
    pooled = {name: np.concatenate([losses[name] for losses in found], axis=1) for name in found[0]}
    rows = [_set(*pair) for pair in zip(sets, found, strict=True)]
    return dict(plain({**setting_of(model, config), "traces": read_as, "sets": rows, **_all(pooled)}))


def _losses(one: Set, model: Model, trained: TrainedRivals | None, config: EvaluateConfig) -> Losses:
    groups = groups_of(one[1], config.interval_ms)
    said = foretold(groups, model, config, trained)
    by_horizon = [series_losses(groups, said, index, model.quantile) for index in range(len(HORIZON_SAMPLES))]
    return {name: np.stack([losses[name] for losses in by_horizon]) for name in said}


def _mean(losses: Losses) -> dict[str, Floats]:
    """Return the geometric mean over the horizons, [series], by forecaster."""
    return {name: np.exp(np.log(np.maximum(loss, LEAST_LOSS)).mean(axis=0)) for name, loss in losses.items()}


def _set(one: Set, losses: Losses) -> dict[str, Any]:
    name, series, left_out = one
    mean = _mean(losses)
    return {"name": name, "series": len(series), "left_out": left_out, "ranking": ranking(mean, LSTM)}


def _all(losses: Losses) -> dict[str, Any]:
    horizons: Sequence[dict[str, Any]] = [
        {"horizon_samples": horizon, **over_many({name: loss[index] for name, loss in losses.items()}, LSTM)}
        for index, horizon in enumerate(HORIZON_SAMPLES)
    ]
    return {"by_horizon": horizons, "over_horizons": over_many(_mean(losses), LSTM)}
