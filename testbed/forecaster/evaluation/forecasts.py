"""What every forecaster says about a set of series, and how good that is: losses, skill, coverage, onsets.

Losses are pinball losses in units of rate × interval, the mean within each series, then over series with equal weight.
A figure that is not defined (no burst, nothing to predict, too few series for an interval) is None, never NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from testbed.forecaster.data.arrivals import reference_unit
from testbed.forecaster.evaluation import metrics
from testbed.forecaster.evaluation.bootstrap import BLOCKS, block_means, mean_interval, ratio_interval
from testbed.forecaster.evaluation.config import EvaluateConfig
from testbed.forecaster.evaluation.fitted_rivals import fitted_rivals, smoothed_growth
from testbed.forecaster.evaluation.ranking import ranking
from testbed.forecaster.evaluation.rivals import forecaster_needs, rival_needs
from testbed.forecaster.evaluation.rolling import Group, needs_in_intervals
from testbed.forecaster.evaluation.trained_rivals import PREFIX, TrainedRivals
from testbed.forecaster.runtime.artefact import Model
from testbed.forecaster.runtime.cell import run_series
from testbed.forecaster.runtime.horizons import HORIZON_SAMPLES
from testbed.policies.forecast_corrected import CorrectedForecaster
from testbed.policies.forecast_gated import GatedForecaster
from testbed.policies.forecast_path import sizing_column
from testbed.records.events import Floats, ForecastMade, TrafficSampled

LSTM, CORRECTED, GATED = "LSTM", "LSTM corrected", "LSTM gated"
LAST_VALUE = "last value"
LEAST_GROWTH = 0.25  # intervals; coverage is also given for predictions above it

Growths = dict[str, list[Floats]]  # by forecaster, one array [S, T, h] a group
Scores = dict[str, list[Floats]]


def spoken(
    groups: Sequence[Group], model: Model, config: EvaluateConfig, trained: TrainedRivals | None = None
) -> tuple[Growths, list[Scores]]:
    """Return what every forecaster says: growth by name, and for each horizon a score of an onset by name."""
    run = [run_series(model, group.inputs) for group in groups]
    own = [np.expm1(growth.astype(np.float64)) for growth, _ in run]
    told = list(zip(groups, own, strict=True))
    growths: Growths = {LSTM: own}
    growths[CORRECTED] = [_corrected(group, growth, model, config) for group, growth in told]
    growths[GATED] = [_gated(group, growth, model, config) for group, growth in told]
    growths |= _rivals(groups, model, config, trained)
    scores: list[Scores] = []
    for index in range(len(HORIZON_SAMPLES)):
        of_horizon: Scores = {LSTM: [logits[:, :, index].astype(np.float64) for _, logits in run]}
        for name in (LAST_VALUE, "EWMA", "Holt", "AR", "linear", "trees"):
            if name in growths:
                of_horizon[name] = [
                    g.backlog + said[:, :, index] for g, said in zip(groups, growths[name], strict=True)
                ]
        scores.append(of_horizon)
    return growths, scores


def foretold(
    groups: Sequence[Group], model: Model, config: EvaluateConfig, trained: TrainedRivals | None = None
) -> Growths:
    """Return the growth that the LSTM and its rivals predict, by name; what is ranked, and nothing else."""
    own = [np.expm1(run_series(model, group.inputs)[0].astype(np.float64)) for group in groups]
    return {LSTM: own} | _rivals(groups, model, config, trained)


def _rivals(groups: Sequence[Group], model: Model, config: EvaluateConfig, trained: TrainedRivals | None) -> Growths:
    needs = [rival_needs(LAST_VALUE, group.samples) for group in groups]
    last = [needs_in_intervals(n, g, config.interval_ms) for n, g in zip(needs, groups, strict=True)]
    return {LAST_VALUE: last} | fitted_rivals(groups, model.quantile) | _trained(groups, trained)


def _trained(groups: Sequence[Group], trained: TrainedRivals | None) -> Growths:
    """Return what the rivals say that were fitted to the training series of the model."""
    if trained is None:
        return {}
    said: Growths = {}
    for name, gains in trained.smoothers.items():
        said[PREFIX + name] = [smoothed_growth(name, gains, group) for group in groups]
    for name, regression in trained.regressions.items():
        said[PREFIX + name] = [regression.growth(group) for group in groups]
    return said


class _Told:
    """The LSTM's forecasts once more: growth [S, T, h] in intervals, then nothing."""

    def __init__(self, group: Group, growth: Floats, config: EvaluateConfig) -> None:
        self.horizon_ns = tuple(horizon * group.samples.interval_ns for horizon in HORIZON_SAMPLES)
        self._growth_bytes = np.rint(growth * reference_unit(config.interval_ms)).astype(np.int64)
        self._nothing = np.zeros_like(self._growth_bytes[:, 0])
        self._step = -1

    def step(self, sample: TrafficSampled, now_ns: int) -> ForecastMade:
        self._step += 1
        told = self._step < self._growth_bytes.shape[1]
        growth = self._growth_bytes[:, self._step] if told else self._nothing
        need = sample.backlog_bytes[:, None] + growth
        return ForecastMade(
            nodes=sample.nodes, horizon_ns=self.horizon_ns, need_bytes=need, onset_ratio=np.zeros(len(need))
        )


