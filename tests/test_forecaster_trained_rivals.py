"""Rivals with the data and the effort of the LSTM: fitted to its training series, stored, loaded, judged beside it."""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from testbed.errors import InputError, MachineError
from testbed.forecaster.evaluation import fitted_rivals
from testbed.forecaster.evaluation import series as evaluation_series
from testbed.forecaster.evaluation.evaluate import EvaluateConfig
from testbed.forecaster.evaluation.forecasts import foretold
from testbed.forecaster.evaluation.forest import forest_of
from testbed.forecaster.evaluation.regressions import spread
from testbed.forecaster.evaluation.rolling import groups_of
from testbed.forecaster.evaluation.trained_rivals import beside, load_rivals
from testbed.forecaster.runtime.artefact import DEFAULT_MODEL, load_model, save_model
from testbed.forecaster.runtime.features import FEATURES
from testbed.forecaster.runtime.horizons import HORIZON_SAMPLES
from testbed.forecaster.training import rivals
from testbed.forecaster.training.config import TrainConfig
from testbed.forecaster.training.data import training_data

data_of = functools.cache(training_data)  # each takes seconds
TINY = TrainConfig(seed=3, series=12, validation_series=8, samples=120)
TRAINED = {"trained EWMA", "trained Holt", "trained AR", "trained linear", "trained trees"}


def model_of(folder: Path, config: TrainConfig) -> None:
    """Write a model with random weights whose manifest names the training data of `config`."""
    rng, heads = np.random.default_rng(1), 2 * len(HORIZON_SAMPLES)
    shapes = {"weight_ih": (16, FEATURES), "weight_hh": (16, 4), "bias": (16,), "head_weight": (heads, 4)}
    weights = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    weights["head_bias"] = np.zeros(heads, np.float32)
    manifest = {
        "quantile": 0.95,
        "training": {"data_sha256": data_of(dataclasses.replace(config, out=TINY.out)).sha256},
    }
    save_model(folder / DEFAULT_MODEL.name, weights, manifest)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a model with rivals that had one setting each."""
    folder = tmp_path_factory.mktemp("model")
    config = dataclasses.replace(TINY, out=folder)
    model_of(folder, config)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rivals, "BUDGET", 1)
        patch.setitem(rivals.SETTINGS, "trees", ({"max_iter": 5, "max_leaf_nodes": 7, "lagged": (1,)},))
        patch.setattr(rivals, "training_data", lambda _: data_of(TINY))
        patch.setattr(rivals, "FITTED_ROWS", 1000)
        assert rivals.train_rivals(config) == beside(folder)
    return folder


def test_stored_trees_say_what_the_fitted_ones_do() -> None:
    from sklearn.ensemble import HistGradientBoostingRegressor

    rng = np.random.default_rng(1)
    rows = rng.normal(size=(900, 4)).astype(np.float32).astype(np.float64)
    targets = np.stack([rows[:, 0] * rows[:, 1], np.full(900, 3.0)], axis=1)  # the second: trees of one leaf each
    setting = {"max_iter": 20, "max_leaf_nodes": 9, "early_stopping": False}
    ensembles = [
        HistGradientBoostingRegressor(loss="quantile", quantile=0.9, **setting).fit(rows, target)
        for target in targets.T
    ]
    forest = forest_of(ensembles)
    forest.check(4)
    expected = np.stack([one.predict(rows) for one in ensembles], axis=1)
    assert np.abs(forest.values(rows) - expected).max() < 1e-4
    with pytest.raises(ValueError, match="beyond the 1"):
        forest.check(1)


def test_what_is_loaded_is_what_was_fitted(fitted: Path) -> None:
    loaded = load_rivals(fitted)
    assert loaded is not None
    assert set(loaded.regressions) == {"AR", "linear", "trees"}
    assert loaded.smoothers["Holt"] == {"gain": 0.5, "trend_gain": 0.4, "z": 1.2816}
    assert loaded.manifest["data_sha256"] == data_of(TINY).sha256
    assert {len(one["losses"]) for one in loaded.manifest["tuned"].values()} == {1}


def test_they_are_judged_beside_the_lstm_and_learn_nothing_of_the_stream(
    fitted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their forecasts do not change with the part that others are fitted to."""
    monkeypatch.setattr(fitted_rivals, "BUDGET", 1)
    monkeypatch.setattr(evaluation_series, "_GENERATED_SERIES", 2)
    monkeypatch.setattr(evaluation_series, "_GENERATED_SAMPLES", 200)
    config = EvaluateConfig(model=fitted)
    series = evaluation_series.generated("announced", config)
    groups, model, trained = groups_of(series, 10), load_model(fitted), load_rivals(fitted)
    said = foretold(groups, model, config, trained)
    assert set(said) >= TRAINED
    unfitted = [dataclasses.replace(group, growth=np.zeros_like(group.growth)) for group in groups]
    again = foretold(unfitted, model, config, trained)
    for name in TRAINED | {"LSTM"}:
        assert np.array_equal(said[name][0], again[name][0])
    assert not np.array_equal(said["linear"][0], again["linear"][0])


