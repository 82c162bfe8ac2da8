"""The orchestrator: executes the orders of a scenario and of the autoscaler, in the same way in both engines.

    orders of the scenario ─────────────────────────┐
    loads ── autoscaler ─ ScaleDecided ─ SizeOrdered ─▶ lifecycle ─▶ StartNode, StopNode, stages to announce
    NodeReady, NodeFailed, NodeObserved ─────────────┘

It has no I/O. An engine asks when it must be woken (`next_ns`), passes its observations (`wake`, `tell`) and executes
the returned `Turn`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np

from testbed.policies.autoscaler import AUTOSCALER, Ahead, make_autoscaler
from testbed.policies.base import Policy, require_progress
from testbed.policies.lifecycle import LIFECYCLE, LOOK_NS, Lifecycle
from testbed.records.events import (
    Action,
    AddOrdered,
    DeadlineReached,
    DrainOrdered,
    Event,
    LoadMeasured,
    LogEntry,
    NodeObserved,
    ScaleDecided,
    SizeOrdered,
    StageOfLife,
    StagesAnnounced,
    StagesChanged,
    StartNode,
    StopNode,
    recast,
)
from testbed.scenario.fault_timeline import orders
from testbed.scenario.model import Scenario
from testbed.scenario.network import Network
from testbed.units import NS_PER_S

_PASSING = (StageOfLife.DRAINING, StageOfLife.LEAVING)


class NodeLook(NamedTuple):
    """What an engine observes of a node: counters since the start of the run, and the present queue."""

    arrived_pkts: int
    arrived_bytes: int
    backlog_bytes: int


Look = Callable[[], Mapping[str, NodeLook]]


class Noted(NamedTuple):
    """An input or output of one of the policies, or what came of it for the nodes (then without a direction)."""

    policy: str
    direction: Literal["in", "out"] | None
    record: Event | Action | LogEntry


@dataclass(slots=True)
class Turn:
    """The result of a turn.

    Attributes:
        history: inputs and outputs of the policies and changes of stages, in order.
        actions: nodes to start and to stop, in order.
        announced: the stages of the cluster, where they have changed.
    """

    history: list[Noted] = field(default_factory=list)
    actions: list[StartNode | StopNode] = field(default_factory=list)
    announced: StagesAnnounced | None = None


def make_lifecycle(scenario: Scenario, network: Network) -> Lifecycle:
    """Return the lifecycle policy for the nodes of a scenario."""
    names = tuple(node.name for node in network.nodes)
    idle_ns = -(-scenario.balancer.affinity_idle_ns // NS_PER_S) * NS_PER_S  # the switch uses whole seconds
    return Lifecycle(names, network.spare_nodes, scenario.autoscaler, idle_ns)


class Orchestrator:
    """Drives lifecycle and autoscaler."""

    def __init__(self, scenario: Scenario, network: Network, ahead: Ahead, look_every_ns: int | None = None) -> None:
        """Prepare for a scenario; `ahead` is for a rule that knows the plan.

        Nodes are observed at multiples of `look_every_ns`, by default `LOOK_NS` after an event.
        """
        self._look_every_ns = look_every_ns
        self._spec, self._orders = scenario.autoscaler, list(orders(scenario.faults))
        self._lifecycle = make_lifecycle(scenario, network)
        self._node_rate_bps = network.node_rate_bps(network.nodes[0].name)
        self._autoscaler = make_autoscaler(self._spec, self._node_rate_bps, ahead)
        self._measure_ns = self._spec.period_ns if self._spec.scales else None
        self._measured_bytes, self._measured_ns = 0, 0
        self._needed = 0  # nodes that the expected demand needs
        self._look_ns: int | None = None
        # draining or leaving node → its arrived packets, and since when this number has not changed
        self._arrived: dict[str, tuple[int, int]] = {}
        self._begun = self._ended = False

    @property
    def stages(self) -> StagesAnnounced:
        """Return the stage of every node."""
        return self._lifecycle.stages

    def next_ns(self) -> int | None:
        """Return when `wake` is due; None: never, unless an event comes before."""
        begin_ns = None if self._begun else 0
        due = (begin_ns, self._next_order_ns, self._measure_ns, self._look_ns, self._lifecycle.next_deadline_ns())
        return None if self._ended else min((at for at in due if at is not None), default=None)

    def end(self) -> None:
        """Execute no further orders: the traffic has ended."""
        self._ended = True

    def wake(self, now_ns: int, look: Look) -> Turn:
        """Do what is due; `look` is called if the nodes must be observed."""
        turn = Turn()
        if not self._begun:
            self._begun = True
            _note_stages(self.stages, turn)
        while self._next_order_ns is not None and self._next_order_ns <= now_ns:
            order = self._orders.pop(0)
            self._feed(AddOrdered(node=order.node) if order.adds else DrainOrdered(node=order.node), now_ns, turn)
        due_ns = self._lifecycle.next_deadline_ns()
        if due_ns is not None and due_ns <= now_ns:
            self._feed(DeadlineReached(), now_ns, turn)
            require_progress(LIFECYCLE, self._lifecycle, now_ns)
        if self._look_ns is not None and self._look_ns <= now_ns:
            self._observe(look(), now_ns, turn)
        if self._measure_ns is not None and self._measure_ns <= now_ns:
            self._measure(sum(seen.arrived_bytes for seen in look().values()), now_ns, turn)
        return self._ended_with(turn, now_ns)

    def expect(self, demand_bps: int) -> None:
        """Take in the demand that other sites announce: from the next decision on, no fewer nodes than it needs."""
        spec = self._spec
        used_bps = (spec.capacity_bps or self._node_rate_bps) * spec.utilisation_ratio
        self._needed = min(spec.max_nodes, -int(-demand_bps // used_bps))

    def tell(self, event: Event, now_ns: int) -> Turn:
        """Note that a node is ready or has failed."""
        turn = Turn()
        self._feed(event, now_ns, turn)
        return self._ended_with(turn, now_ns)

    @property
    def _next_order_ns(self) -> int | None:
        return self._orders[0].at_ns if self._orders else None

    def _observe(self, seen: Mapping[str, NodeLook], now_ns: int, turn: Turn) -> None:
        for node in self._lifecycle.at(*_PASSING):
            pkts, since_ns = self._arrived.get(node, (-1, now_ns))
            if seen[node].arrived_pkts != pkts:
                pkts, since_ns = seen[node].arrived_pkts, now_ns
            self._arrived[node] = pkts, since_ns
            backlog = seen[node].backlog_bytes
            self._feed(NodeObserved(node=node, silent_ns=now_ns - since_ns, backlog_bytes=backlog), now_ns, turn)
        self._look_ns = None

    def _measure(self, arrived_bytes: int, now_ns: int, turn: Turn) -> None:
        came, lasted_ns = arrived_bytes - self._measured_bytes, now_ns - self._measured_ns
        self._measured_bytes, self._measured_ns = arrived_bytes, now_ns
        self._measure_ns = now_ns // self._spec.period_ns * self._spec.period_ns + self._spec.period_ns
        at = self._lifecycle.at
        load = LoadMeasured(
            load_bps=round(came * 8 * NS_PER_S / lasted_ns),
            serving=len(at(StageOfLife.SERVING)),
            joining=len(at(StageOfLife.JOINING)),
        )
        for decided in _noted(AUTOSCALER, self._autoscaler, load, now_ns, turn):
            if isinstance(decided, ScaleDecided) and (size := max(decided.size, self._needed)) != decided.current:
                self._feed(SizeOrdered(size=size), now_ns, turn)

    def _feed(self, event: Event, now_ns: int, turn: Turn) -> None:
        before = self._lifecycle.stages.stage
        for action in _noted(LIFECYCLE, self._lifecycle, event, now_ns, turn):
            if isinstance(action, (StartNode, StopNode)):
                turn.actions.append(action)
        after = self._lifecycle.stages
        changed = np.flatnonzero(after.stage != before)
        if len(changed):
            turn.announced = after
            names = tuple(after.nodes[row] for row in changed.tolist())
            _note_stages(StagesAnnounced(nodes=names, stage=after.stage[changed]), turn)

    def _ended_with(self, turn: Turn, now_ns: int) -> Turn:
        """Return the turn; draining and leaving nodes are observed again soon."""
        passing = self._lifecycle.at(*_PASSING)
        self._arrived = {node: seen for node, seen in self._arrived.items() if node in passing}
        if passing and self._look_ns is None:
            every_ns = self._look_every_ns
            self._look_ns = now_ns + LOOK_NS if every_ns is None else now_ns // every_ns * every_ns + every_ns
        return turn


def _note_stages(stages: StagesAnnounced, turn: Turn) -> None:
    turn.history.append(Noted(LIFECYCLE, None, recast(stages, StagesChanged)))


def _noted(name: str, policy: Policy, event: Event, now_ns: int, turn: Turn) -> list[Action]:
    turn.history.append(Noted(name, "in", event))
    actions = policy.handle(event, now_ns)
    turn.history += [Noted(name, "out", action) for action in actions]
    return actions
