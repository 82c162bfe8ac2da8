"""Regression trees as flat arrays: what boosted ensembles are once they are fitted, without the library that did it.

Node k of all trees compares input `feature[k]` with `threshold[k]`, and goes on to node `below[k]` if the input is at
most that and to `below[k] + 1` if it is greater.  A leaf has the threshold infinity and leads to itself; it adds
`value[k]` to the sum.  Children have larger indices than their parent, so every walk ends.  All rows go down all trees
of a horizon at the same time, one level a step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.records.events import Floats

_MOST_TREES = 10_000
_ROWS = 4096  # at a time: more do not fit the caches


@dataclass(frozen=True)
class Forest:
    """Ensembles of trees, one for each horizon.

    Attributes:
        feature: int16 [nodes].
        threshold, value: float32 [nodes].
        below: int32 [nodes].
        roots: int32 [horizons, trees].
        base: float64 [horizons], what the values of the leaves are added to.
    """

    feature: NDArray[np.int16]
    threshold: NDArray[np.float32]
    value: NDArray[np.float32]
    below: NDArray[np.int32]
    roots: NDArray[np.int32]
    base: Floats

    def values(self, rows: Floats) -> Floats:
        """Return the sums for rows [n, inputs], [n, horizons]."""
        parts = [self._of(rows[start : start + _ROWS].astype(np.float32)) for start in range(0, len(rows), _ROWS)]
        return np.concatenate(parts) if parts else np.empty((0, len(self.base)))

    def _of(self, rows: NDArray[np.float32]) -> Floats:
        flat, start = rows.ravel(), (np.arange(len(rows)) * rows.shape[1])[:, None]
        found = np.empty((len(rows), len(self.base)))
        for column, roots in enumerate(self.roots):
            at = np.repeat(roots[None], len(rows), axis=0)
            while True:
                onwards = self.below.take(at)
                onwards += flat.take(self.feature.take(at) + start) > self.threshold.take(at)
                if np.array_equal(onwards, at):
                    break
                at = onwards
            found[:, column] = self.base[column] + self.value.take(at).sum(axis=1, dtype=np.float64)
        return found

    def check(self, inputs: int) -> None:
        """Raise ValueError unless the arrays are trees over that many inputs."""
        count, own = len(self.feature), np.arange(len(self.feature))
        shapes = {array.shape for array in (self.feature, self.threshold, self.value, self.below)}
        if shapes != {(count,)} or self.roots.ndim != 2 or self.base.shape != (len(self.roots),):
            raise ValueError("the arrays of the trees do not fit each other")
        if self.roots.size > _MOST_TREES:
            raise ValueError(f"it has {self.roots.size} trees, more than {_MOST_TREES}")
        leaf = np.isposinf(self.threshold)
        inside = (self.below > own) & (self.below < count - 1) & np.isfinite(self.threshold)
        if not np.where(leaf, self.below == own, inside).all() or not np.isfinite(self.value).all():
            raise ValueError("its trees have a node that is neither a leaf nor leads to two others")
        if self.roots.size and not (self.roots.min() >= 0 and self.roots.max() < count):
            raise ValueError("a tree has no root")
        if count and not (self.feature.min() >= 0 and self.feature.max() < inputs):
            raise ValueError(f"a tree reads an input beyond the {inputs} there are")


def forest_of(ensembles: Sequence[Any]) -> Forest:
    """Return fitted `HistGradientBoostingRegressor` estimators, one a horizon and all of equally many trees, as arrays.

    scikit-learn publishes no structure of these trees; `_predictors` holds them, a structured array for each.
    """
    nodes = [row for ensemble in ensembles for (tree,) in ensemble._predictors for row in _in_order(tree.nodes)]
    starts = np.flatnonzero([first for first, *_ in nodes])
    _, feature, threshold, value, below = (np.array(column) for column in zip(*nodes, strict=True))
    own = np.arange(len(nodes))
    return Forest(
        feature=feature.astype(np.int16),
        threshold=threshold.astype(np.float32),
        value=value.astype(np.float32),
        below=(own + below).astype(np.int32),
        roots=starts.reshape(len(ensembles), -1).astype(np.int32),
        base=np.array([float(np.ravel(ensemble._baseline_prediction)[0]) for ensemble in ensembles]),
    )


def _in_order(tree: Any) -> Iterator[tuple[bool, int, float, float, int]]:
    """Yield the nodes level by level: whether it is the root, feature, threshold, value, steps to its child."""
    waiting, place = [0], 0
    while place < len(waiting):
        node = tree[waiting[place]]
        if node["is_leaf"]:
            yield place == 0, 0, np.inf, float(node["value"]), 0
        else:
            yield place == 0, int(node["feature_idx"]), float(node["num_threshold"]), 0.0, len(waiting) - place
            waiting += [int(node["left"]), int(node["right"])]
        place += 1
