"""Training: repeatable, resumable, refused early when it cannot work, and useful at its end."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from testbed.errors import InputError, MachineError
from testbed.forecaster.data.generate import NodeTraffic, generate
from testbed.forecaster.evaluation.closed_loop import compare_policies, run_loop
from testbed.forecaster.evaluation.scoring import loop_profile
from testbed.forecaster.runtime.lstm import load_model
from testbed.forecaster.training.train import TrainConfig, TrainProgress, train
from testbed.scenario.buffer import BufferSpec

needs_torch = pytest.mark.requires("torch")
TINY = TrainConfig(seed=3, epochs=3, series=12, validation_series=8, samples=120, hidden=8, batch=8, chunk=50)


class Stop(Exception):
    """Ends a training run from its progress callback."""


@pytest.fixture(autouse=True)
def _no_closed_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the long table; it has a test of its own."""
    monkeypatch.setattr("testbed.forecaster.evaluation.scoring._LOOPS", ((4e7, True, 0),))
    monkeypatch.setattr("testbed.forecaster.evaluation.scoring._LOOP_MS", 1000)


def tiny(out: Path, **changes: object) -> TrainConfig:
    return dataclasses.replace(TINY, out=out, **changes)  # type: ignore[arg-type]


@needs_torch
def test_a_seed_gives_the_same_weights_and_another_seed_others(tmp_path: Path) -> None:
    first, again, other = (train(tiny(tmp_path / name, seed=seed)) for name, seed in (("a", 3), ("b", 3), ("c", 4)))
    assert load_model(first).sha256 == load_model(again).sha256 != load_model(other).sha256


@needs_torch
def test_an_interrupted_run_ends_with_the_weights_of_an_uninterrupted_one(tmp_path: Path) -> None:
    def stop_after_one(progress: TrainProgress) -> None:
        if progress.stage == "fit" and progress.done == 1:
            raise Stop

    with pytest.raises(Stop):
        train(tiny(tmp_path / "cut"), stop_after_one)
    assert (tmp_path / "cut" / "checkpoint.pt").exists()
    seen: list[TrainProgress] = []
    resumed = train(tiny(tmp_path / "cut"), seen.append)
    assert [progress.done for progress in seen if progress.stage == "fit"] == [2, 3]
    assert load_model(resumed).sha256 == load_model(train(tiny(tmp_path / "whole"))).sha256
    assert not (tmp_path / "cut" / "checkpoint.pt").exists()


@needs_torch
def test_a_checkpoint_of_another_configuration_or_a_broken_one_is_refused(tmp_path: Path) -> None:
    def stop(progress: TrainProgress) -> None:
        if progress.stage == "fit":
            raise Stop

    with pytest.raises(Stop):
        train(tiny(tmp_path), stop)
    with pytest.raises(InputError, match=r"another configuration \(epochs\)"):
        train(tiny(tmp_path, epochs=4))
    (tmp_path / "checkpoint.pt").write_bytes(b"nothing of the kind")
    with pytest.raises(InputError, match="cannot be read"):
        train(tiny(tmp_path))


@needs_torch
def test_model_manifest_and_card_say_the_same(tmp_path: Path) -> None:
    path = train(tiny(tmp_path, card=tmp_path / "card" / "CARD.md"))
    manifest = json.loads(path.with_suffix(".json").read_text())
    card = (tmp_path / "card" / "CARD.md").read_text()
    assert manifest["weights_sha256"] in card
    assert f"{manifest['metrics']['forecast']['generated'][0]['pinball']:.3f}" in card
    assert manifest["training"]["config"]["hidden"] == 8
    assert "NaN" not in path.with_suffix(".json").read_text()


@needs_torch
@pytest.mark.parametrize("change", [{"epochs": 0}, {"series": 0}, {"chunk": -1}, {"seed": -1}, {"quantile": 1.0}])
def test_impossible_settings_are_refused_before_anything_is_made(tmp_path: Path, change: dict[str, object]) -> None:
    with pytest.raises(InputError, match=next(iter(change))):
        train(tiny(tmp_path / "out", **change))
    assert not (tmp_path / "out").exists()


@needs_torch
def test_a_missing_trace_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.npz"):
        train(tiny(tmp_path, traces=(tmp_path / "absent.npz",)))


def test_without_torch_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("testbed.forecaster.training.config.importlib.util.find_spec", lambda _: None)
    with pytest.raises(MachineError, match="setup-test|pip install"):
        train(tiny(tmp_path))


def test_the_shipped_model_loses_less_than_reaction_where_reaction_is_late() -> None:
    """Announced bursts, 50 ms to actuate: between reactive and oracle, and far from the equal memory held always."""
    traffic = generate(loop_profile(4e7, True), 12, 10_000, (99,))
    results = compare_policies(traffic, load_model(), 50)
    loss = {name: result.loss_ratio for name, result in results.items()}
    assert loss["oracle"] <= loss["lstm"] < loss["holt"] < loss["reactive"] < loss["static-min"]
    assert loss["lstm"] - loss["oracle"] < 0.3 * (loss["reactive"] - loss["oracle"])
    assert loss["lstm"] < 0.5 * loss["static-mean"]


def test_the_loop_conserves_and_reserves_within_bounds() -> None:
    traffic = generate(loop_profile(4e7, False), 6, 3000, (98,))
    results = compare_policies(traffic, load_model(), 0)
    assert results["static-min"].mean_limit_bytes == 500_000
    assert results["static-max"].mean_limit_bytes == 10_000_000
    for result in results.values():
        assert results["static-max"].loss_ratio <= result.loss_ratio <= results["static-min"].loss_ratio
        assert 500_000 <= result.mean_limit_bytes <= 10_000_000


def test_the_start_of_a_loop_does_not_count() -> None:
    """A burst before any forecast can be in force costs nobody anything; the same burst later does."""
    arrived = np.zeros((1, 2000), dtype=np.int64)
    spec = BufferSpec.model_validate({"policy": "static-min", "actuation_delay": "50ms"})
    loss = {}
    for begin in (200, 1000):
        arrived[:] = 1000
        arrived[0, begin] = 2_000_000
        traffic = NodeTraffic(np.array([10**8]), arrived, np.zeros((1, 2000), dtype=np.float32), np.zeros(1))
        loss[begin] = run_loop(traffic, spec, None).loss_ratio
    assert loss[200] == 0
    assert loss[1000] > 0.3