def _corrected(group: Group, growth: Floats, model: Model, config: EvaluateConfig) -> Floats:
    samples, told = group.samples, _Told(group, growth, config)
    forecaster = CorrectedForecaster(told, samples.rate_bps, samples.interval_ns, model.quantile)
    return needs_in_intervals(forecaster_needs(forecaster, samples), group, config.interval_ms)


def _gated(group: Group, growth: Floats, model: Model, config: EvaluateConfig) -> Floats:
    samples, told = group.samples, _Told(group, growth, config)
    column = sizing_column(told.horizon_ns, config.buffer)
    forecaster = GatedForecaster(told, samples.rate_bps, samples.interval_ns, model.quantile, column)
    return needs_in_intervals(forecaster_needs(forecaster, samples), group, config.interval_ms)


def _units(groups: Sequence[Group], values: Sequence[Floats]) -> Floats:
    """Return the means over the judged part, one a series, or of blocks where there are too few series."""
    judged = [value[:, group.split :] for group, value in zip(groups, values, strict=True)]
    if sum(len(value) for value in judged) >= 3:
        return np.concatenate([value.mean(axis=1) for value in judged])
    return np.concatenate([block_means(value, BLOCKS).ravel() for value in judged])


def _losses(groups: Sequence[Group], said: Sequence[Floats], index: int, quantile: float) -> Floats:
    short = [group.growth[:, :, index] - growth[:, :, index] for group, growth in zip(groups, said, strict=True)]
    return _units(groups, [np.maximum(quantile * miss, (quantile - 1) * miss) for miss in short])


def forecast_row(
    groups: Sequence[Group],
    growths: Growths,
    scores: Sequence[Scores],
    index: int,
    model: Model,
    config: EvaluateConfig,
) -> dict[str, Any]:
    """Return what is to be said about the forecasts for the horizon number `index`, as JSON data."""
    losses = {name: _losses(groups, said, index, model.quantile) for name, said in growths.items()}
    own = losses[LSTM]
    skills = {
        name: {"skill": _complement(_ratio(own, loss)), "ci": _complement_all(ratio_interval(own, loss))}
        for name, loss in losses.items()
        if not name.startswith(LSTM)
    }
    return {
        "horizon_samples": HORIZON_SAMPLES[index],
        "horizon_ms": HORIZON_SAMPLES[index] * config.interval_ms,
        "pinball": {name: float(loss.mean()) for name, loss in losses.items()},
        "skill_over": skills,
        "skill_of_correction": {
            "skill": _complement(_ratio(losses[CORRECTED], own)),
            "ci": _complement_all(ratio_interval(losses[CORRECTED], own)),
        },
        "coverage": {name: _coverage(groups, growths[name], index) for name in growths if name.startswith(LSTM)},
        "onset": _onset_row(groups, scores[index], index),
        "ranking": ranking(series_losses(groups, growths, index, model.quantile), LSTM),
    }


