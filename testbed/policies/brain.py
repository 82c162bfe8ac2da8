"""The brain of a node: sample → precursors → forecast → size → pool → limit → balancer.

    TrafficSampled  ──▶ [SetBufferLimit (lower)] [RequestLimit] [NotifyBalancer]
    LimitGranted    ──▶ [SetBufferLimit] [NotifyBalancer]      at once, or when the actuation delay is over:
    DeadlineReached ──▶ [SetBufferLimit] [NotifyBalancer]
    PeersAssessed   ──▶ nothing; used with the next sample (``peers.py``)

The order of the actions keeps the memory within the pool.  A shrink first lowers the limit and then returns the memory;
an expansion first gets the grant and then raises the limit.  So the sum of the limits in force never exceeds the pool,
not even between two actions.  Actions name only the nodes concerned.

One brain decides for n nodes with arrays of shape [n], or for one node with plain numbers (see `arithmetic`).  A brain
decides for the nodes of one cohort (`cohorts`).
"""

from __future__ import annotations

from testbed.errors import InputError
from testbed.policies.actuation import Actuation
from testbed.policies.arithmetic import Arrays, Mask, Numbers, Values
from testbed.policies.buffer import ShrinkHold, buffer_policy
from testbed.policies.buffer_rules import heeds_peers, make_rule
from testbed.policies.forecast import Forecaster
from testbed.policies.forecast_path import sizing_column
from testbed.policies.peers import joined
from testbed.policies.precursor import PrecursorPolicy
from testbed.policies.readiness import Readiness
from testbed.policies.rows import NodeRows
from testbed.policies.sojourn import caps_bytes
from testbed.records.events import (
    Action,
    DeadlineReached,
    Event,
    Floats,
    Ints,
    LimitGranted,
    PeersAssessed,
    RequestLimit,
    SetBufferLimit,
    TrafficSampled,
)
from testbed.scenario.buffer import BufferSpec


class NodeBrain:
    """Decides the buffer limits of `nodes` and notifies the balancer.

    Args:
        nodes: names, in the order of every sample.
        spec: the scenario's `buffer`.
        rate_bps: service rates of the nodes, shape [n].
        forecaster: for predictive policies; None for others.
        pool_members: number of nodes that share the pool; default: these nodes.

    Attributes:
        heeds_peers: whether it uses `PeersAssessed`.

    Raises:
        InputError: a predictive policy has no forecaster.
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
        row = buffer_policy(spec.policy)
        predicts, self._sheds = row.predicts, row.sheds
        if forecaster is None and predicts:
            raise InputError(f"buffer.policy {spec.policy}", "it predicts, but has no forecaster", "pass a forecaster")
        self.nodes = nodes
        self._rows = NodeRows(nodes)
        self._ops = ops = Arrays if len(nodes) > 1 else Numbers
        self._caps = ops.of_array(caps_bytes(spec, rate_bps))
        self._rule = make_rule(spec, rate_bps, pool_members or len(nodes), ops)
        self._initial = ops.minimum(ops.of_array(self._rule.initial_bytes()), self._caps)
        self._hold = ShrinkHold(self._initial, spec.shrink_hold_ns)
        self._actuation = Actuation(self._initial, spec.actuation_delay_ns)
        self._precursors = PrecursorPolicy(ops.of_array(rate_bps))
        self._readiness = Readiness(self._rows, spec.max_bytes, self._initial)
        self._forecaster = forecaster if predicts else None
        self._column = 0 if self._forecaster is None else sizing_column(self._forecaster.horizon_ns, spec)
        self._predicted, self._severity = self._initial * 0, 0.0 * self._initial
        self._peers = 0.0 * self._initial
        self.heeds_peers = heeds_peers(spec)

    @property
    def limit_bytes(self) -> Ints:
        """Return the limits in force, shape [n]."""
        limits: Ints = self._ops.to_array(self._actuation.limit_bytes)
        return limits

    @property
    def predicted_bytes(self) -> Ints:
        """Return the forecast need at the last sample, for the sizing horizon; without a forecaster, the backlog."""
        predicted: Ints = self._ops.to_array(self._predicted)
        return predicted

    @property
    def severity_ratio(self) -> Floats:
        """Return the severity of the precursors in the last sample, 0 to 1, shape [n]."""
        severity: Floats = self._ops.to_array(self._severity)
        return severity

    def initial_limit_bytes(self) -> Ints:
        """Return the initial limits, shape [n]; they are also the initial grants of the pool."""
        limits: Ints = self._ops.to_array(self._initial)
        return limits

    def handle(self, event: Event, now_ns: int) -> list[Action]:
        """Process a sample of all nodes, a grant or the end of an actuation delay."""
        if isinstance(event, TrafficSampled):
            return self._sampled(event, now_ns)
        if isinstance(event, LimitGranted):
            granted = self._ops.of_array(event.granted_bytes)
            changed = self._actuation.grant(self._rows.of(event.nodes), granted, now_ns)
            return self._resized(changed, now_ns)
        if isinstance(event, DeadlineReached):
            return self._resized(self._actuation.release(now_ns), now_ns)
        if isinstance(event, PeersAssessed):
            announced = self._ops.of_array(event.severity_ratio)
            self._peers = self._ops.replaced(self._peers, self._rows.of(event.nodes), announced)
        return []

    def next_deadline_ns(self) -> int | None:
        """Return when the next expansion takes effect, or None."""
        return self._actuation.next_ready_ns

    def _sampled(self, event: TrafficSampled, now_ns: int) -> list[Action]:
        ops, sample = self._ops, self._ops.of_sample(event)
        changed = self._actuation.release(now_ns)
        self._severity = self._precursors.severity_ratio(sample)
        self._predicted = sample.backlog_bytes
        if self._forecaster is not None:
            self._predicted = ops.of_array(self._forecaster.step(event, now_ns).need_bytes[:, self._column])
        wish = self._rule.wish_bytes(sample, self._predicted, joined(self._severity, self._peers))
        if not self._sheds:
            wish = ops.maximum(self._hold.held(wish, now_ns), sample.backlog_bytes)
        want = ops.minimum(wish, self._caps)
        ask = want != self._actuation.granted_bytes
        if self._rule.asks_always:
            ask = ask | (want > self._initial)
        changed = changed | self._actuation.give_up(want)
        self._readiness.observe(sample, self._actuation.limit_bytes, self._predicted, self._severity)
        return [
            *self._set_limit(changed),
            *self._request(ask, want, sample.backlog_bytes),
            *self._readiness.notices(now_ns),
        ]

    def _resized(self, changed: Mask, now_ns: int) -> list[Action]:
        limits = self._set_limit(changed)
        if not limits:
            return []
        self._readiness.resized(self._actuation.limit_bytes)
        return [*limits, *self._readiness.notices(now_ns)]

    def _set_limit(self, changed: Mask) -> list[Action]:
        if not self._ops.any(changed):
            return []
        nodes, rows = self._rows.where(self._ops.to_array(changed))
        return [SetBufferLimit(nodes=nodes, limit_bytes=self.limit_bytes[rows])]

    def _request(self, ask: Mask, want: Values, backlog: Values) -> list[Action]:
        ops = self._ops
        if not ops.any(ask):
            return []
        nodes, rows = self._rows.where(ops.to_array(ask))
        return [
            RequestLimit(nodes=nodes, wanted_bytes=ops.to_array(want)[rows], used_bytes=ops.to_array(backlog)[rows])
        ]
