"""Rivals that learn: from the first part of the very series they are judged on, which the shipped model never saw.

* constant: the quantile of the growth in the first part, whatever the samples say.
* AR: the arrivals as an autoregression of `ORDER` samples, fitted by least squares and run on into the future; the
  need is that of the path plus what the quantile of the normal distribution adds (as `policies/forecast_path.py`).
* linear: quantile regression of the growth on the window, by iteratively reweighted least squares.
* trees: gradient-boosted trees (scikit-learn) on the same window, one for each horizon.

The window is the arrivals of the last `WINDOW` samples and the network's own inputs of the last.  linear and trees fit
log(1 + growth), as the network does; a quantile passes through a monotone function unharmed.

Source: G. Bassett, R. Koenker, 1978 (quantile regression); J. H. Friedman, 2001 (boosting).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from testbed.forecaster.evaluation.rolling import Group
from testbed.forecaster.runtime.horizons import HORIZON_SAMPLES, LOOK_AHEAD
from testbed.records.events import Floats

WINDOW = 20
ORDER = 10
MAX_ROWS = 12_000
_IRLS_STEPS = 20
_RIDGE = 1e-6
_NORMAL_QUANTILE = 1.6449  # of 0.95
_TREES = {"max_iter": 60, "max_leaf_nodes": 15, "learning_rate": 0.1, "early_stopping": False, "random_state": 0}

Fitted = dict[str, list[Floats]]


def fitted_rivals(groups: Sequence[Group], quantile: float) -> Fitted:
    """Return, by name of the rival, the growth it predicts in every group, [S, T, h] in intervals."""
    windows = [_windows(group) for group in groups]
    rows, targets = _training_rows(groups, windows)
    predicted: Fitted = {"constant": [_constant(group, targets, quantile) for group in groups]}
    predicted["AR"] = _autoregression(groups)
    weights = [_quantile_regression(rows, np.log1p(target), quantile) for target in targets.T]
    predicted["linear"] = [
        np.stack([np.expm1(np.clip(_with_one(window) @ w, 0, 14)) for w in weights], axis=2) for window in windows
    ]
    predicted["trees"] = _trees(rows, targets, windows, quantile)
    return predicted


def _windows(group: Group) -> Floats:
    """Return the inputs of a regression for every sample, [S, T, WINDOW + FEATURES]."""
    arrived = np.log1p(group.arrived)
    padded = np.pad(arrived, ((0, 0), (WINDOW - 1, 0)), mode="edge")
    past = np.lib.stride_tricks.sliding_window_view(padded, WINDOW, axis=1)[:, : group.length]
    return np.concatenate([past, group.inputs], axis=2).astype(np.float64)


def _training_rows(groups: Sequence[Group], windows: Sequence[Floats]) -> tuple[Floats, Floats]:
    """Return inputs and growths of the first parts, at most about `MAX_ROWS`; their futures end before the judged."""
    parts = [slice(group.first, max(group.first + 1, group.split - LOOK_AHEAD)) for group in groups]
    rows = np.concatenate([w[:, p].reshape(-1, w.shape[2]) for w, p in zip(windows, parts, strict=True)])
    growth = [g.growth[:, p].reshape(-1, len(HORIZON_SAMPLES)) for g, p in zip(groups, parts, strict=True)]
    every = max(1, len(rows) // MAX_ROWS)
    return rows[::every], np.concatenate(growth)[::every]


def _constant(group: Group, targets: Floats, quantile: float) -> Floats:
    return np.broadcast_to(np.quantile(targets, quantile, axis=0), group.growth.shape)


def _with_one(window: Floats) -> Floats:
    return np.concatenate([window, np.ones((*window.shape[:-1], 1))], axis=-1)


def _quantile_regression(rows: Floats, target: Floats, quantile: float) -> Floats:
    """Return weights and offset that nearly minimise the pinball loss."""
    inputs = _with_one(rows)
    ridge = _RIDGE * len(inputs) * np.eye(inputs.shape[1])
    weight = np.ones(len(inputs))
    solution: Floats = np.zeros(inputs.shape[1])
    for _ in range(_IRLS_STEPS):
        weighted = inputs * weight[:, None]
        solution = _solved(weighted.T @ inputs + ridge, weighted.T @ target)
        short = target - inputs @ solution
        weight = np.where(short > 0, quantile, 1 - quantile) / np.maximum(np.abs(short), 1e-3)
    return solution


def _solved(matrix: Floats, right: Floats) -> Floats:
    """Return the shortest solution of the normal equations, which far above the rate say less than they seem to."""
    return np.asarray(np.linalg.lstsq(matrix, right, rcond=None)[0], np.float64)


def _autoregression(groups: Sequence[Group]) -> list[Floats]:
    lagged, following = zip(*(_lags(group.arrived[:, : group.split]) for group in groups), strict=True)
    inputs, target = _with_one(np.concatenate(lagged)), np.concatenate(following)
    ridge = _RIDGE * len(inputs) * np.eye(ORDER + 1)
    weights = _solved(inputs.T @ inputs + ridge, inputs.T @ target)
    deviation = float(np.std(target - inputs @ weights))
    return [_run_on(group, weights, deviation) for group in groups]


def _lags(arrived: Floats) -> tuple[Floats, Floats]:
    """Return the `ORDER` values before each value (latest first), and the values."""
    view = np.lib.stride_tricks.sliding_window_view(arrived, ORDER + 1, axis=1).reshape(-1, ORDER + 1)
    return view[:, -2::-1], view[:, -1]


def _run_on(group: Group, weights: Floats, deviation: Floats | float) -> Floats:
    padded = np.pad(group.arrived, ((0, 0), (ORDER - 1, 0)), mode="edge")
    past = np.lib.stride_tricks.sliding_window_view(padded, ORDER, axis=1)[:, : group.length, ::-1]
    state, backlog = past.copy(), group.backlog
    walk, highest = backlog.copy(), np.zeros_like(backlog)
    growth = np.empty(group.growth.shape)
    for step in range(1, LOOK_AHEAD + 1):
        coming = np.clip(state @ weights[:-1] + weights[-1], 0.0, 1e6)
        state = np.concatenate([coming[..., None], state[..., :-1]], axis=2)
        spread = _NORMAL_QUANTILE * deviation * (np.sqrt(step) - np.sqrt(step - 1))
        walk = np.maximum(walk + coming + spread - 1.0, 0.0)
        highest = np.maximum(highest, walk - backlog)
        if step in HORIZON_SAMPLES:
            growth[:, :, HORIZON_SAMPLES.index(step)] = highest
    return growth


def _trees(rows: Floats, targets: Floats, windows: Sequence[Floats], quantile: float) -> list[Floats]:
    from sklearn.ensemble import HistGradientBoostingRegressor

    fitted = [
        HistGradientBoostingRegressor(loss="quantile", quantile=quantile, **_TREES).fit(rows, np.log1p(target))
        for target in targets.T
    ]
    return [np.stack([_grown(tree, window) for tree in fitted], axis=2) for window in windows]


def _grown(tree: object, window: Floats) -> Floats:
    raw = tree.predict(window.reshape(-1, window.shape[2]))  # type: ignore[attr-defined]
    return np.asarray(np.expm1(np.clip(raw, 0, 14))).reshape(window.shape[:2])
