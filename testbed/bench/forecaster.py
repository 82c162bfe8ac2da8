"""What a forecast costs a node: time of a prediction beside other runtimes, time to load the model, memory.

A prediction is all that a node's forecaster does: features, one step of the network, bytes, the gate.  The step of
the network alone stands beside ONNX Runtime (one thread, no spinning) and eager torch with the same weights, which
take the same inputs and carry the same state; the runtimes take turns in blocks, so that a disturbance meets all of
them.  A node predicts once in 10 ms, and others use the caches in between: so a prediction at every tick of 10 ms is
measured, too.  As in an agent, the process has a fixed priority (where that is permitted) and collects no garbage.

The calibration (`buffer.options.coverage: adaptive`) is an option, so it stands by itself, around forecasts that are
made beforehand.

Memory is what a fresh process gains in pages of its own when it loads the model and predicts, after it has imported
what an agent without a forecast imports.  Pages of libraries are shared between agents and do not count.
"""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from testbed.emulation.processes.agents import REAL_TIME_PRIORITY
from testbed.forecaster.runtime.artefact import Model, load_model
from testbed.forecaster.runtime.cell import Cell
from testbed.forecaster.runtime.horizons import HORIZON_SAMPLES
from testbed.forecaster.runtime.lstm import LstmForecaster
from testbed.forecaster.training.onnx_export import write_onnx
from testbed.policies.forecast_corrected import CorrectedForecaster
from testbed.policies.forecast_gated import GatedForecaster
from testbed.records.events import MEASURED, ForecastMade, TrafficSampled
from testbed.system import commands, kernel
from testbed.units import NS_PER_MS

_BLOCKS, _BLOCK, _WARM_UP, _PACED, _LOADS = 40, 500, 500, 500, 20
_RATE_BPS, _INTERVAL_NS = 10**8, 10 * NS_PER_MS
_KB, _MB = 1000, 10**6
_MEASURE = "import testbed.policies.brain; from testbed.bench import forecaster; print(forecaster.private_bytes())"

Row = dict[str, Any]
Step = Callable[[int], object]


def run() -> list[Row]:
    """Measure, and return rows of name, value, unit, rival, rival_value, ratio (value / rival_value), bar, met.

    Raises:
        CommandError: when the process whose memory is measured failed.
    """
    model = load_model()
    rivals = _rivals(model)
    own = {"prediction": _prediction(model), "calibration": _calibration(model), "step": _cell(model)}
    times_us = _times_us({**own, **rivals})
    rows = [
        _row("forecaster.prediction_p50", times_us["prediction"][0], "us"),
        _row("forecaster.prediction_p99", times_us["prediction"][1], "us", "<= 50"),
        _row("forecaster.calibration_p50", times_us["calibration"][0], "us"),
        _row("forecaster.calibration_p99", times_us["calibration"][1], "us", "<= 50"),
    ]
    paced_us = _paced_us(_prediction(model))
    rows += [
        _row("forecaster.prediction_every_10ms_p50", paced_us[0], "us"),
        _row("forecaster.prediction_every_10ms_p99", paced_us[1], "us", "<= 50"),
    ]
    for rival in rivals:
        for index, quantile in enumerate(("p50", "p99")):
            figures = times_us["step"][index], times_us[rival][index]
            rows.append(_row(f"forecaster.step_{quantile}", figures[0], "us", "", rival, figures[1]))
    return [
        *rows,
        _row("forecaster.load", median(_load_ms() for _ in range(_LOADS)), "ms", "<= 100"),
        _row("forecaster.memory", _memory_mb(), "MB", "<= 40"),
    ]


def _row(name: str, value: float, unit: str, bar: str = "", rival: str = "", rival_value: float | None = None) -> Row:
    return {
        "name": name,
        "value": round(value, 2),
        "unit": unit,
        "rival": rival,
        "rival_value": None if rival_value is None else round(rival_value, 2),
        "ratio": round(value / rival_value, 3) if rival_value else None,
        "bar": bar,
        "met": value <= float(bar.partition(" ")[2]) if bar else None,
    }


# ----------------------------------------------------------------------------------------------------------- time


def _times_us(steps: dict[str, Step]) -> dict[str, tuple[float, float]]:
    """Return median and p99 of each."""
    taken: dict[str, list[int]] = {name: [] for name in steps}
    for step in steps.values():
        _timed_ns(step, _WARM_UP)
    with _as_an_agent():
        for _ in range(_BLOCKS):
            for name, step in steps.items():
                taken[name] += _timed_ns(step, _BLOCK)
    return {name: (float(np.quantile(t, 0.5)) / _KB, float(np.quantile(t, 0.99)) / _KB) for name, t in taken.items()}


def _paced_us(step: Step) -> tuple[float, float]:
    """Return median and p99 of a step that runs once in an interval."""
    taken = []
    with _as_an_agent():
        due_ns = time.monotonic_ns()
        for index in range(_PACED):
            due_ns += _INTERVAL_NS
            kernel.sleep_until(due_ns)
            start = time.perf_counter_ns()
            step(index)
            taken.append(time.perf_counter_ns() - start)
    return float(np.quantile(taken, 0.5)) / _KB, float(np.quantile(taken, 0.99)) / _KB


