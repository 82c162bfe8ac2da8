"""Closed loop: what a forecast is worth to a queue, under the buffer policies themselves.

S nodes with their own arrivals run side by side through fluid queues in bins of a millisecond.  Every sample interval
the `NodeBrain` of a policy sees what an agent would see; what it asks of the pool is granted at once; the limit holds
after the actuation delay.  `static-mean` holds what `lstm` reserved on the mean: the rival at equal memory.

It is the yardstick of the model card, quick and without the network around the queue.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from testbed import units
from testbed.cortex.artefact import Model
from testbed.cortex.generate import NodeTraffic
from testbed.cortex.runtime import LstmForecaster
from testbed.cortex.targets import LOOK_AHEAD
from testbed.events import DeadlineReached, Floats, Ints, LimitGranted, RequestLimit, TrafficSampled
from testbed.policies import fluid
from testbed.policies.brain import NodeBrain
from testbed.policies.forecast import Forecaster
from testbed.policies.forecast_oracle import KnownArrivals, OracleForecaster
from testbed.policies.forecast_path import horizons_ns
from testbed.policies.forecasters import make_forecaster
from testbed.spec.scenario import BufferSpec

POLICIES = ("static-min", "reactive", "holt", "lstm", "oracle", "static-mean", "static-max")
_INTERVAL_NS = 10 * units.NS_PER_MS


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
    loop = _Loop(traffic, spec, forecaster)
    bins_per_sample = spec.sample_interval_ns // units.NS_PER_MS
    steps = traffic.arrived_bytes.shape[1] // bins_per_sample - LOOK_AHEAD
    reserved = 0.0
    for step in range(steps):
        loop.run_sample(step * bins_per_sample, bins_per_sample)
        reserved += float(loop.brain.limit_bytes.mean())
    arrived = int(traffic.arrived_bytes[:, : steps * bins_per_sample].sum())
    return LoopResult(float(loop.lost_bytes.sum()) / arrived, reserved / steps)


class _Loop:
    """The queues and their brain."""

    def __init__(self, traffic: NodeTraffic, spec: BufferSpec, forecaster: Forecaster | None) -> None:
        self._nodes = _names(traffic)
        self._arrived = np.ascontiguousarray(traffic.arrived_bytes.T)
        self._new_flows = np.ascontiguousarray(traffic.new_flows.T)
        self._served = fluid.service_bytes(traffic.rate_bps, units.NS_PER_MS)
        self.brain = NodeBrain(self._nodes, spec, traffic.rate_bps, forecaster)
        self._backlog: Floats = np.zeros(len(self._nodes))
        self.lost_bytes: Floats = np.zeros(len(self._nodes))

    def run_sample(self, first_bin: int, bins: int) -> None:
        """Serve the bins of a sample and let the brain decide at its end."""
        lost_before = self.lost_bytes.copy()
        for index in range(first_bin, first_bin + bins):
            self._wake(index * units.NS_PER_MS)
            limit = self.brain.limit_bytes
            self._backlog, lost = fluid.serve_bin(self._backlog, self._arrived[index], self._served, limit)
            self.lost_bytes += lost
        end = first_bin + bins
        sample = self._sample(slice(first_bin, end), (self.lost_bytes - lost_before).astype(np.int64))
        self._decide(sample, end * units.NS_PER_MS)

    def _wake(self, now_ns: int) -> None:
        deadline = self.brain.next_deadline_ns()
        if deadline is not None and deadline <= now_ns:
            self.brain.handle(DeadlineReached(), now_ns)

    def _decide(self, sample: TrafficSampled, now_ns: int) -> None:
        for action in self.brain.handle(sample, now_ns):
            if isinstance(action, RequestLimit):
                self.brain.handle(LimitGranted(action.nodes, action.wanted_bytes), now_ns)

    def _sample(self, window: slice, dropped_bytes: Ints) -> TrafficSampled:
        arrived, none = self._arrived[window], np.zeros(len(self._nodes), dtype=np.int64)
        return TrafficSampled(
            nodes=self._nodes,
            interval_ns=_INTERVAL_NS,
            arrived_bytes=arrived.sum(axis=0),
            arrived_pkts=none,
            dropped_bytes=dropped_bytes,
            dropped_pkts=none,
            backlog_bytes=fluid.whole_bytes(self._backlog),
            limit_bytes=self.brain.limit_bytes,
            new_flows=np.rint(self._new_flows[window].sum(axis=0)).astype(np.int64),
            gap_max_ns=np.full(len(self._nodes), units.NS_PER_MS),
            peak_1ms_bytes=arrived.max(axis=0),
        )
