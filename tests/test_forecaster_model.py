"""The model file: what is shipped is whole, and what is wrong is refused by name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from testbed.errors import InputError
from testbed.forecaster.runtime.artefact import DEFAULT_MODEL, load_model, save_model
from testbed.forecaster.runtime.cell import run_series
from testbed.forecaster.runtime.features import ALL, ALL_NAMES

CARD = Path(__file__).parent.parent / "MODEL.md"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for suffix in (".npz", ".json"):
        shutil.copy(DEFAULT_MODEL.with_suffix(suffix), tmp_path / f"default{suffix}")
    return tmp_path / "default.npz"


def edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    manifest = json.loads(path.with_suffix(".json").read_text())
    change(manifest)
    path.with_suffix(".json").write_text(json.dumps(manifest))


def test_the_shipped_model_loads_with_its_whole_manifest() -> None:
    manifest = load_model().manifest
    for key in ("schema", "architecture", "quantile", "date", "training", "metrics", "notices", "weights_sha256"):
        assert key in manifest
    assert manifest["training"]["config"]["seed"] >= 0
    assert all(len(digest) == 64 for digest in manifest["training"]["data_sha256"].values())


def test_the_model_card_is_that_of_the_shipped_model() -> None:
    assert load_model().sha256 in CARD.read_text(encoding="utf-8")


def test_a_folder_stands_for_the_model_in_it(copy: Path) -> None:
    assert load_model(copy.parent).sha256 == load_model(copy).sha256 == load_model().sha256


def test_what_is_saved_is_what_loads(tmp_path: Path) -> None:
    shipped = load_model()
    names = ("weight_ih", "weight_hh", "bias", "head_weight", "head_bias")
    weights = {name: getattr(shipped, name) for name in names}
    again = load_model(save_model(tmp_path / "deep" / "m.npz", weights, {"quantile": 0.9}))
    assert again.quantile == 0.9
    assert all(np.array_equal(getattr(again, name), weights[name]) for name in names)


def test_a_model_may_take_the_period_of_the_arrivals_too(tmp_path: Path) -> None:
    rng, hidden = np.random.default_rng(1), 4
    shapes = {"weight_ih": (4 * hidden, ALL), "weight_hh": (4 * hidden, hidden), "bias": (4 * hidden,)}
    shapes |= {"head_weight": (10, hidden), "head_bias": (10,)}
    weights = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    model = load_model(save_model(tmp_path / "m.npz", weights, {"quantile": 0.9}))
    assert model.features == ALL
    assert model.manifest["architecture"]["features"] == list(ALL_NAMES)
    inputs = rng.uniform(0, 2, (3, 30, ALL)).astype(np.float32)
    repeats, blind = run_series(model, inputs)[0], run_series(load_model(), inputs)[0]
    inputs[:, :, -1] += 1
    assert not np.array_equal(run_series(model, inputs)[0], repeats)
    assert np.array_equal(run_series(load_model(), inputs)[0], blind)


def test_a_missing_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such file") as caught:
        load_model(tmp_path / "absent.npz")
    assert "python -m testbed train" in str(caught.value)


@pytest.mark.parametrize("suffix", [".npz", ".json"])
def test_half_a_model_is_refused(copy: Path, suffix: str) -> None:
    copy.with_suffix(suffix).unlink()
    with pytest.raises(InputError, match="there is no such file"):
        load_model(copy)


@pytest.mark.parametrize("damage", [b"", b"\x00" * 100, None])
def test_damaged_weights_are_refused_even_with_a_matching_hash(copy: Path, damage: bytes | None) -> None:
    import hashlib

    raw = damage if damage is not None else copy.read_bytes()[:2000]
    copy.write_bytes(raw)
    with pytest.raises(InputError, match="SHA-256"):
        load_model(copy)
    edit(copy, lambda manifest: manifest.update(weights_sha256=hashlib.sha256(raw).hexdigest()))
    with pytest.raises(InputError, match="cannot be read"):
        load_model(copy)


def test_one_changed_bit_is_refused(copy: Path) -> None:
    raw = bytearray(copy.read_bytes())
    raw[len(raw) // 2] ^= 1
    copy.write_bytes(bytes(raw))
    with pytest.raises(InputError, match="SHA-256"):
        load_model(copy)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"kind": "other"}', "[" * 100_000])
def test_a_foreign_or_broken_manifest_is_refused(copy: Path, text: str) -> None:
    copy.with_suffix(".json").write_text(text)
    with pytest.raises(InputError, match=r"default\.json.* (JSON|manifest)"):
        load_model(copy)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: m.update(schema=99), "schema 99"),
        (lambda m: m["architecture"].update(features=["x"]), "features"),
        (lambda m: m["architecture"].update(horizon_samples=[1]), "horizon_samples"),
        (lambda m: m["architecture"].update(cell="gru"), "cell"),
        (lambda m: m.update(architecture=None), "cell"),
        (lambda m: m["architecture"].update(hidden=7), "shape"),
        (lambda m: m["architecture"].update(hidden="many"), "hidden"),
        (lambda m: m.update(quantile=1.5), "quantile"),
        (lambda m: m.pop("quantile"), "quantile"),
        (lambda m: m.pop("weights_sha256"), "SHA-256"),
    ],
)
def test_a_model_for_something_else_is_refused(copy: Path, change: Callable[[dict[str, Any]], None], said: str) -> None:
    edit(copy, change)
    with pytest.raises(InputError, match=said):
        load_model(copy)


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    shipped = load_model()
    names = ("weight_ih", "weight_hh", "bias", "head_weight", "head_bias")
    weights = {name: getattr(shipped, name).copy() for name in names}
    weights["bias"][0] = np.nan
    path = save_model(tmp_path / "m.npz", weights, {"quantile": 0.95})
    with pytest.raises(InputError, match="bias is not finite"):
        load_model(path)
