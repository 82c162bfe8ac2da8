"""The model as a file: weights in ``NAME.npz``, everything one should know about them in ``NAME.json``.

The manifest names architecture, inputs, horizons and quantile, the training configuration, seed, data hashes and
metrics, and the SHA-256 of the weights.  A file that is missing, damaged, made for other inputs or not the one its
manifest describes is refused before a run starts.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.errors import InputError
from testbed.files import json_text, npz, writing
from testbed.files.reading import Source
from testbed.forecaster.runtime.features import ALL_NAMES, FEATURES, WIDTHS
from testbed.forecaster.runtime.horizons import HORIZON_SAMPLES

Float32s = NDArray[np.float32]

SCHEMA = 1
KIND = "testbed.cortex.lstm"  # as the manifests of all models say
DEFAULT_MODEL = Path(__file__).parents[1] / "models" / "default.npz"
MAX_FILE_BYTES = 64 * 10**6
_MAX_MANIFEST_BYTES = 4 * 10**6
_ELSEWHERE = "choose another --out"
_REMEDY = "train one with `python -m testbed train`, or omit the option to use the shipped model"


@dataclass(frozen=True)
class Model:
    """Weights of the LSTM in torch's layout and what its manifest says.

    Attributes:
        weight_ih: [4 H, features], gates in the order input, forget, cell, output.
        weight_hh: [4 H, H].
        bias: [4 H], the sum of torch's two.
        head_weight: [2 h, H]: h rows of growth, h rows of onset logits.
        head_bias: [2 h].
        horizon_samples: the h horizons, ascending.
        quantile: which quantile of the need is predicted.
        sha256: of the weights file.
        manifest: the whole JSON document.
    """

    weight_ih: Float32s
    weight_hh: Float32s
    bias: Float32s
    head_weight: Float32s
    head_bias: Float32s
    horizon_samples: tuple[int, ...]
    quantile: float
    sha256: str
    manifest: Mapping[str, Any]

    @property
    def features(self) -> int:
        """Return how many of the inputs (`features.ALL_NAMES`), from the first on, it takes."""
        return int(self.weight_ih.shape[1])

    @property
    def hidden(self) -> int:
        """Return the width H of the recurrent state."""
        return int(self.weight_hh.shape[1])


_ARRAYS = ("weight_ih", "weight_hh", "bias", "head_weight", "head_bias")


def save_model(path: Path, weights: Mapping[str, Float32s], manifest: Mapping[str, Any]) -> Path:
    """Write weights and manifest beside each other and return the path of the weights.

    Args:
        path: of the ``.npz``; its folder is made.
        weights: the five arrays of `Model`.
        manifest: what to record beyond schema, kind, architecture and hash, which are added here.
    """
    packed = io.BytesIO()
    arrays: dict[str, Any] = {name: np.asarray(weights[name], dtype=np.float32) for name in _ARRAYS}
    np.savez(packed, **arrays)
    document = {
        "schema": SCHEMA,
        "kind": KIND,
        "architecture": {
            "cell": "lstm",
            "layers": 1,
            "hidden": int(weights["weight_hh"].shape[1]),
            "features": list(ALL_NAMES[: weights["weight_ih"].shape[1]]),
            "horizon_samples": list(HORIZON_SAMPLES),
        },
        "weights_sha256": hashlib.sha256(packed.getvalue()).hexdigest(),
        **manifest,
    }
    writing.folder(path.parent, elsewhere=_ELSEWHERE)
    writing.replace(path, packed.getvalue(), elsewhere=_ELSEWHERE)
    writing.replace_json(path.with_suffix(".json"), document, indent=1, elsewhere=_ELSEWHERE)
    return path


def load_model(path: Path | None = None) -> Model:
    """Return the model at `path` (a ``.npz`` with its ``.json``, or the folder of a ``default.npz``), checked.

    Args:
        path: None is the model shipped with the package.

    Raises:
        InputError: when a file is missing or damaged, or describes another kind of model.
    """
    weights_path = DEFAULT_MODEL if path is None else Path(path)
    if weights_path.is_dir():
        weights_path = weights_path / DEFAULT_MODEL.name
    manifest = _manifest(weights_path.with_suffix(".json"))
    raw = _source(weights_path).read(MAX_FILE_BYTES)
    _check_manifest(weights_path, manifest, raw)
    arrays = _arrays(weights_path, raw)
    model = Model(
        **arrays,
        horizon_samples=HORIZON_SAMPLES,
        quantile=float(manifest["quantile"]),
        sha256=manifest["weights_sha256"],
        manifest=manifest,
    )
    _check_shapes(weights_path, model, manifest)
    return model


def _source(path: Path) -> Source:
    return Source(path, _REMEDY, f"loading the model {path}")


def _refusal(path: Path, happened: str) -> InputError:
    return _source(path).refusal(happened)


def _manifest(path: Path) -> dict[str, Any]:
    document = json_text.read_object(_source(path), _MAX_MANIFEST_BYTES)
    if document.get("kind") != KIND:
        raise _refusal(path, f"the manifest does not describe a {KIND} model")
    return document


def _check_manifest(path: Path, manifest: dict[str, Any], raw: bytes) -> None:
    if manifest.get("schema") != SCHEMA:
        raise _refusal(path, f"schema {manifest.get('schema')!r}, this version reads {SCHEMA}")
    architecture = manifest.get("architecture")
    known = {
        "cell": ("lstm",),
        "layers": (1,),
        "features": tuple(list(ALL_NAMES[:width]) for width in (FEATURES, *WIDTHS)),
        "horizon_samples": (list(HORIZON_SAMPLES),),
    }
    for key, expected in known.items():
        found = architecture.get(key) if isinstance(architecture, dict) else None
        if found not in expected:
            raise _refusal(path, f"made for {key} {found!r}, but this version has {expected[0]!r}")
    quantile = manifest.get("quantile")
    if not isinstance(quantile, float) or not 0 < quantile < 1:
        raise _refusal(path, f"quantile {quantile!r} is not between 0 and 1")
    found_hash = hashlib.sha256(raw).hexdigest()
    if found_hash != manifest.get("weights_sha256"):
        raise _refusal(path, f"the weights have SHA-256 {found_hash[:12]}…, which differs from the manifest")


def _arrays(path: Path, raw: bytes) -> dict[str, Float32s]:
    try:
        arrays: dict[str, NDArray[Any]] = npz.arrays(raw, _ARRAYS)
    except ValueError as error:
        raise _refusal(path, f"the weights cannot be read ({error})") from error
    absent = [name for name in _ARRAYS if name not in arrays]
    if absent:
        raise _refusal(path, f"the weights cannot be read (no array {absent[0]})")
    for name, array in arrays.items():
        if array.dtype != np.float32 or not np.isfinite(array).all():
            raise _refusal(path, f"array {name} is not finite float32")
    return arrays


def _check_shapes(path: Path, model: Model, manifest: dict[str, Any]) -> None:
    hidden, heads = manifest["architecture"].get("hidden"), 2 * len(HORIZON_SAMPLES)
    if not isinstance(hidden, int) or not 0 < hidden <= 1024:
        raise _refusal(path, f"hidden width {hidden!r} is not between 1 and 1024")
    expected = {
        "weight_ih": (4 * hidden, len(manifest["architecture"]["features"])),
        "weight_hh": (4 * hidden, hidden),
        "bias": (4 * hidden,),
        "head_weight": (heads, hidden),
        "head_bias": (heads,),
    }
    for name, shape in expected.items():
        if getattr(model, name).shape != shape:
            raise _refusal(path, f"array {name} has shape {getattr(model, name).shape}, expected {shape}")