def test_the_setting_is_the_one_of_the_least_loss_on_the_validation_series() -> None:
    losses = [3.0, 2.0, 1.5, 4.0, 1.0, 2.5]
    assert rivals._tuned("AR", losses)["setting"] == dict(rivals.SETTINGS["AR"][4])
    assert {len(settings) for settings in rivals.SETTINGS.values()} == {rivals.BUDGET}


def test_the_loss_by_which_they_are_tuned_is_that_of_the_growth_itself() -> None:
    data = data_of(TINY)
    exact = rivals._loss(lambda part: np.expm1(part.growth[:, :, rivals.TUNED_AT].astype(float)), data, 0.95)
    none = rivals._loss(lambda part: np.zeros(part.growth.shape[:2]), data, 0.95)
    assert exact < 1e-6 < none


def test_other_training_data_than_those_of_the_model_are_refused(tmp_path: Path) -> None:
    model_of(tmp_path, TINY)
    with pytest.raises(InputError, match=r"its training data were others \(frames training"):
        rivals.train_rivals(dataclasses.replace(TINY, out=tmp_path, seed=4))
    with pytest.raises(InputError, match="loading the model"):
        rivals.train_rivals(dataclasses.replace(TINY, out=tmp_path / "nowhere"))


def test_without_scikit_learn_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("testbed.forecaster.training.config.importlib.util.find_spec", lambda _: None)
    with pytest.raises(MachineError, match="setup-test|pip install"):
        rivals.train_rivals(dataclasses.replace(TINY, out=tmp_path))


def test_a_model_without_rivals_has_none_and_damaged_ones_are_refused(fitted: Path, tmp_path: Path) -> None:
    assert load_rivals(tmp_path) is None
    numbers, manifest = beside(fitted).read_bytes(), json.loads(beside(fitted).with_suffix(".json").read_text())

    def kept(numbers: bytes, manifest: dict[str, Any]) -> None:
        beside(tmp_path).write_bytes(numbers)
        beside(tmp_path).with_suffix(".json").write_text(json.dumps(manifest))
        load_rivals(tmp_path)

    kept(numbers, manifest)
    for broken, said in (
        ((numbers[:-9], manifest), "SHA-256"),
        ((numbers, {**manifest, "kind": "else"}), "does not describe"),
        ((numbers, {**manifest, "linear": {"length": 7, "lagged": []}}), "its shape"),
        ((numbers, {**manifest, "trees": {"lagged": [99]}}), "below 8"),
    ):
        with pytest.raises(InputError, match=said):
            kept(*broken)


def test_the_shipped_rivals_had_the_data_of_the_shipped_model() -> None:
    model, trained = load_model(), load_rivals(None)
    assert trained is not None
    assert trained.manifest["data_sha256"] == model.manifest["training"]["data_sha256"]
    assert trained.manifest["quantile"] == model.quantile
    assert beside(None).stat().st_size < 1_000_000


def test_rows_are_spread_evenly_over_all_series() -> None:
    places = spread([(3, 100), (0, 50), (1, 300)], 60)
    assert [len(rows) for rows, _ in places] == [30, 0, 30]
    assert all(rows.max(initial=0) < 3 and columns.max(initial=0) < 300 for rows, columns in places)
    everything = spread([(2, 3)], 100)[0]
    assert [index.tolist() for index in everything] == [[0, 0, 0, 1, 1, 1], [0, 1, 2, 0, 1, 2]]
