"""The brain of a node: sample → precursors → forecast → size → pool → limit → balancer.

    TrafficSampled  ──▶ [SetBufferLimit (lower)] [RequestLimit] [NotifyBalancer]
    LimitGranted    ──▶ [SetBufferLimit] [NotifyBalancer]      at once, or when the actuation delay is over:
    DeadlineReached ──▶ [SetBufferLimit] [NotifyBalancer]

Memory safety is in the order.  A shrink lowers the limit first and gives the memory back second; an expansion has its
grant first and raises the limit second.  So the limits in force never add up to more than the pool, even between two
actions.  Actions name the nodes concerned and no others.

One brain decides for n nodes with arrays of shape [n]: an agent on the wire has n = 1, the simulation n = all.
"""

from __future__ import annotations

import numpy as np

from testbed.errors import InputError
from testbed.events import (
    Action,
    DeadlineReached,
    Event,
    Floats,
    Ints,
    LimitGranted,
    RequestLimit,
    SetBufferLimit,
    TrafficSampled,
)
from testbed.policies.actuation import Actuation
from testbed.policies.buffer import ShrinkHold
from testbed.policies.buffer_rules import PREDICTIVE, make_rule
from testbed.policies.forecast import Forecaster
from testbed.policies.forecast_path import sizing_horizon_ns
from testbed.policies.precursor import PrecursorPolicy
from testbed.policies.readiness import Readiness
from testbed.policies.rows import Bools, NodeRows
from testbed.spec.scenario import BufferSpec


class NodeBrain:
    """Decides the buffer limits of `nodes` and tells the balancer.

    Args:
        nodes: names, in the order of every sample.
        spec: the scenario's `buffer`.
        rate_bps: rates at which the nodes serve, shape [n].
        forecaster: for the predictive policies; others have none.
        pool_members: how many nodes share the pool; default these.

    Attributes:
        predicted_bytes: after a sample, the need within the horizon that sizes the buffer, shape [n]; where nothing
            predicts, the backlog.
        severity_ratio: after a sample, how strongly a burst is announced, 0..1, shape [n].

    Raises:
        InputError: when a predictive policy has no forecaster.
    """

    def __init__(
        self,
        nodes: tuple[str, ...],
        spec: BufferSpec,
        rate_bps: Ints,
        forecaster: Forecaster | None = None,
        *,
        pool_members: int | None = None,
    ) -> None:
        if forecaster is None and spec.policy in PREDICTIVE:
            raise InputError(f"buffer.policy {spec.policy}", "it predicts and has no forecaster", "hand one in")
        self.nodes = nodes
        self._rows = NodeRows(nodes)
        self._cap_bytes = spec.max_bytes
        self._rule = make_rule(spec, len(nodes), pool_members or len(nodes))
        self._initial = self._rule.initial_bytes()
        self._hold = ShrinkHold(self._initial, spec.shrink_hold_ns)
        self._actuation = Actuation(self._initial, spec.actuation_delay_ns)
        self._precursors = PrecursorPolicy(rate_bps)
        self._readiness = Readiness(self._rows, spec.max_bytes)
        self._forecaster = forecaster if spec.policy in PREDICTIVE else None
        self._column = 0 if self._forecaster is None else _column(self._forecaster.horizon_ns, spec)
        self.predicted_bytes: Ints = np.zeros(len(nodes), dtype=np.int64)
        self.severity_ratio: Floats = np.zeros(len(nodes))

    @property
    def limit_bytes(self) -> Ints:
        """Return the limits in force, shape [n]."""
        return self._actuation.limit_bytes

    def initial_limit_bytes(self) -> Ints:
        """Return the limits to start with, shape [n]; they are also the first grants of the pool."""
        initial: Ints = self._initial.copy()
        return initial

    def handle(self, event: Event, now_ns: int) -> list[Action]:
        """Take in a sample of all nodes, a grant or the end of an actuation delay."""
        if isinstance(event, TrafficSampled):
            return self._sampled(event, now_ns)
        if isinstance(event, LimitGranted):
            changed = self._actuation.grant(self._rows.of(event.nodes), event.granted_bytes, now_ns)
            return self._resized(changed, now_ns)
        if isinstance(event, DeadlineReached):
            return self._resized(self._actuation.release(now_ns), now_ns)
        return []

    def next_deadline_ns(self) -> int | None:
        """Return when the next expansion comes into force, or None."""
        return self._actuation.next_ready_ns

    def _sampled(self, sample: TrafficSampled, now_ns: int) -> list[Action]:
        changed = self._actuation.release(now_ns)
        self.severity_ratio = self._precursors.assess(sample).severity_ratio
        self.predicted_bytes = sample.backlog_bytes
        if self._forecaster is not None:
            self.predicted_bytes = self._forecaster.step(sample, now_ns).need_bytes[:, self._column]
        wish = self._rule.wish_bytes(sample, self.predicted_bytes, self.severity_ratio)
        want = np.maximum(self._hold.held(wish, now_ns), sample.backlog_bytes)
        np.minimum(want, self._cap_bytes, out=want)
        ask = want != self._actuation.granted_bytes
        if self._rule.asks_always:
            ask |= want > self._initial
        changed |= self._actuation.give_up(want)
        self._readiness.observe(sample, self.limit_bytes, self.predicted_bytes, self.severity_ratio)
        return [
            *self._set_limit(changed),
            *self._request(ask, want, sample.backlog_bytes),
            *self._readiness.notices(now_ns),
        ]

    def _resized(self, changed: Bools, now_ns: int) -> list[Action]:
        limits = self._set_limit(changed)
        if not limits:
            return []
        self._readiness.resized(self.limit_bytes)
        return [*limits, *self._readiness.notices(now_ns)]

    def _set_limit(self, changed: Bools) -> list[Action]:
        if not np.count_nonzero(changed):
            return []
        nodes, rows = self._rows.where(changed)
        return [SetBufferLimit(nodes, self.limit_bytes[rows].copy())]

    def _request(self, ask: Bools, want: Ints, backlog: Ints) -> list[Action]:
        if not np.count_nonzero(ask):
            return []
        nodes, rows = self._rows.where(ask)
        return [RequestLimit(nodes, want[rows].copy(), backlog[rows].copy())]


def _column(horizon_ns: tuple[int, ...], spec: BufferSpec) -> int:
    """Return which horizon sizes the buffer: the first that reaches as far as wanted, else the longest."""
    wanted = sizing_horizon_ns(spec)
    return next((column for column, horizon in enumerate(horizon_ns) if horizon >= wanted), len(horizon_ns) - 1)
