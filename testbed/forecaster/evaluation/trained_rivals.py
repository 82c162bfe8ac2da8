"""Rivals fitted to the series that a model was trained on: same data, a stated effort, judged as the model is.

They lie beside the model: ``NAME-rivals.npz`` holds the numbers, ``NAME-rivals.json`` what they are: the settings that
did best on the validation series, their losses there, the hashes of the data.  `training/rivals` fits them.  A
forecaster of a name such as *trained trees* knows nothing of the stream that it is judged on, exactly as the LSTM.

A model without such files is compared with the other rivals only.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from testbed.files import json_text, npz, writing
from testbed.files.reading import Source
from testbed.forecaster.evaluation.forest import Forest, forest_of
from testbed.forecaster.evaluation.regressions import (
    HORIZONS,
    WINDOW,
    Autoregression,
    Linear,
    Regression,
    StoredTrees,
    Trees,
    width,
)
from testbed.forecaster.evaluation.rivals import SMOOTHERS
from testbed.forecaster.runtime.artefact import DEFAULT_MODEL
from testbed.forecaster.runtime.features import BASE

KIND, SCHEMA = "testbed.forecaster.rivals", 1
PREFIX = "trained "
_MAX_BYTES, _MAX_MANIFEST_BYTES = 16 * 10**6, 10**6
_LONGEST = 100
_ARRAYS = (
    *("ar_weights", "ar_deviation", "linear_weights"),
    *("tree_feature", "tree_threshold", "tree_value", "tree_below", "tree_roots", "tree_base"),
)
_REMEDY = "fit them again: `python -m testbed train --rivals --out FOLDER_OF_THE_MODEL`, or remove both files"


@dataclass(frozen=True)
class TrainedRivals:
    """Gains of smoothers and fitted regressions, by name; `manifest` says how they came about."""

    smoothers: Mapping[str, Mapping[str, float]]
    regressions: Mapping[str, Regression]
    manifest: Mapping[str, Any]


def beside(model: Path | None) -> Path:
    """Return where the rivals of a model lie, given its ``.npz`` or folder; None: the shipped one."""
    weights = DEFAULT_MODEL if model is None else Path(model)
    if weights.is_dir():
        weights = weights / DEFAULT_MODEL.name
    return weights.with_name(f"{weights.stem}-rivals.npz")


def save_rivals(
    path: Path,
    smoothers: Mapping[str, Mapping[str, float]],
    ar: Autoregression,
    linear: Linear,
    trees: Trees,
    manifest: Mapping[str, Any],
) -> None:
    """Write the rivals to `path` (``.npz``), and what they are beside it."""
    forest, packed = forest_of(trees.ensembles), io.BytesIO()
    arrays: tuple[Any, ...] = (
        *(ar.weights, np.array([ar.deviation]), linear.weights),
        *(forest.feature, forest.threshold, forest.value, forest.below, forest.roots, forest.base),
    )
    named: dict[str, Any] = dict(zip(_ARRAYS, arrays, strict=True))
    np.savez_compressed(packed, **named)
    document = {
        "schema": SCHEMA,
        "kind": KIND,
        "smoothers": {name: dict(gains) for name, gains in smoothers.items()},
        "linear": {"length": linear.length, "lagged": list(linear.lagged)},
        "trees": {"lagged": list(trees.lagged)},
        "numbers_sha256": hashlib.sha256(packed.getvalue()).hexdigest(),
        **manifest,
    }
    writing.folder(path.parent)
    writing.replace(path, packed.getvalue())
    writing.replace_json(path.with_suffix(".json"), document, indent=1)


def load_rivals(model: Path | None) -> TrainedRivals | None:
    """Return the rivals that lie beside a model; None where none do.

    Raises:
        InputError: when a file is damaged or describes something else.
    """
    path = beside(model)
    source = Source(path, _REMEDY, f"loading the rivals {path}")
    if not source.exists():
        return None
    manifest = json_text.read_object(Source(path.with_suffix(".json"), _REMEDY, source.attempted), _MAX_MANIFEST_BYTES)
    raw = source.read(_MAX_BYTES)
    try:
        return _rivals(manifest, raw)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise source.refusal(f"they cannot be used ({error})") from error


def _rivals(manifest: dict[str, Any], raw: bytes) -> TrainedRivals:
    if manifest.get("kind") != KIND or manifest.get("schema") != SCHEMA:
        raise ValueError(f"the manifest does not describe {KIND} of schema {SCHEMA}")
    if hashlib.sha256(raw).hexdigest() != manifest["numbers_sha256"]:
        raise ValueError("their SHA-256 differs from the manifest")
    found: dict[str, Any] = npz.arrays(raw, _ARRAYS)
    absent = [name for name in _ARRAYS if name not in found]
    if absent:
        raise ValueError(f"there is no array {absent[0]}")
    return TrainedRivals(
        {name: _gains(manifest["smoothers"][name]) for name in SMOOTHERS},
        {"AR": _autoregression(found), "linear": _linear(manifest["linear"], found), "trees": _trees(manifest, found)},
        manifest,
    )


def _gains(gains: Any) -> dict[str, float]:
    named = {name: float(gains[name]) for name in ("gain", "trend_gain", "z") if name in gains}
    if not all(0 <= value <= 10 for value in named.values()):
        raise ValueError("a gain is not between 0 and 10")
    return named


def _autoregression(found: Mapping[str, Any]) -> Autoregression:
    weights, deviation = _finite(found["ar_weights"]), _finite(found["ar_deviation"])
    if weights.ndim != 1 or not 2 <= len(weights) <= _LONGEST + 1 or deviation.shape != (1,):
        raise ValueError("the weights of the autoregression do not have its shape")
    return Autoregression(weights, float(deviation[0]))


def _linear(said: Mapping[str, Any], found: Mapping[str, Any]) -> Linear:
    length, lagged, weights = said["length"], _lagged(said["lagged"]), _finite(found["linear_weights"])
    if not isinstance(length, int) or not 1 <= length <= _LONGEST:
        raise ValueError(f"a window of {length} samples is not between 1 and {_LONGEST}")
    if weights.shape != (len(HORIZONS), width(length, lagged) + 1):
        raise ValueError("the weights of the linear regression do not have its shape")
    return Linear(length, weights, lagged)


def _trees(manifest: Mapping[str, Any], found: Mapping[str, Any]) -> StoredTrees:
    kinds: dict[str, Any] = {
        "feature": np.int16,
        "threshold": np.float32,
        "value": np.float32,
        "below": np.int32,
        "roots": np.int32,
    }
    arrays = {name: _of_kind(found[f"tree_{name}"], kind) for name, kind in kinds.items()}
    forest, lagged = Forest(**arrays, base=_finite(found["tree_base"])), _lagged(manifest["trees"]["lagged"])
    if forest.base.shape != (len(HORIZONS),):
        raise ValueError(f"the trees are not for {len(HORIZONS)} horizons")
    forest.check(width(WINDOW, lagged))
    return StoredTrees(forest, lagged)


def _lagged(columns: Sequence[Any]) -> tuple[int, ...]:
    if len(columns) > BASE or not all(type(column) is int and 0 <= column < BASE for column in columns):
        raise ValueError(f"the inputs with a history are {columns}, expected numbers below {BASE}")
    return tuple(columns)


def _of_kind(array: Any, kind: type[np.generic]) -> Any:
    if array.dtype != kind:
        raise ValueError(f"an array is of type {array.dtype}, expected {np.dtype(kind)}")
    return array


def _finite(array: Any) -> Any:
    if array.dtype not in (np.float32, np.float64) or not np.isfinite(array).all():
        raise ValueError("a number is not finite")
    return array