def series_losses(groups: Sequence[Group], growths: Growths, index: int, quantile: float) -> dict[str, Floats]:
    """Return the pinball loss of every series over its judged part, [series], by forecaster."""
    ranked = {name: said for name, said in growths.items() if name not in (CORRECTED, GATED)}
    return {
        name: np.concatenate(
            [
                metrics.pinball_losses(
                    group.growth[:, group.split :, index],  # type: ignore[arg-type]
                    growth[:, group.split :, index],  # type: ignore[arg-type]
                    quantile,
                )
                for group, growth in zip(groups, said, strict=True)
            ]
        )
        for name, said in ranked.items()
    }


def _ratio(numerator: Floats, denominator: Floats) -> float | None:
    return float(numerator.sum() / denominator.sum()) if denominator.sum() > 0 else None


def _complement(value: float | None) -> float | None:
    return None if value is None else 1 - value


def _complement_all(bounds: list[float] | None) -> list[float] | None:
    return None if bounds is None else [1 - bounds[1], 1 - bounds[0]]


def _coverage(groups: Sequence[Group], said: Sequence[Floats], index: int) -> dict[str, Any]:
    """Return the share of kept promises: of all, and of those above `LEAST_GROWTH`."""
    kept = [(g.growth[:, :, index] <= growth[:, :, index] + 1e-6) for g, growth in zip(groups, said, strict=True)]
    weighty = [growth[:, g.split :, index] >= LEAST_GROWTH for g, growth in zip(groups, said, strict=True)]
    units = _units(groups, [hit.astype(np.float64) for hit in kept])
    count = sum(int(mask.sum()) for mask in weighty)
    of_weighty = sum(int(hit[:, g.split :][mask].sum()) for g, hit, mask in zip(groups, kept, weighty, strict=True))
    return {
        "all": float(units.mean()),
        "ci": mean_interval(units),
        "weighty": of_weighty / count if count else None,
        "weighty_share": count / sum(mask.size for mask in weighty),
    }


def _onset_row(groups: Sequence[Group], scores: Scores, index: int) -> dict[str, Any]:
    areas, precisions = {}, {}
    for name, said in scores.items():
        pairs = [pair for group, score in zip(groups, said, strict=True) for pair in _calm(group, score, index)]
        areas[name] = _finite(metrics.series_auc(*_columns(pairs)))
        precisions[name] = metrics.average_precision(*(np.concatenate(column) for column in zip(*pairs, strict=True)))
    positives = np.concatenate([p for g in groups for p, _ in _calm(g, g.backlog, index)])
    ceiling = None
    if all(group.announced is not None for group in groups):
        known = [pair for g in groups for pair in _calm(g, np.asarray(g.announced, dtype=np.float64), index)]
        ceiling = _mean(_finite(metrics.series_auc(*_columns(known))))
    return {
        "prevalence": float(positives.mean()) if len(positives) else None,
        "auc": {name: _mean(area) for name, area in areas.items()},
        "auc_ci": mean_interval(areas[LSTM]),
        "auc_of_who_sees_precursors": ceiling,
        "series_with_onsets": len(areas[LSTM]),
        "pr_auc": precisions,
    }


def _calm(group: Group, score: Floats, index: int) -> list[tuple[Any, Floats]]:
    """Return, for each series, onset and score of the judged samples outside bursts."""
    judged = range(len(score))
    masks = [group.calm[row] & (np.arange(group.length) >= group.split) for row in judged]
    return [(group.onset[row, mask, index], score[row, mask]) for row, mask in zip(judged, masks, strict=True)]


def _columns(pairs: Sequence[tuple[Any, Floats]]) -> tuple[Any, Any, Any]:
    positive, score = zip(*pairs, strict=True)
    return positive, score, [np.ones(len(one), dtype=np.bool_) for one in positive]


def _finite(values: Floats) -> Floats:
    return values[np.isfinite(values)]


def _mean(values: Floats) -> float | None:
    return float(values.mean()) if len(values) else None
