"""The ONNX file says what the cell in the node says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from testbed.errors import MachineError
from testbed.forecaster.runtime.cell import run_series
from testbed.forecaster.runtime.features import FEATURES
from testbed.forecaster.runtime.lstm import load_model
from testbed.forecaster.training import onnx_export


@pytest.mark.requires("onnx")
def test_onnx_runtime_and_the_cell_agree_over_a_series(tmp_path: Path) -> None:
    import onnx
    import onnxruntime

    model = load_model()
    path = onnx_export.write_onnx(model, tmp_path / "model.onnx")
    document = onnx.load(path)
    assert {prop.key: prop.value for prop in document.metadata_props}["weights_sha256"] == model.sha256
    inputs = np.random.default_rng(1).uniform(0, 3, (3, 40, FEATURES)).astype(np.float32)
    growth, logits = run_series(model, inputs)
    runner = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    state = cell = np.zeros((1, 3, model.hidden), dtype=np.float32)
    for step in range(inputs.shape[1]):
        told, onset, state, cell = runner.run(None, {"features": inputs[None, :, step], "h": state, "c": cell})
        np.testing.assert_allclose(told, growth[:, step], atol=1e-5, rtol=1e-5)
        np.testing.assert_allclose(onset, logits[:, step], atol=1e-5, rtol=1e-5)


def test_without_the_package_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("testbed.forecaster.training.onnx_export.importlib.util.find_spec", lambda _: None)
    with pytest.raises(MachineError, match="setup-test|pip install"):
        onnx_export.write_onnx(load_model(), tmp_path / "model.onnx")
