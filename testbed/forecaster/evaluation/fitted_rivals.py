"""Rivals that are fitted and tuned: to the first part of the very series they are judged on, which the model never saw.

Each has the same budget: `SETTINGS` names `BUDGET` settings for each.  A setting is fitted on the first three quarters
of the first part and judged on the last quarter, by the pinball loss at the horizon number `TUNED_AT`; the best one is
fitted again, on all of the first part.  Smoothers have nothing to fit; their gains, and what they add for the quantile,
are chosen in the same way.  *constant* is the quantile of the growth in the first part, whatever the samples say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from testbed.forecaster.evaluation.regressions import (
    HORIZONS,
    Regression,
    Stretch,
    fit_autoregression,
    fit_linear,
    fit_trees,
)
from testbed.forecaster.evaluation.rivals import SMOOTHERS, forecaster_needs
from testbed.forecaster.evaluation.rolling import Group, needs_in_intervals
from testbed.forecaster.runtime.horizons import HORIZON_SAMPLES, LOOK_AHEAD
from testbed.records.events import Floats
from testbed.units import NS_PER_MS

BUDGET = 6
TUNED_AT = 3
TUNING_ROWS = 4000
_LEAST_ROWS = 50  # fewer choose nothing: then the first setting serves
_SHARE = 0.75

Fitted = dict[str, list[Floats]]
Setting = Mapping[str, Any]

# The first of each is what is used where there is too little to choose by.
SETTINGS: Mapping[str, tuple[Setting, ...]] = {
    "EWMA": tuple({"gain": gain, "z": z} for z in (1.2816, 1.6449) for gain in (0.4, 0.15, 0.8)),
    "Holt": tuple(
        {"gain": gain, "trend_gain": trend, "z": z}
        for z in (1.2816, 1.6449)
        for gain, trend in ((0.5, 0.4), (0.3, 0.1), (0.8, 0.2))
    ),
    "AR": tuple({"order": order} for order in (10, 2, 5, 20, 30, 40)),
    "linear": tuple({"length": length, "ridge": ridge} for ridge in (1e-6, 1e-3) for length in (20, 5, 40)),
    "trees": tuple({"max_leaf_nodes": leaves, "learning_rate": rate} for rate in (0.1, 0.05) for leaves in (15, 7, 31)),
}
FITS: Mapping[str, Callable[..., Regression]] = {
    "AR": fit_autoregression,
    "linear": fit_linear,
    "trees": fit_trees,
}


def fitted_rivals(groups: Sequence[Group], quantile: float) -> Fitted:
    """Return, by name of the rival, the growth it predicts in every group, [S, T, h] in intervals."""
    whole = [Stretch(group, _first_part(group)) for group in groups]
    parts = [_divided(one.span) for one in whole]
    fitting, judging = ([Stretch(g, part[k]) for g, part in zip(groups, parts, strict=True)] for k in (0, 1))
    predicted: Fitted = {name: _smoothed(name, groups, judging, quantile) for name in SMOOTHERS}
    predicted["constant"] = _constant(whole, groups, quantile)
    for name in FITS:
        setting = chosen(name, fitting, judging, quantile)
        model = FITS[name](whole, quantile, **setting)
        predicted[name] = [model.growth(group) for group in groups]
    return predicted


def chosen(name: str, fitting: Sequence[Stretch], judging: Sequence[Stretch], quantile: float) -> Setting:
    """Return the setting of a regression that, fitted on some stretches, does best on others."""
    settings = SETTINGS[name][:BUDGET]
    if _count(fitting) < _LEAST_ROWS or len(settings) == 1:
        return settings[0]
    rows = {} if name == "AR" else {"most": TUNING_ROWS}
    fit = partial(FITS[name], fitting, quantile, (TUNED_AT,), **rows)
    losses = [
        _loss(judging, [model.growth(one.series)[:, :, 0] for one in judging], quantile)
        for model in (fit(**setting) for setting in settings)
    ]
    return settings[int(np.argmin(losses))]


def _first_part(group: Group) -> slice:
    """Return the span whose futures end before what is judged."""
    return slice(group.first, max(group.first + 1, group.split - LOOK_AHEAD))


def _divided(span: slice) -> tuple[slice, slice]:
    """Return where to fit and where to choose; the futures of the former end before the latter, if there is room."""
    border = span.start + max(1, round(_SHARE * (span.stop - span.start)))
    return slice(span.start, max(span.start + 1, border - LOOK_AHEAD)), slice(min(border, span.stop - 1), span.stop)


def _count(stretches: Sequence[Stretch]) -> int:
    return sum(len(one.series.arrived) * (one.span.stop - one.span.start) for one in stretches)


def _loss(stretches: Sequence[Stretch], said: Sequence[Floats], quantile: float) -> float:
    """Return the mean pinball loss over the stretches at the horizon number `TUNED_AT`."""
    total = 0.0
    for (series, span), growth in zip(stretches, said, strict=True):
        short = series.growth[:, span, TUNED_AT] - growth[:, span]
        total += float(np.maximum(quantile * short, (quantile - 1) * short).sum())
    return total / _count(stretches)


def _smoothed(name: str, groups: Sequence[Group], judging: Sequence[Stretch], quantile: float) -> list[Floats]:
    """Return the growth of the smoother with the setting that does best where the others are judged, too."""
    settings = SETTINGS[name][: BUDGET if _count(judging) >= _LEAST_ROWS else 1]
    tried = [[smoothed_growth(name, setting, group) for group in groups] for setting in settings]
    losses = [_loss(judging, [growth[:, :, TUNED_AT] for growth in said], quantile) for said in tried]
    return tried[int(np.argmin(losses))]


def smoothed_growth(name: str, setting: Setting, group: Group) -> Floats:
    """Return the growth that a smoother with these gains predicts, [S, T, h] in intervals."""
    samples = group.samples
    horizon_ns = tuple(horizon * samples.interval_ns for horizon in HORIZON_SAMPLES)
    forecaster = SMOOTHERS[name](samples.rate_bps, samples.interval_ns, horizon_ns, **setting)
    return needs_in_intervals(forecaster_needs(forecaster, samples), group, samples.interval_ns // NS_PER_MS)


def _constant(whole: Sequence[Stretch], groups: Sequence[Group], quantile: float) -> list[Floats]:
    growth = np.concatenate([one.series.growth[:, one.span].reshape(-1, len(HORIZONS)) for one in whole])
    level = np.quantile(growth, quantile, axis=0)
    return [np.broadcast_to(level, group.growth.shape) for group in groups]
