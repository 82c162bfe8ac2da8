"""Forecasters that are fitted to examples: an autoregression, a linear quantile regression, boosted trees.

* AR: the arrivals as an autoregression, fitted by least squares and run on into the future; the need is that of the
  path plus what the quantile of the normal distribution adds (as `policies/forecast_path.py`).
* linear: quantile regression of the growth on the window, by iteratively reweighted least squares.
* trees: gradient-boosted trees (scikit-learn) on the same window, one ensemble for each horizon.

The window is the arrivals of the last `WINDOW` samples and the shipped network's inputs of the last.  linear and trees
fit log(1 + growth), as the network does; a quantile passes through a monotone function unharmed.

Source: G. Bassett, R. Koenker, 1978 (quantile regression); J. H. Friedman, 2001 (boosting).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from testbed.forecaster.data.dataset import Float32s
from testbed.forecaster.runtime.features import FEATURES
from testbed.forecaster.runtime.horizons import HORIZON_SAMPLES, LOOK_AHEAD
from testbed.records.events import Floats

WINDOW = 20
MAX_ROWS = 12_000
HORIZONS = tuple(range(len(HORIZON_SAMPLES)))
_IRLS_STEPS = 20
_RIDGE = 1e-6
_NORMAL_QUANTILE = 1.6449  # of 0.95
TREES = 60
_MOST = 14.0  # of log(1 + growth)


class Walked(Protocol):
    """S series of T samples in units of rate × interval: `rolling.Group` is one, `Examples` another."""

    @property
    def arrived(self) -> Floats:
        """Return arrivals, [S, T]."""
        ...

    @property
    def backlog(self) -> Floats:
        """Return backlogs, [S, T]."""
        ...

    @property
    def inputs(self) -> Float32s:
        """Return inputs of the network, [S, T, features]."""
        ...

    @property
    def growth(self) -> Floats:
        """Return the growths that came true, [S, T, h]."""
        ...


class Stretch(NamedTuple):
    """Series, and the span of samples that counts; what lies before it is known."""

    series: Walked
    span: slice


class Regression(Protocol):
    """A fitted forecaster."""

    def growth(self, series: Walked) -> Floats:
        """Return the growth it predicts at every sample, [S, T, horizons it was fitted for]."""
        ...


def windows(series: Walked, length: int = WINDOW) -> Floats:
    """Return the inputs of a regression for every sample, [S, T, length + FEATURES]."""
    arrived = np.log1p(series.arrived)
    padded = np.pad(arrived, ((0, 0), (length - 1, 0)), mode="edge")
    past = np.lib.stride_tricks.sliding_window_view(padded, length, axis=1)[:, : arrived.shape[1]]
    return np.concatenate([past, series.inputs[:, :, :FEATURES]], axis=2).astype(np.float64)


def _rows(stretches: Sequence[Stretch], length: int, most: int) -> tuple[Floats, Floats]:
    """Return inputs and logarithms of the growth, at most about `most`."""
    kept = [windows(series, length)[:, span].reshape(-1, length + FEATURES) for series, span in stretches]
    growth = [series.growth[:, span].reshape(-1, len(HORIZON_SAMPLES)) for series, span in stretches]
    every = max(1, sum(map(len, kept)) // most)
    return np.concatenate(kept)[::every], np.log1p(np.concatenate(growth)[::every])


def _with_one(window: Floats) -> Floats:
    return np.concatenate([window, np.ones((*window.shape[:-1], 1))], axis=-1)


def _solved(matrix: Floats, right: Floats) -> Floats:
    """Return the shortest solution of the normal equations, which far above the rate say less than they seem to."""
    return np.asarray(np.linalg.lstsq(matrix, right, rcond=None)[0], np.float64)


# ------------------------------------------------------------------------------------------------------------- linear


@dataclass(frozen=True)
class Linear:
    """Weights [horizons, length + features + 1] on a window of `length` arrivals."""

    length: int
    weights: Floats

    def growth(self, series: Walked) -> Floats:
        """See `Regression`."""
        said = _with_one(windows(series, self.length)) @ self.weights.T
        return np.asarray(np.expm1(np.clip(said, 0, _MOST)))


def fit_linear(
    stretches: Sequence[Stretch],
    quantile: float,
    columns: Sequence[int] = HORIZONS,
    length: int = WINDOW,
    ridge: float = _RIDGE,
    most: int = MAX_ROWS,
) -> Linear:
    """Fit a regression for the horizons number `columns`; `ridge` is the penalty of squared weights a row."""
    rows, targets = _rows(stretches, length, most)
    return Linear(length, np.stack([_quantile_regression(rows, targets[:, c], quantile, ridge) for c in columns]))


def _quantile_regression(rows: Floats, target: Floats, quantile: float, ridge: float) -> Floats:
    """Return weights and offset that nearly minimise the pinball loss."""
    inputs = _with_one(rows)
    penalty = ridge * len(inputs) * np.eye(inputs.shape[1])
    weight = np.ones(len(inputs))
    solution: Floats = np.zeros(inputs.shape[1])
    for _ in range(_IRLS_STEPS):
        weighted = inputs * weight[:, None]
        solution = _solved(weighted.T @ inputs + penalty, weighted.T @ target)
        short = target - inputs @ solution
        weight = np.where(short > 0, quantile, 1 - quantile) / np.maximum(np.abs(short), 1e-3)
    return solution


# ----------------------------------------------------------------------------------------------------- autoregression


@dataclass(frozen=True)
class Autoregression:
    """Weights [order + 1], latest first and the offset last, and the deviation of a step, in intervals."""

    weights: Floats
    deviation: float
    columns: tuple[int, ...] = HORIZONS

    def growth(self, series: Walked) -> Floats:
        """See `Regression`."""
        order, ends = len(self.weights) - 1, [HORIZON_SAMPLES[column] for column in self.columns]
        padded = np.pad(series.arrived, ((0, 0), (order - 1, 0)), mode="edge")
        past = np.lib.stride_tricks.sliding_window_view(padded, order, axis=1)
        state, backlog = past[:, : series.arrived.shape[1], ::-1].copy(), series.backlog
        walk, highest = backlog.copy(), np.zeros_like(backlog)
        grown = []
        for step in range(1, LOOK_AHEAD + 1):
            coming = np.clip(state @ self.weights[:-1] + self.weights[-1], 0.0, 1e6)
            state = np.concatenate([coming[..., None], state[..., :-1]], axis=2)
            spread = _NORMAL_QUANTILE * self.deviation * (np.sqrt(step) - np.sqrt(step - 1))
            walk = np.maximum(walk + coming + spread - 1.0, 0.0)
            highest = np.maximum(highest, walk - backlog)
            if step in ends:
                grown.append(highest)
        return np.stack(grown, axis=2)


def fit_autoregression(
    stretches: Sequence[Stretch], _quantile: float, columns: Sequence[int] = HORIZONS, order: int = 10
) -> Autoregression:
    """Fit the next arrivals on the `order` before them."""
    lagged, following = zip(*(_lags(one.series.arrived[:, one.span], order) for one in stretches), strict=True)
    inputs, target = _with_one(np.concatenate(lagged)), np.concatenate(following)
    weights = _solved(inputs.T @ inputs + _RIDGE * len(inputs) * np.eye(order + 1), inputs.T @ target)
    return Autoregression(weights, float(np.std(target - inputs @ weights)) if len(target) else 0.0, tuple(columns))


def _lags(arrived: Floats, order: int) -> tuple[Floats, Floats]:
    """Return the `order` values before each value (latest first), and the values."""
    if arrived.shape[1] <= order:
        return np.empty((0, order)), np.empty(0)
    view = np.lib.stride_tricks.sliding_window_view(arrived, order + 1, axis=1).reshape(-1, order + 1)
    return view[:, -2::-1], view[:, -1]


# -------------------------------------------------------------------------------------------------------------- trees


@dataclass(frozen=True)
class Trees:
    """One ensemble a horizon: from rows of a window to log(1 + growth)."""

    ensembles: tuple[Callable[[Floats], Floats], ...]

    def growth(self, series: Walked) -> Floats:
        """See `Regression`."""
        found = windows(series)
        rows = found.reshape(-1, found.shape[2])
        said = np.stack([ensemble(rows) for ensemble in self.ensembles], axis=1)
        return np.asarray(np.expm1(np.clip(said, 0, _MOST))).reshape(*found.shape[:2], len(self.ensembles))


def fit_trees(
    stretches: Sequence[Stretch],
    quantile: float,
    columns: Sequence[int] = HORIZONS,
    leaves: int = 15,
    rate: float = 0.1,
    most: int = MAX_ROWS,
) -> Trees:
    """Fit `TREES` trees of at most `leaves` leaves, each added with the learning rate `rate`."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    rows, targets = _rows(stretches, WINDOW, most)
    setting = {"max_iter": TREES, "max_leaf_nodes": leaves, "learning_rate": rate, "early_stopping": False}
    fitted = [
        HistGradientBoostingRegressor(loss="quantile", quantile=quantile, random_state=0, **setting).fit(
            rows, targets[:, column]
        )
        for column in columns
    ]
    return Trees(tuple(one.predict for one in fitted))
