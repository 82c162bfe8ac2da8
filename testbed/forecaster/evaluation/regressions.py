"""Forecasters that are fitted to examples: an autoregression, a linear quantile regression, boosted trees.

* AR: the arrivals as an autoregression, fitted by least squares and run on into the future; the need is that of the
  path plus what the quantile of the normal distribution adds (as `policies/forecast_path.py`).
* linear: quantile regression of the growth on the window, by iteratively reweighted least squares.
* trees: gradient-boosted trees (scikit-learn) on the same window, one ensemble for each horizon.

The window is the arrivals of the last `WINDOW` samples and the shipped network's inputs of the last; `lagged` adds the
history of further inputs.  linear and trees fit log(1 + growth), as the network does; a quantile passes through a
monotone function unharmed.

Source: G. Bassett, R. Koenker, 1978 (quantile regression); J. H. Friedman, 2001 (boosting).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import EllipsisType
from typing import Any, NamedTuple, Protocol

import numpy as np

from testbed.forecaster.data.dataset import Float32s
from testbed.forecaster.evaluation.forest import Forest
from testbed.forecaster.runtime.features import FEATURES
from testbed.forecaster.runtime.horizons import HORIZON_SAMPLES, LOOK_AHEAD
from testbed.records.events import Floats, Ints

WINDOW = 20
MAX_ROWS = 12_000
MAX_STEPS = 1_000_000  # of an autoregression
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


Places = tuple[Ints, Ints]  # rows and columns of single samples


def width(length: int = WINDOW, lagged: Sequence[int] = ()) -> int:
    """Return the number of inputs of a regression."""
    return length * (1 + len(lagged)) + FEATURES


def windows(
    series: Walked, length: int = WINDOW, lagged: Sequence[int] = (), at: Places | EllipsisType = ...
) -> Floats:
    """Return the inputs of a regression for every sample, or those `at` some: [S, T, width] or [places, width]."""
    columns = [np.log1p(series.arrived), *(series.inputs[:, :, column] for column in lagged)]
    past = [_past(column, length)[at] for column in columns]
    return np.concatenate([*past, series.inputs[:, :, :FEATURES][at]], axis=-1).astype(np.float64)


def _past(column: Floats | Float32s, length: int) -> Floats:
    """Return the last `length` values at every sample, [S, T, length]; before the first stands the first."""
    padded = np.pad(column, ((0, 0), (length - 1, 0)), mode="edge")
    return np.lib.stride_tricks.sliding_window_view(padded, length, axis=1)


def _rows(stretches: Sequence[Stretch], length: int, lagged: Sequence[int], most: int) -> tuple[Floats, Floats]:
    """Return inputs and logarithms of the growth, at most about `most`."""
    spans = [(len(series.arrived), span.stop - span.start) for series, span in stretches]
    places = [(row, time + span.start) for (row, time), (_, span) in zip(spread(spans, most), stretches, strict=True)]
    pairs = list(zip(stretches, places, strict=True))
    kept = [windows(series, length, lagged, at) for (series, _), at in pairs]
    growth = [series.growth[at] for (series, _), at in pairs]
    return np.concatenate(kept), np.log1p(np.concatenate(growth))


def spread(shapes: Sequence[tuple[int, int]], most: int) -> list[Places]:
    """Return about `most` places of arrays of these shapes, evenly spread: one drawn from each of as many stretches."""
    bounds = np.cumsum([0, *(rows * columns for rows, columns in shapes)])
    every = max(1, int(bounds[-1]) // most)
    chosen = np.arange(0, int(bounds[-1]), every)
    chosen = np.minimum(chosen + np.random.default_rng(0).integers(0, every, len(chosen)), bounds[-1] - 1)
    parts = np.split(chosen, np.searchsorted(chosen, bounds[1:-1]))
    return [
        (part // max(columns, 1), part % max(columns, 1))
        for part, (_, columns) in zip((p - b for p, b in zip(parts, bounds, strict=False)), shapes, strict=True)
    ]


def _with_one(window: Floats) -> Floats:
    return np.concatenate([window, np.ones((*window.shape[:-1], 1))], axis=-1)


def _solved(matrix: Floats, right: Floats) -> Floats:
    """Return the shortest solution of the normal equations, which far above the rate say less than they seem to."""
    return np.asarray(np.linalg.lstsq(matrix, right, rcond=None)[0], np.float64)


# ------------------------------------------------------------------------------------------------------------- linear


@dataclass(frozen=True)
class Linear:
    """Weights [horizons, width + 1] on a window of `length` samples."""

    length: int
    weights: Floats
    lagged: tuple[int, ...] = ()

    def growth(self, series: Walked) -> Floats:
        """See `Regression`."""
        said = _with_one(windows(series, self.length, self.lagged)) @ self.weights.T
        return np.asarray(np.expm1(np.clip(said, 0, _MOST)))


def fit_linear(
    stretches: Sequence[Stretch],
    quantile: float,
    columns: Sequence[int] = HORIZONS,
    length: int = WINDOW,
    ridge: float = _RIDGE,
    lagged: Sequence[int] = (),
    most: int = MAX_ROWS,
) -> Linear:
    """Fit a regression for the horizons number `columns`; `ridge` is the penalty of squared weights a row."""
    rows, targets = _rows(stretches, length, lagged, most)
    weights = np.stack([_quantile_regression(rows, targets[:, c], quantile, ridge) for c in columns])
    return Linear(length, weights, tuple(lagged))


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
    stretches: Sequence[Stretch],
    _quantile: float,
    columns: Sequence[int] = HORIZONS,
    order: int = 10,
    most: int = MAX_STEPS,
) -> Autoregression:
    """Fit the next arrivals on the `order` before them."""
    runs = _runs([one.series.arrived[:, one.span] for one in stretches], order, most)
    inputs, target = _with_one(runs[:, -2::-1]), runs[:, -1]
    weights = _solved(inputs.T @ inputs + _RIDGE * len(inputs) * np.eye(order + 1), inputs.T @ target)
    return Autoregression(weights, float(np.std(target - inputs @ weights)) if len(target) else 0.0, tuple(columns))


def _runs(arrivals: Sequence[Floats], order: int, most: int) -> Floats:
    """Return runs of `order` values and the one that followed, latest last, at most about `most`."""
    views = [
        np.lib.stride_tricks.sliding_window_view(arrived, order + 1, axis=1)
        for arrived in arrivals
        if arrived.shape[1] > order
    ]
    places = spread([(view.shape[0], view.shape[1]) for view in views], most)
    return np.concatenate([np.empty((0, order + 1)), *(view[at] for view, at in zip(views, places, strict=True))])


# -------------------------------------------------------------------------------------------------------------- trees


@dataclass(frozen=True)
class Trees:
    """One fitted scikit-learn estimator a horizon: from rows of a window to log(1 + growth)."""

    ensembles: tuple[Any, ...]
    lagged: tuple[int, ...] = ()

    def growth(self, series: Walked) -> Floats:
        """See `Regression`."""
        return _grown(series, self.lagged, lambda rows: np.stack([one.predict(rows) for one in self.ensembles], axis=1))


@dataclass(frozen=True)
class StoredTrees:
    """The same as arrays, which can be stored."""

    forest: Forest
    lagged: tuple[int, ...] = ()

    def growth(self, series: Walked) -> Floats:
        """See `Regression`."""
        return _grown(series, self.lagged, self.forest.values)


def _grown(series: Walked, lagged: Sequence[int], values: Callable[[Floats], Floats]) -> Floats:
    found = windows(series, lagged=lagged)
    said = values(found.reshape(-1, found.shape[2]))
    return np.asarray(np.expm1(np.clip(said, 0, _MOST))).reshape(*found.shape[:2], said.shape[1])


def fit_trees(
    stretches: Sequence[Stretch],
    quantile: float,
    columns: Sequence[int] = HORIZONS,
    lagged: Sequence[int] = (),
    most: int = MAX_ROWS,
    **setting: float,
) -> Trees:
    """Fit boosted trees; `setting` is scikit-learn's, such as ``max_leaf_nodes`` and ``learning_rate``."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    rows, targets = _rows(stretches, WINDOW, lagged, most)
    setting = {"max_iter": TREES, "early_stopping": False, "random_state": 0, **setting}
    fitted = [
        HistGradientBoostingRegressor(loss="quantile", quantile=quantile, **setting).fit(rows, targets[:, column])
        for column in columns
    ]
    return Trees(tuple(fitted), tuple(lagged))
