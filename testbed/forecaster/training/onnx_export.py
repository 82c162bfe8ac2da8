"""The model as ONNX, for other runtimes: the graph is written down by hand, so torch's exporter is not needed.

Inputs ``features`` [1, n, features] (one sample, as `features.FeatureExtractor` makes them) and the state ``h``, ``c``
[1, n, H]; outputs ``growth`` and ``onset_logit`` [n, horizons] and the next state ``h_next``, ``c_next``.  Our own cell
stays the runtime of a node: it takes less time for a step (ARCHITECTURE.md) and needs no package.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

from testbed import installing
from testbed.errors import MachineError
from testbed.files import writing
from testbed.forecaster.runtime.artefact import Model
from testbed.forecaster.runtime.horizons import MOST_GROWTH

_OPSET, _IR_VERSION = 17, 8


def available() -> bool:
    """Return whether the onnx package is installed."""
    return importlib.util.find_spec("onnx") is not None


def write_onnx(model: Model, path: Path) -> Path:
    """Write `model` to `path` and return it.

    Raises:
        MachineError: when the onnx package is not installed.
        ToolError: when it cannot be written.
    """
    if not available():
        raise MachineError(f"writing {path}", "onnx is not installed", installing.optional("evaluate"))
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    constants = [numpy_helper.from_array(array, name) for name, array in _constants(model).items()]
    hidden, horizons = model.hidden, len(model.horizon_samples)

    def info(name: str, shape: list[Any]) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    state = ("nodes", hidden)
    graph = helper.make_graph(
        [helper.make_node(kind, into, out, **extra) for kind, into, out, extra in _steps(hidden)],
        "testbed",
        [info("features", [1, "nodes", model.features]), info("h", [1, *state]), info("c", [1, *state])],
        [
            *(info(name, ["nodes", horizons]) for name in ("growth", "onset_logit")),
            *(info(name, [1, *state]) for name in ("h_next", "c_next")),
        ],
        constants,
    )
    document = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)
    helper.set_model_props(document, {"weights_sha256": model.sha256, "quantile": str(model.quantile)})
    onnx.checker.check_model(document, full_check=True)
    return writing.replace(path, document.SerializeToString(), elsewhere="choose another --out")


def _constants(model: Model) -> dict[str, np.ndarray[Any, Any]]:
    """Return weights in the order of ONNX, which has gates input, output, forget, cell."""

    def reordered(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        into, forget, candidate, output = np.split(array, 4)
        return np.concatenate([into, output, forget, candidate])[None]

    bias = reordered(model.bias)
    horizons = len(model.horizon_samples)
    return {
        "W": reordered(model.weight_ih),
        "R": reordered(model.weight_hh),
        "B": np.concatenate([bias, np.zeros_like(bias)], axis=1),
        "head": np.ascontiguousarray(model.head_weight.T),
        "head_bias": model.head_bias,
        "sizes": np.array([horizons, horizons], dtype=np.int64),
        "first_axis": np.array([0], dtype=np.int64),
        "last_axis": np.array(1, dtype=np.int64),
        "one": np.array(1.0, dtype=np.float32),
        "half": np.array(0.5, dtype=np.float32),
        "most": np.log1p(np.array(MOST_GROWTH)).astype(np.float32),
    }


def _steps(hidden: int) -> list[tuple[str, list[str], list[str], dict[str, Any]]]:
    """Return the nodes of the graph; from `raw` on they repeat what `network` makes of it."""
    return [
        ("LSTM", ["features", "W", "R", "B", "", "h", "c"], ["", "h_next", "c_next"], {"hidden_size": hidden}),
        ("Squeeze", ["h_next", "first_axis"], ["state"], {}),
        ("MatMul", ["state", "head"], ["product"], {}),
        ("Add", ["product", "head_bias"], ["both"], {}),
        ("Split", ["both", "sizes"], ["raw", "onset_logit"], {"axis": 1}),
        ("Mul", ["raw", "raw"], ["square"], {}),
        ("Add", ["square", "one"], ["above"], {}),
        ("Sqrt", ["above"], ["root"], {}),
        ("Add", ["root", "raw"], ["double"], {}),
        ("Mul", ["double", "half"], ["positive"], {}),
        ("CumSum", ["positive", "last_axis"], ["sum"], {}),
        ("Min", ["sum", "most"], ["growth"], {}),
    ]
