"""Models of a user's: an LSTM trained elsewhere, a network in ONNX; kept with the run and replayed from there."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import testbed
from testbed.errors import MachineError, TestbedError
from testbed.forecaster.runtime.artefact import DEFAULT_MODEL, load_model, save_model
from testbed.forecaster.training.onnx_export import write_onnx
from testbed.scenario import loading
from testbed.trials import checks
from testbed.trials.replay import replay
from testbed.trials.sweep_runs import _difference

SCENARIO = {
    **{"version": 1, "name": "small", "seed": 3, "duration": "1s"},
    "topology": {"family": "cluster", "nodes": 2, "clients": 1, "node_rate": "10Mbit"},
    "traffic": [
        {
            **{"name": "base", "from": "c1", "shape": "on-off", "peak": "60Mbit", "flows": 40, "burst_flows": 20},
            **{
                "on": {"constant": "60ms"},
                "off": {"constant": "100ms"},
                "precursor": {"lead": "30ms", "strength": 0.4},
            },
        }
    ],
}


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Path]:
    def write(policy: str, **more: object) -> Path:
        path = tmp_path / "small.yaml"
        buffer = {"policy": policy, "min": "0.02MB", "max": "1MB", **more}
        path.write_text(yaml.safe_dump({**SCENARIO, "buffer": buffer}))
        return path

    return write


def lstm(path: Path, factor: float = 0.5) -> Path:
    """Write another LSTM than the one shipped."""
    model = load_model()
    names = ("weight_ih", "weight_hh", "bias", "head_weight", "head_bias")
    weights = {name: getattr(model, name) * (factor if name == "head_weight" else 1) for name in names}
    return save_model(path, weights, {"quantile": 0.9})


def test_another_lstm_decides_otherwise_and_goes_with_the_run(written: Callable[..., Path], tmp_path: Path) -> None:
    mine = lstm(tmp_path / "mine.npz")
    run = testbed.simulate(written("lstm", model="./mine.npz"), out=tmp_path / "run")
    shipped = testbed.simulate(written("lstm"), out=tmp_path / "shipped")
    assert run.manifest["hashes"]["model"] != shipped.manifest["hashes"]["model"]
    assert list(run.events("SetBufferLimit")) != list(shipped.events("SetBufferLimit"))
    assert run.scenario["buffer"]["model"] == "model/mine.npz"
    assert (run.path / "model" / "mine.npz").read_bytes() == mine.read_bytes()
    mine.unlink()
    assert replay(run.path) is None
    assert replay(shipped.path) is None
    again = testbed.simulate(run.path / "scenario.yaml", out=tmp_path / "again")
    assert list(again.events("SetBufferLimit")) == list(run.events("SetBufferLimit"))


def test_a_policy_without_a_model_leaves_it_out(written: Callable[..., Path], tmp_path: Path) -> None:
    run = testbed.simulate(written("reactive", model="./none.npz"), out=tmp_path / "run")
    assert "model" not in run.manifest["hashes"]


def test_what_a_sweep_made_with_another_model_is_made_anew(written: Callable[..., Path], tmp_path: Path) -> None:
    lstm(tmp_path / "mine.npz")
    path = written("lstm", model="./mine.npz")
    run = testbed.simulate(path, out=tmp_path / "run")
    assert _difference(run.path, loading.load(path), "simulation") == ""
    lstm(tmp_path / "mine.npz", 0.7)
    assert _difference(run.path, loading.load(path), "simulation") == "model"


@pytest.mark.requires("onnx")
def test_the_lstm_as_onnx_decides_as_the_lstm_and_replays_from_its_copy(
    written: Callable[..., Path], tmp_path: Path
) -> None:
    write_onnx(load_model(), tmp_path / "mine.onnx")
    run = testbed.simulate(written("onnx", model="./mine.onnx"), out=tmp_path / "run")
    rival = testbed.simulate(written("lstm"), out=tmp_path / "rival")
    assert run.summary["buffer"]["expansions"] > 0
    assert run.summary["buffer"]["reserved_mb_s"] == pytest.approx(rival.summary["buffer"]["reserved_mb_s"], rel=0.01)
    assert run.summary["buffer"]["loss_ratio"] == pytest.approx(rival.summary["buffer"]["loss_ratio"], abs=0.01)
    (tmp_path / "mine.onnx").unlink()
    assert (run.path / "model" / "mine.onnx").exists()
    assert replay(run.path) is None


def network(path: Path, growth: str = "ok", window: int = 5, metadata: dict[str, str] | None = None) -> None:
    """Write a network without a state: growth is the mean of the first feature over the last samples, thrice."""
    from onnx import TensorProto, helper

    info = helper.make_tensor_value_info
    axes = helper.make_tensor("axes", TensorProto.INT64, [1], [0])
    one = helper.make_tensor("one", TensorProto.INT64, [1], [1])
    zero = helper.make_tensor("zero", TensorProto.INT64, [1], [0])
    last = helper.make_tensor("last", TensorProto.INT64, [1], [1])
    nothing = helper.make_tensor("nothing", TensorProto.FLOAT, [], [0.0])
    columns = 2 if growth == "narrow" else 3
    nodes = [
        helper.make_node("ReduceMean", ["features"], ["mean"], axes=[0], keepdims=0),
        helper.make_node("Slice", ["mean", "zero", "one", "last"], ["arrived"]),
        helper.make_node("Div" if growth == "nan" else "Add", ["nothing", "nothing"], ["shift"]),
        helper.make_node("Add", ["arrived", "shift"], ["shifted"]),
        helper.make_node("Concat", ["shifted"] * columns, ["growth"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "mine",
        [info("features", TensorProto.FLOAT, [window, "n", 8])],
        [info("growth", TensorProto.FLOAT, ["n", columns])],
        [axes, one, zero, last, nothing],
    )
    document = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(document, {"horizon_samples": "1,5,10", **(metadata or {})})
    path.write_bytes(document.SerializeToString())


@pytest.mark.requires("onnx")
def test_a_network_over_a_window_needs_no_state(written: Callable[..., Path], tmp_path: Path) -> None:
    network(tmp_path / "mine.onnx")
    run = testbed.simulate(written("onnx", model="./mine.onnx"), out=tmp_path / "run")
    made = next(run.events("ForecastMade"), None)
    assert run.verdict == "VALID"
    assert made is None or made["horizon_ns"] == [10_000_000, 50_000_000, 100_000_000]
    assert replay(run.path) is None


@pytest.mark.requires("onnx")
@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (lambda path: path.write_bytes(b"no model"), "onnxruntime cannot load it"),
        (lambda path: network(path, "narrow"), r"growth has shape \[1, 2\], not \[1, 3\]"),
        (lambda path: network(path, "nan"), "growth has NaN or infinity"),
        (lambda path: network(path, window=2_000), "features has shape"),
        (lambda path: network(path, metadata={"quantile": "2"}), "quantile 2.0 is not between"),
        (lambda path: network(path, metadata={"horizon_samples": "1,5,x"}), "metadata cannot be read"),
        (lambda path: network(path, metadata={"horizon_samples": "5,1,10"}), "not ascending"),
        (lambda path: None, "there is no file"),
    ],
)
def test_a_broken_network_is_refused_before_the_trial(
    written: Callable[..., Path], tmp_path: Path, broken: Callable[[Path], Any], said: str
) -> None:
    broken(tmp_path / "mine.onnx")
    with pytest.raises(TestbedError, match=f"small.yaml:.*buffer.model: .*{said}") as raised:
        checks.check(loading.load(written("onnx", model="./mine.onnx")), "simulation")
    assert raised.value.exit_code == 2


@pytest.mark.requires("onnx")
def test_without_onnxruntime_the_extra_is_named(
    written: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network(tmp_path / "mine.onnx")
    path = written("onnx", model="./mine.onnx")
    present = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "onnxruntime" else present(name))
    checks.check(loading.load(path), "simulation")  # nothing is wrong with the scenario
    with pytest.raises(MachineError, match="onnxruntime is not installed.*the extra `onnx`"):
        testbed.simulate(path, out=tmp_path / "run")


def test_onnx_without_a_model_says_what_to_add(written: Callable[..., Path]) -> None:
    with pytest.raises(TestbedError, match="policy onnx needs a model; add `model: FILE`"):
        loading.load(written("onnx"))


def test_a_run_that_names_a_model_elsewhere_is_not_replayed(written: Callable[..., Path], tmp_path: Path) -> None:
    shutil.copy(DEFAULT_MODEL, tmp_path / "mine.npz")
    shutil.copy(DEFAULT_MODEL.with_suffix(".json"), tmp_path / "mine.json")
    run = testbed.simulate(written("lstm", model="./mine.npz"), out=tmp_path / "run")
    text = (run.path / "scenario.yaml").read_text()
    (run.path / "scenario.yaml").write_text(text.replace("model/mine.npz", "../mine.npz"))
    with pytest.raises(TestbedError, match="is outside of the run directory"):
        replay(run.path)


def test_nothing_of_onnxruntime_is_imported_for_another_policy() -> None:
    probe = "import sys, testbed; testbed.load('scenarios/burst.yaml'); print('onnxruntime' in sys.modules)"
    root = Path(__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout == "False\n"
