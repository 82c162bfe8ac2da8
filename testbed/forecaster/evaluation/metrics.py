"""How good a forecast is, judged within each series and then averaged over series.

Pooling all instants flatters: most of such skill is telling busy nodes from idle ones.  Every figure here is computed
for one series at a time.  Series in which a figure is not defined (no onset, nothing to predict) do not count in it.
The areas under curves are scikit-learn's, imported when they are first needed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Bools = NDArray[np.bool_]


def pinball_losses(truth: Array, predicted: Array, quantile: float) -> NDArray[np.float64]:
    """Return the mean pinball loss of each series; `truth` and `predicted` are [series, samples]."""
    short = truth.astype(np.float64) - predicted
    return np.asarray(np.maximum(quantile * short, (quantile - 1) * short).mean(axis=1))


def skill(loss: NDArray[np.float64], rival: NDArray[np.float64]) -> float:
    """Return 1 - loss / loss of the rival, both summed over the series: what share of the rival's cost is saved."""
    return float(1 - loss.sum() / rival.sum()) if rival.sum() > 0 else float("nan")


def coverage(truth: Array, predicted: Array) -> float:
    """Return the share of instants whose truth is not above the prediction."""
    return float((truth <= predicted).mean())


def series_auc(positive: Bools, score: Array, counted: Bools) -> NDArray[np.float64]:
    """Return the area under the ROC curve of each series over its counted instants; NaN where one class is empty."""
    areas = [_auc(p[c], s[c]) for p, s, c in zip(positive, score, counted, strict=True)]
    return np.array(areas, dtype=np.float64)


def _auc(positive: Bools, score: Array) -> float:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(positive, score)) if _has_both(positive) else float("nan")


def average_precision(positive: Bools, score: NDArray[np.float64]) -> float | None:
    """Return the area under precision over recall in steps, ties taken together; None without either class."""
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(positive, score)) if _has_both(positive) else None


def _has_both(positive: Bools) -> bool:
    return bool(positive.any() and not positive.all())
