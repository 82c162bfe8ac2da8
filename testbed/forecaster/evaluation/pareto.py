"""Loss against reserved memory: every buffer policy over its own knob, compared at equal memory.

A policy can always buy less loss with more memory, so a comparison of two policies at their defaults shows nothing.
Each is scanned: `static` over its size, the predictive ones over margin and shrink hold, `reactive` and
`dynamic-threshold` over the shrink hold.  The points of a policy, thinned to those that no other point of it beats in
both, are joined by straight lines (a mixture in time reaches each point of them), and all of them, the LSTM's too, are
read off at one memory: the mean of the LSTM at its default hold and some margin.

A p99 delay cannot be read off between two points, since that of a mixture is none of theirs.  At equal memory *and*
equal delay each policy has those of its settings that take no more of either than the LSTM at that margin.

All queues are scaled to one rate.  The cap is the highest backlog that any series would reach, the floor a twentieth
of it: at the cap nothing is lost, so all loss is the policy's.  Memory is given in milliseconds of link time.

The margins of a policy run side by side as rows of one brain.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from testbed.forecaster.data.generate import NodeTraffic
from testbed.forecaster.evaluation.closed_loop import QueueLoop
from testbed.forecaster.runtime.artefact import Model
from testbed.forecaster.runtime.lstm import LstmForecaster
from testbed.policies import fluid
from testbed.policies.buffer_rules import make_forecaster
from testbed.policies.forecast import Forecaster
from testbed.policies.forecast_gated import GatedForecaster
from testbed.policies.forecast_oracle import KnownArrivals, OracleForecaster
from testbed.policies.forecast_path import horizons_ns, sizing_column
from testbed.records.events import Floats, ForecastMade, TrafficSampled
from testbed.scenario.buffer import MAX_BUFFER_BYTES, BufferSpec
from testbed.units import NS_PER_MS

REFERENCE, REFERENCE_MARGIN = "lstm", 1.25
MARGINS = (0.5, 0.75, 1.0, REFERENCE_MARGIN, 1.75, 2.5, 4.0)
DEFAULT_HOLD_MS = 200
HOLDS_MS = (0, DEFAULT_HOLD_MS, 800)
STATIC_SHARES = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0)
PREDICTIVE = ("ewma", "holt", "lstm", "lstm, gated", "oracle")
FLOOR_SHARE = 0.05
_LEAST_CAP_INTERVALS = 4.0
_EQUAL = 0.01  # so much more is still equal


@dataclass(frozen=True)
class Point:
    """A policy at one setting: lost over arrived bytes, mean limit in ms of link time, p99 of the queueing delay."""

    setting: str
    loss_ratio: float
    reserved_ms: float
    delay_p99_ms: float


class _WithMargins:
    """A forecaster whose needs are multiplied by a margin for each row."""

    def __init__(self, inner: Forecaster, margins: Floats) -> None:
        self._inner, self._margins = inner, margins[:, None]

    @property
    def horizon_ns(self) -> tuple[int, ...]:
        return self._inner.horizon_ns

    def step(self, sample: TrafficSampled, now_ns: int) -> ForecastMade:
        made = self._inner.step(sample, now_ns)
        need = np.rint(made.need_bytes * self._margins).astype(np.int64)
        return ForecastMade(nodes=made.nodes, horizon_ns=made.horizon_ns, need_bytes=need, onset_ratio=made.onset_ratio)


def pareto_curves(
    traffic: NodeTraffic,
    model: Model,
    actuation_ms: int,
    interval_ms: int,
    progress: Callable[[], None],
) -> dict[str, list[Point]]:
    """Return the points of every policy on `traffic`, whose nodes all have one rate."""
    low, high = (min(size, MAX_BUFFER_BYTES) for size in _range(traffic, interval_ms))  # no node has more
    setting = {
        "min": f"{low}B",
        "max": f"{high}B",
        "actuation_delay": f"{actuation_ms}ms",
        "sample_interval": f"{interval_ms}ms",
        "margin": 1.0,
    }
    curves: dict[str, list[Point]] = {"static": []}
    sizes = np.maximum(np.rint(np.array(STATIC_SHARES) * high), low).astype(np.int64)
    loop = QueueLoop(
        _repeated(traffic, len(sizes)), BufferSpec.model_validate({**setting, "policy": "static-min"}), None
    )
    loop.run_static(np.repeat(sizes, len(traffic.rate_bps)))
    curves["static"] = _points(loop, [f"{size:.0%} of the cap" for size in STATIC_SHARES])
    progress()
    for policy in ("reactive", "dynamic-threshold"):
        curves[policy] = [_held(traffic, {**setting, "policy": policy}, hold) for hold in HOLDS_MS]
        progress()
    rows = _repeated(traffic, len(MARGINS))
    for name in PREDICTIVE:
        curves[name] = []
        for hold in HOLDS_MS:
            curves[name] += _scanned(name, rows, {**setting, "shrink_hold": f"{hold}ms"}, model)
            progress()
    return curves


def _scanned(name: str, rows: NodeTraffic, setting: dict[str, object], model: Model) -> list[Point]:
    """Return the points of a predictive policy at all margins, which `rows` have one after the other."""
    spec = BufferSpec.model_validate({**setting, "policy": name.partition(",")[0]})
    margins = np.repeat(MARGINS, len(rows.rate_bps) // len(MARGINS))
    loop = QueueLoop(rows, spec, _WithMargins(_forecaster(name, spec, rows, model), margins))
    loop.run()
    return _points(loop, [_setting(margin, spec.shrink_hold_ns // NS_PER_MS) for margin in MARGINS])


def _setting(margin: float, hold_ms: int) -> str:
    return f"margin {margin:g}" + ("" if hold_ms == DEFAULT_HOLD_MS else f", shrink hold {hold_ms} ms")


def _range(traffic: NodeTraffic, interval_ms: int) -> tuple[int, int]:
    """Return floor and cap of the limits."""
    served = fluid.service_bytes(traffic.rate_bps, NS_PER_MS)
    path = fluid.backlog_path(traffic.arrived_bytes, served, np.zeros(len(served)))
    high = max(float(path.max()), float(served[0]) * interval_ms * _LEAST_CAP_INTERVALS) * 1.01
    return max(1, round(high * FLOOR_SHARE)), round(high) + 1


def _repeated(traffic: NodeTraffic, times: int) -> NodeTraffic:
    return NodeTraffic(
        np.tile(traffic.rate_bps, times),
        np.tile(traffic.arrived_bytes, (times, 1)),
        np.tile(traffic.new_flows, (times, 1)),
        np.tile(traffic.strength, times),
    )


def _held(traffic: NodeTraffic, setting: dict[str, object], hold_ms: int) -> Point:
    loop = QueueLoop(traffic, BufferSpec.model_validate({**setting, "shrink_hold": f"{hold_ms}ms"}), None)
    loop.run()
    return _points(loop, [f"shrink hold {hold_ms} ms"])[0]


def _forecaster(name: str, spec: BufferSpec, traffic: NodeTraffic, model: Model) -> Forecaster:
    if spec.policy == "oracle":
        return OracleForecaster(KnownArrivals(traffic.arrived_bytes, NS_PER_MS), traffic.rate_bps, horizons_ns(spec))
    if spec.policy == "lstm":
        nodes = tuple(f"n{number}" for number in range(1, len(traffic.rate_bps) + 1))
        forecaster: Forecaster = LstmForecaster(model, nodes, traffic.rate_bps, spec.sample_interval_ns)
        if name != "lstm":
            setting = (traffic.rate_bps, spec.sample_interval_ns, model.quantile)
            forecaster = GatedForecaster(forecaster, *setting, sizing_column(forecaster.horizon_ns, spec))
        return forecaster
    made = make_forecaster(spec, traffic.rate_bps)
    if made is None:
        raise ValueError(f"{spec.policy} does not predict")
    return made


def _points(loop: QueueLoop, settings: Sequence[str]) -> list[Point]:
    """Return one point for each setting; the rows of a setting lie together."""
    parts = np.array_split(np.arange(len(loop.mean_limit_bytes)), len(settings))
    return [Point(setting, *loop.outcome(rows)) for setting, rows in zip(settings, parts, strict=True)]


def loss_at(points: Sequence[Point], reserved_ms: float) -> float | None:
    """Return what a policy loses at that mean memory, along its frontier; None where it cannot do with so little."""
    frontier = _frontier(points)
    memory = [point.reserved_ms for point in frontier]
    if reserved_ms < memory[0] * (1 - 1e-9):
        return None
    return float(np.interp(reserved_ms, memory, [point.loss_ratio for point in frontier]))


def _frontier(points: Sequence[Point]) -> list[Point]:
    kept: list[Point] = []
    for point in sorted(points, key=lambda point: (point.reserved_ms, point.loss_ratio)):
        if not kept or point.loss_ratio < kept[-1].loss_ratio:
            kept.append(point)
    return kept


def loss_within(points: Sequence[Point], most: Point) -> float | None:
    """Return the least loss of the settings with no more memory and no higher p99 delay than `most` has; None: none."""
    memory, delay = (limit * (1 + _EQUAL) for limit in (most.reserved_ms, most.delay_p99_ms))
    losses = [one.loss_ratio for one in points if one.reserved_ms <= memory and one.delay_p99_ms <= delay]
    return min(losses, default=None)


def at_equal_memory(curves: dict[str, list[Point]], setting: str) -> dict[str, object]:
    """Return the losses of all at the memory of the reference at `setting`, and the ratio to the best rival."""
    reference = next(point for point in curves[REFERENCE] if point.setting == setting)
    losses = {name: loss_at(points, reference.reserved_ms) for name, points in curves.items()}
    rivals = {
        name: loss for name, loss in losses.items() if loss is not None and name.split(",")[0] not in ("lstm", "oracle")
    }
    best = min(rivals, key=lambda name: rivals[name]) if rivals else None
    own = losses[REFERENCE]
    ratio = own / rivals[best] if own is not None and best and rivals[best] > 0 else None
    return {
        "setting": setting,
        "reserved_ms": reference.reserved_ms,
        "delay_p99_ms": reference.delay_p99_ms,
        "loss_ratio_at_equal_delay": {name: loss_within(points, reference) for name, points in curves.items()},
        "loss_ratio": losses,
        "best_rival": best,
        "lstm_over_best_rival": ratio,
    }