@contextlib.contextmanager
def _as_an_agent() -> Iterator[None]:
    """Have a fixed priority, where that is permitted, and no garbage collection."""
    gc.collect()
    gc.disable()
    kernel.run_in_real_time(REAL_TIME_PRIORITY)
    try:
        yield
    finally:
        gc.enable()
        if os.sched_getscheduler(0) & os.SCHED_FIFO:
            os.sched_setscheduler(0, os.SCHED_OTHER | os.SCHED_RESET_ON_FORK, os.sched_param(0))


def _timed_ns(step: Step, count: int) -> list[int]:
    taken = []
    for index in range(count):
        start = time.perf_counter_ns()
        step(index)
        taken.append(time.perf_counter_ns() - start)
    return taken


def _samples(count: int) -> list[TrafficSampled]:
    rng = np.random.default_rng(1)
    columns = rng.integers(0, 125_000, (count, 9, 1))
    return [
        TrafficSampled(nodes=("n1",), interval_ns=_INTERVAL_NS, **dict(zip(MEASURED, column, strict=True)))
        for column in columns
    ]


def _prediction(model: Model) -> Step:
    rate_bps = np.array([_RATE_BPS])
    inner = LstmForecaster(model, ("n1",), rate_bps, _INTERVAL_NS)
    forecaster = GatedForecaster(inner, rate_bps, _INTERVAL_NS, model.quantile, len(HORIZON_SAMPLES) // 2)
    samples = _samples(_BLOCK)
    return lambda index: forecaster.step(samples[index], index)


class _Made:
    """A forecaster that says what was said before."""

    def __init__(self, model: Model, samples: list[TrafficSampled]) -> None:
        inner = LstmForecaster(model, ("n1",), np.array([_RATE_BPS]), _INTERVAL_NS)
        self.horizon_ns = inner.horizon_ns
        self._made = [inner.step(sample, index) for index, sample in enumerate(samples)]

    def step(self, sample: TrafficSampled, now_ns: int) -> ForecastMade:
        """Return the forecast of the sample number `now_ns`."""
        return self._made[now_ns]


def _calibration(model: Model) -> Step:
    samples = _samples(_BLOCK)
    forecaster = CorrectedForecaster(_Made(model, samples), np.array([_RATE_BPS]), _INTERVAL_NS, model.quantile)
    return lambda index: forecaster.step(samples[index], index)


def _inputs(model: Model) -> np.ndarray[Any, Any]:
    return np.random.default_rng(2).uniform(0, 3, (_BLOCK, 1, 1, model.features)).astype(np.float32)


def _cell(model: Model) -> Step:
    cell, inputs = Cell(model, 1), _inputs(model)

    def step(index: int) -> object:
        cell.inputs[:, 0] = inputs[index, 0, 0]
        cell.advance()
        return cell.growth_of_one()

    return step


def _rivals(model: Model) -> dict[str, Step]:
    """Return the steps of those runtimes that are installed, by name."""
    rivals: dict[str, Step] = {}
    if all(importlib.util.find_spec(name) is not None for name in ("onnx", "onnxruntime")):
        rivals["ONNX Runtime"] = _onnx_runtime(model)
    if importlib.util.find_spec("torch") is not None:
        rivals["torch, eager"] = _torch(model)
    return rivals


def _onnx_runtime(model: Model) -> Step:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    with tempfile.TemporaryDirectory(prefix="testbed-bench-") as folder:
        path = str(write_onnx(model, Path(folder) / "model.onnx"))
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    inputs = _inputs(model)
    state = [np.zeros((1, 1, model.hidden), dtype=np.float32) for _ in range(2)]

    def step(index: int) -> object:
        feed = {"features": inputs[index], "h": state[0], "c": state[1]}
        growth, _, state[0], state[1] = session.run(None, feed)
        return growth

    return step


def _torch(model: Model) -> Step:
    import torch

    from testbed.forecaster.training.network import ForecastNetwork

    torch.set_num_threads(1)
    network = ForecastNetwork(model.features, model.hidden, len(HORIZON_SAMPLES)).eval()
    inputs = [torch.from_numpy(one) for one in _inputs(model)]
    state: Any = None

    def step(index: int) -> object:
        nonlocal state
        with torch.inference_mode():
            growth, _, state = network(inputs[index], state)
        return growth

    return step


def _load_ms() -> float:
    start = time.perf_counter()
    load_model()
    return (time.perf_counter() - start) * 1e3


# --------------------------------------------------------------------------------------------------------- memory


def _memory_mb() -> float:
    said = commands.run(
        "measuring the memory of a forecast", [sys.executable, "-c", _MEASURE], timeout_s=60.0, tied=True
    )
    return float(json.loads(said)) / _MB


def private_bytes() -> int:
    """Return by how much this process' own memory grows when it loads the model and predicts."""
    before = _private_kib()
    step = _prediction(load_model())
    for index in range(_BLOCK):
        step(index)
    return (_private_kib() - before) * 1024


def _private_kib() -> int:
    rollup = Path("/proc/self/smaps_rollup").read_text(encoding="utf-8")
    return sum(int(kib) for kib in re.findall(r"^Private_\w+:\s+(\d+) kB", rollup, re.MULTILINE))
