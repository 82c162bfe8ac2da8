"""A user's network as an ONNX file, in the place of our cell: a thin adapter over onnxruntime.

The network is asked once a sample and a node.  By the names of its inputs and outputs:

    features   float32 [w, n, f]   the last w samples (w = 1 for one that keeps a state), see `runtime.features`; f is
                                   8 or 19: how many of the inputs, from the first on, the network takes
    NAME       float32 […]         any further input is a state: zeros at first, then the output NAME_next
    growth     float32 [n, h]      log(1 + (need − backlog) / u): need is the peak backlog within each horizon, of which
                                   the network predicts a quantile, u what the link serves in a sample interval
    onset_logit float32 [n, h]     optional: whether a burst starts within each horizon

n may be a free dimension; where it is 1, each node has a state of its own.  What the file's metadata may say:
``horizon_samples`` (such as ``1,2,5,10,20``, the default) and ``quantile`` (default 0.95).  `train` exports this form.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed import installing
from testbed.errors import MachineError, PolicyError
from testbed.files.reading import Source
from testbed.forecaster.runtime.features import WIDTHS
from testbed.forecaster.runtime.horizons import HORIZON_SAMPLES, MOST_GROWTH
from testbed.records.events import Floats

MAX_FILE_BYTES = 64 * 10**6
MAX_WINDOW = 1_000
_REMEDY = "use an .onnx file with the inputs and outputs that docs/howto/forecasters.md lists"
_MOST = float(np.log1p(max(MOST_GROWTH)))

Float32s = NDArray[np.float32]


@dataclass(frozen=True)
class OnnxModel:
    """A file that has been read and found to be such a network.

    Attributes:
        path: of the file.
        content: its bytes.
        horizon_samples: the h horizons, ascending.
        quantile: which quantile of the need it predicts.
    """

    path: Path
    content: bytes
    horizon_samples: tuple[int, ...]
    quantile: float


def load_onnx(path: Path) -> OnnxModel:
    """Read and check a network.

    Raises:
        InputError: it cannot be used.
        MachineError: onnxruntime is not installed.
    """
    source = Source(path, _REMEDY, f"loading the model {path}")
    content = source.read(MAX_FILE_BYTES)
    if importlib.util.find_spec("onnxruntime") is None:
        remedy = f"{installing.optional('onnx')} (the extra `onnx`)"
        raise MachineError(f"loading the model {path}", "onnxruntime is not installed", remedy)
    try:
        session = _session(content)
    except Exception as error:
        raise source.refusal(f"onnxruntime cannot load it ({_short(error)})") from error
    try:  # a name in it that is no UTF-8 text is raised when it is asked for
        defect, said = _defect(session), session.get_modelmeta().custom_metadata_map
    except UnicodeDecodeError as error:
        raise source.refusal(f"it has a name that is not UTF-8 text ({error.reason})") from error
    if defect:
        raise source.refusal(defect)
    try:
        horizons = (
            tuple(int(word) for word in said["horizon_samples"].split(",")) if "horizon_samples" in said else None
        )
        quantile = float(said.get("quantile", "0.95"))
    except ValueError as error:
        raise source.refusal(f"its metadata cannot be read ({error})") from error
    model = OnnxModel(path, content, horizons or HORIZON_SAMPLES, quantile)
    if defect := _wrong_metadata(model) or _wrong_answer(model):
        raise source.refusal(defect)
    return model


def _wrong_metadata(model: OnnxModel) -> str:
    ascending = all(a < b for a, b in zip((0, *model.horizon_samples), model.horizon_samples, strict=False))
    if not ascending or model.horizon_samples[-1] > 10_000:
        return f"horizon_samples {model.horizon_samples} are not ascending numbers of samples"
    return "" if 0 < model.quantile < 1 else f"quantile {model.quantile} is not between 0 and 1"


def _wrong_answer(model: OnnxModel) -> str:
    """Ask the network once and return what is wrong with its answer."""
    try:
        OnnxNetwork(model, 1).advance()
    except PolicyError as error:
        return error.happened
    except Exception as error:  # noqa: BLE001
        return f"it cannot be run ({_short(error)})"
    return ""


def _session(content: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # a node has no core to spare
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _defect(session: Any) -> str:
    inputs = {one.name: one for one in session.get_inputs()}
    outputs = {one.name for one in session.get_outputs()}
    if "features" not in inputs or "growth" not in outputs:
        return f"it has inputs {', '.join(inputs)} and outputs {', '.join(sorted(outputs))}, not features and growth"
    shape = inputs["features"].shape
    if len(shape) != 3 or shape[2] not in WIDTHS or not isinstance(shape[0], int) or not 0 < shape[0] <= MAX_WINDOW:
        return f"its input features has shape {shape}, not [samples, nodes, {' or '.join(map(str, WIDTHS))}]"
    if lost := next((name for name in inputs if name != "features" and f"{name}_next" not in outputs), ""):
        return f"its input {lost} has no output {lost}_next"
    if other := next((one for one in inputs.values() if one.type != "tensor(float)"), None):
        return f"its input {other.name} is a {other.type}, not float32"
    return ""


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


class OnnxNetwork:
    """The network of n nodes and its state; see `runtime.lstm.Network`."""

    def __init__(self, model: OnnxModel, nodes: int) -> None:
        self._session, self._path = _session(model.content), model.path
        shapes = {one.name: one.shape for one in self._session.get_inputs()}
        self._outputs = [one.name for one in self._session.get_outputs()]
        self._single = shapes["features"][1] == 1  # one node a call
        self._calls = nodes if self._single else 1
        width, horizons = (1 if self._single else nodes), len(model.horizon_samples)
        window, _, features = shapes.pop("features")
        self._window = np.zeros((window, nodes, features), np.float32)
        start = {name: np.zeros(_sized(shape, width), np.float32) for name, shape in shapes.items()}
        self._states: list[dict[str, Float32s]] = [dict(start) for _ in range(self._calls)]
        self.inputs = np.zeros((features, nodes), np.float32)
        self.logits = np.zeros((horizons, nodes), np.float32)
        self._growth = np.zeros((horizons, nodes))

    def advance(self) -> None:
        """Go on by the sample in `inputs`.

        Raises:
            PolicyError: the network answers with numbers that are none, or of another shape.
        """
        self._window[:-1] = self._window[1:]
        self._window[-1] = self.inputs.T
        for call in range(self._calls):
            columns = slice(call, call + 1) if self._single else slice(None)
            given = {"features": self._window[:, columns], **self._states[call]}
            answers = dict(zip(self._outputs, self._session.run(None, given), strict=True))
            self._growth[:, columns] = np.clip(self._held(answers["growth"], "growth", columns), 0.0, _MOST)
            if "onset_logit" in answers:
                self.logits[:, columns] = self._held(answers["onset_logit"], "onset_logit", columns)
            self._states[call] = {name: answers[f"{name}_next"] for name in self._states[call]}

    def growth(self) -> Floats:
        """See `Network`."""
        copied: Floats = self._growth.copy()
        return copied

    def growth_of_one(self) -> list[float]:
        """See `Network`."""
        return [float(value) for value in self._growth[:, 0]]

    def _held(self, answer: Any, name: str, columns: slice) -> Floats:
        """Return an output, [h, n], after a look at it."""
        wanted = self._growth[:, columns].T.shape
        attempted, remedy = f"asking the model {self._path}", "fix or retrain it"
        if np.shape(answer) != wanted:
            happened = f"its output {name} has shape {list(np.shape(answer))}, not {list(wanted)}"
            raise PolicyError(attempted, happened, remedy)
        found: Floats = np.asarray(answer, np.float64)
        if not np.all(np.isfinite(found)):
            raise PolicyError(attempted, f"its output {name} has NaN or infinity", remedy)
        turned: Floats = found.T
        return turned


def _sized(shape: list[Any], nodes: int) -> tuple[int, ...]:
    return tuple(size if isinstance(size, int) else nodes for size in shape)
