"""Closed loop: what a forecast is worth to a queue, under the buffer policies themselves.

S nodes with their own arrivals run side by side through fluid queues in bins of a millisecond.  Every sample interval
the `NodeBrain` of a policy sees what an agent would see; what it asks of the pool is granted at once; the limit holds
after the actuation delay.  `static-mean` holds what `lstm` reserved on the mean: the rival at equal memory.

All start at the floor, with nothing seen.  A static buffer has its size from the first byte on, so in a short series
the start alone would decide.  Nothing is counted until a forecast can be in force: its warm-up and one actuation.

It is the yardstick of the model card, quick and without the network around the queue.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from testbed import units
from testbed.forecaster.data.generate import NodeTraffic
from testbed.forecaster.runtime.artefact import Model
from testbed.forecaster.runtime.horizons import LOOK_AHEAD
from testbed.forecaster.runtime.lstm import WARM_UP_SAMPLES, LstmForecaster
from testbed.policies import fluid
from testbed.policies.base import require_progress
from testbed.policies.brain import NodeBrain
from testbed.policies.buffer_rules import make_forecaster
from testbed.policies.forecast import Forecaster
from testbed.policies.forecast_oracle import KnownArrivals, OracleForecaster
from testbed.policies.forecast_path import horizons_ns
from testbed.records.events import DeadlineReached, Floats, Ints, LimitGranted, RequestLimit, TrafficSampled
from testbed.scenario.buffer import BufferSpec

POLICIES = ("static-min", "reactive", "holt", "lstm", "oracle", "static-mean", "static-max")


@dataclass(frozen=True)
class LoopResult:
    """What came of a policy: lost over arrived bytes, and the limit in force, mean over nodes and time."""

    loss_ratio: float
    mean_limit_bytes: float


def compare_policies(traffic: NodeTraffic, model: Model, actuation_ms: int) -> dict[str, LoopResult]:
    """Return the result of each of `POLICIES` on the same arrivals."""
    results: dict[str, LoopResult] = {}
    for policy in POLICIES:
        data = {"policy": policy, "actuation_delay": f"{actuation_ms}ms", "sample_interval": "10ms"}
        if policy == "static-mean":
            data["mean"] = f"{round(results['lstm'].mean_limit_bytes)}B"
        spec = BufferSpec.model_validate(data)
        results[policy] = run_loop(traffic, spec, _forecaster(spec, traffic, model))
    return results


def _forecaster(spec: BufferSpec, traffic: NodeTraffic, model: Model) -> Forecaster | None:
    if spec.policy == "lstm":
        return LstmForecaster(model, _names(traffic), traffic.rate_bps, spec.sample_interval_ns)
    if spec.policy == "oracle":
        known = KnownArrivals(traffic.arrived_bytes, units.NS_PER_MS)
        return OracleForecaster(known, traffic.rate_bps, horizons_ns(spec))
    return make_forecaster(spec, traffic.rate_bps)


def _names(traffic: NodeTraffic) -> tuple[str, ...]:
    return tuple(f"n{number}" for number in range(1, len(traffic.rate_bps) + 1))


def run_loop(traffic: NodeTraffic, spec: BufferSpec, forecaster: Forecaster | None) -> LoopResult:
    """Return what the policy of `spec` loses and reserves on `traffic`; its last samples are future only."""
    loop = QueueLoop(traffic, spec, forecaster)
    loop.run()
    return LoopResult(float(loop.lost_bytes.sum()) / loop.arrived_bytes, float(loop.mean_limit_bytes.mean()))


class QueueLoop:
    """Queues side by side and the brain that sizes them.

    Attributes:
        mean_limit_bytes: limit in force of each queue, mean over the time that counts, [n].
    """

    def __init__(self, traffic: NodeTraffic, spec: BufferSpec, forecaster: Forecaster | None) -> None:
        self._nodes = _names(traffic)
        self._arrived = np.ascontiguousarray(traffic.arrived_bytes.T)
        self._new_flows = np.ascontiguousarray(traffic.new_flows.T)
        self._served = fluid.service_bytes(traffic.rate_bps, units.NS_PER_MS)
        self._interval_ns = spec.sample_interval_ns
        self._bins = spec.sample_interval_ns // units.NS_PER_MS
        self._steps = len(self._arrived) // self._bins - LOOK_AHEAD
        start = WARM_UP_SAMPLES - (-spec.actuation_delay_ns // spec.sample_interval_ns)
        self._start = min(start, self._steps // 2)
        self._counted = slice(self._start * self._bins, self._steps * self._bins)
        self.brain = NodeBrain(self._nodes, spec, traffic.rate_bps, forecaster)
        self._backlog: Floats = np.zeros(len(self._nodes))
        self._waited = np.zeros((self._steps * self._bins, len(self._nodes)), dtype=np.float32)
        self._lost = np.zeros_like(self._waited)
        self.mean_limit_bytes: Floats = np.zeros(len(self._nodes))

    @property
    def arrived_bytes(self) -> int:
        """Return what arrives at all queues in the time that counts."""
        return int(self._arrived[self._counted].sum())

    @property
    def lost_bytes(self) -> Floats:
        """Return what each queue lost in the time that counts, [n]."""
        return np.asarray(self._lost[self._counted].sum(axis=0, dtype=np.float64))

    def run(self) -> None:
        """Run to the end; the last samples are future only."""
        for step in range(self._steps):
            self._run_sample(step * self._bins)
            if step >= self._start:
                self.mean_limit_bytes += self.brain.limit_bytes
        self.mean_limit_bytes /= self._steps - self._start

    def run_static(self, limit_bytes: Ints) -> None:
        """Run to the end with limits [n] that nobody changes."""
        for index in range(len(self._waited)):
            self._serve(index, limit_bytes)
        self.mean_limit_bytes += limit_bytes

    def outcome(self, rows: Ints) -> tuple[float, float, float]:
        """Return loss ratio, mean limit and p99 of the queueing delay of what was served, both in ms of link time."""
        arrived, lost = self._arrived[self._counted][:, rows], self._lost[self._counted][:, rows]
        served = np.maximum(arrived - lost, 0.0).ravel()
        waited_ms = (self._waited[self._counted][:, rows] / self._served[rows]).ravel()
        total = max(float(arrived.sum()), 1.0)
        reserved_ms = float((self.mean_limit_bytes[rows] / self._served[rows]).mean())
        return float(lost.sum(dtype=np.float64)) / total, reserved_ms, _weighted_quantile(waited_ms, served, 0.99)

    def _run_sample(self, first_bin: int) -> None:
        """Serve the bins of a sample and let the brain decide at its end."""
        end = first_bin + self._bins
        for index in range(first_bin, end):
            self._wake(index * units.NS_PER_MS)
            self._serve(index, self.brain.limit_bytes)
        sample = self._sample(slice(first_bin, end))
        self._decide(sample, end * units.NS_PER_MS)

    def _serve(self, index: int, limit_bytes: Ints) -> None:
        self._backlog, lost = fluid.serve_bin(self._backlog, self._arrived[index], self._served, limit_bytes)
        self._waited[index], self._lost[index] = self._backlog, lost

    def _wake(self, now_ns: int) -> None:
        deadline = self.brain.next_deadline_ns()
        if deadline is not None and deadline <= now_ns:
            self.brain.handle(DeadlineReached(), now_ns)
            require_progress("brain", self.brain, now_ns)

    def _decide(self, sample: TrafficSampled, now_ns: int) -> None:
        for action in self.brain.handle(sample, now_ns):
            if isinstance(action, RequestLimit):
                self.brain.handle(LimitGranted(nodes=action.nodes, granted_bytes=action.wanted_bytes), now_ns)

    def _sample(self, window: slice) -> TrafficSampled:
        arrived, none = self._arrived[window], np.zeros(len(self._nodes), dtype=np.int64)
        return TrafficSampled(
            nodes=self._nodes,
            interval_ns=self._interval_ns,
            arrived_bytes=arrived.sum(axis=0),
            arrived_pkts=none,
            dropped_bytes=self._lost[window].sum(axis=0, dtype=np.float64).astype(np.int64),
            dropped_pkts=none,
            backlog_bytes=fluid.whole_bytes(self._backlog),
            limit_bytes=self.brain.limit_bytes,
            new_flows=np.rint(self._new_flows[window].sum(axis=0)).astype(np.int64),
            gap_max_ns=np.full(len(self._nodes), units.NS_PER_MS),
            peak_1ms_bytes=arrived.max(axis=0),
        )


def _weighted_quantile(values: Floats, weights: Floats, share: float) -> float:
    """Return the least value below which `share` of the weight lies; 0 where nothing weighs."""
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    if total[-1] <= 0:
        return 0.0
    return float(values[order][np.searchsorted(total, share * total[-1])])
