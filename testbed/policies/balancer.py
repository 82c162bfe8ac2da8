"""The balancer: which nodes serve, and how the slots of the switch's table are divided among them.

Membership and weights are separate.  A *rule* (one file each, ``balancer_*.py``) assigns the slots from the notified
state.  This file decides when the rule is called and which nodes take part.

**Changes are rate-limited.**  After a change of weights the switch revalidates every cached flow.  So the rule is
called at most every `REWEIGH_INTERVAL_NS`, and a change of less than 1/16 of the table is ignored.  A change of
membership takes effect at once.

**No decision about a node without its state.**  A rule that uses the state of the nodes is called only while the state
of every serving node is known (`balancer_view`).  Until then all nodes have the shares of `by-rate` (equal shares for
equal nodes).  Otherwise a node that has not notified would look like an idle node with an empty buffer, or like a node
without a buffer, and flows that are placed by this wrong state remain pinned.  This applies to the start, to a node
that returns, and to any time without notifications.  A node that never notifies is removed by the timeout.

**The notification timeout.**  A node that stops notifying is removed after `SILENT_PAUSES` of the longest pauses
between two notifications (500 ms for sample intervals up to 100 ms).  It returns with its next notification.  A node is
also removed when its port goes down or the mesh declares it dead.  It returns with the `NodeJoined` that names the same
reason (a `NodeJoined` without a reason ends all of them).

**Planned changes of the cluster** are announced as a whole (`StagesAnnounced`).  A draining node has no slots and keeps
its flows.  A node that is absent, joining or leaving does not take part; the reason is ``drain``.  If only draining
nodes are left, they serve.

**Suspect yourself first** (Dadgar et al., "Lifeguard", 2018).  A node counts as silent only if another node has
notified in the last half of the timeout.  If all nodes fall silent at once, this process itself was stopped or cut off:
no node is removed, and all timeouts restart with the next notification.  The last serving node is never removed; the
table stays as it is.

The order of the actions ensures that the switch never sends a new flow to a removed node: first restore nodes, then
assign slots, then remove nodes.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from testbed.policies import guard
from testbed.policies.agreement import REASON as MESH
from testbed.policies.balancer_by_rate import ByRate
from testbed.policies.balancer_view import ClusterView, FlowPlacer, SlotRule, balancer_row
from testbed.policies.readiness import KEEPALIVE_NS, SILENT_PAUSES
from testbed.policies.slots import deal, slot_count
from testbed.records.events import (
    Action,
    DeadlineReached,
    Event,
    FlowArrived,
    NodeJoined,
    NodeLeft,
    NodesNotified,
    PlaceFlow,
    RemoveNode,
    RestoreNode,
    SetSlots,
    StageOfLife,
    StagesAnnounced,
)
from testbed.scenario.balancer import BalancerSpec
from testbed.scenario.tables import BALANCER_POLICIES
from testbed.units import NS_PER_MS

REWEIGH_INTERVAL_NS = 20 * NS_PER_MS
PORT_DOWN = "port"  # the reason of a `NodeLeft` when the port of a node goes down
LEAST_CHANGE_RATIO = 1 / 16

_BY_RATE = ByRate()
_SILENT, _DRAIN = "notifications", "drain"
_FORWARDING = (StageOfLife.SERVING, StageOfLife.DRAINING)
_NEVER = -(2**62)


def make_balancer(
    spec: BalancerSpec,
    nodes: tuple[str, ...],
    rng: random.Random,
    pause_ns: int = KEEPALIVE_NS,
    rates_bps: Sequence[int] = (),
    absent: Collection[str] = (),
) -> BalancerPolicy:
    """Return the policy of `spec` for `nodes`; all of them serve except the `absent` ones.

    Args:
        spec: which rule.
        nodes: names.
        rng: used only by this policy.
        pause_ns: longest time between two notifications of a live node (`readiness.longest_pause_ns`).
        rates_bps: service rates of the nodes; without it they are equal.
        absent: nodes that may be added.
    """
    make = balancer_row(spec.policy).rule
    if BALANCER_POLICIES.is_ours(spec.policy):
        rule = make(slot_count(len(nodes)), len(nodes), rng)
    else:
        rule = guard.slot_rule(make, slot_count(len(nodes)), len(nodes), rng)
    return BalancerPolicy(ClusterView(nodes, pause_ns, rates_bps), rule, pause_ns, absent)


class BalancerPolicy:
    """Membership and weights: every balancer event in; `SetSlots`, `PlaceFlow`, `RemoveNode`, `RestoreNode` out.

    Unknown nodes are ignored.
    """

    def __init__(self, view: ClusterView, rule: SlotRule, pause_ns: int, absent: Collection[str] = ()) -> None:
        """Compute the first table; it is `slots`, and no action announces it."""
        nodes, self._view = view.nodes, view
        self._rule, self._silence_ns = rule, SILENT_PAUSES * pause_ns
        self._placer = rule if isinstance(rule, FlowPlacer) else None
        self._away: list[set[str]] = [
            {_DRAIN} if node in absent else set() for node in nodes
        ]  # the reasons why each node does not serve
        self._forwarding = self._view.serving = self._present()
        self._draining = np.zeros(len(nodes), dtype=bool)
        self._heard_ns = np.full(len(nodes), _NEVER, dtype=np.int64)
        self._asked_ns = _NEVER  # last call of the rule
        self._news = False  # a notification has arrived since
        self._checked_ns = _NEVER  # last check of the timeouts
        somebody = bool(view.serving.any())
        weights = view.service_bps * view.serving if somebody else view.service_bps
        first = deal(weights.astype(np.float64), slot_count(len(nodes)))
        self._table = first if rule.heeds_state or not somebody else rule.slots(first, self._view)

    @property
    def slots(self) -> tuple[str, ...]:
        """Return the node of each slot, according to the last `SetSlots`."""
        return tuple(map(self._view.nodes.__getitem__, self._table.tolist()))

    @property
    def serving_bps(self) -> int:
        """Return the total rate of the nodes that may get new flows; 0 where none is there."""
        there = self._view.serving & self._present()
        return int(self._view.service_bps[there].sum())

    def handle(self, event: Event, now_ns: int) -> list[Action]:
        """See `Policy.handle`."""
        if isinstance(event, NodesNotified):
            self._hear(event, now_ns)
        elif isinstance(event, NodeLeft):
            self._leave(event)
        elif isinstance(event, NodeJoined):
            self._join(event, now_ns)
        elif isinstance(event, StagesAnnounced):
            self._take_stages(event, now_ns)
        elif isinstance(event, FlowArrived):
            return self._place(event, now_ns)
        elif not isinstance(event, DeadlineReached):
            return []
        self._check_timeouts(now_ns)
        return self._decide(now_ns)

    def next_deadline_ns(self) -> int | None:
        """See `Policy.next_deadline_ns`: the next deal with new notifications, or the next notification timeout."""
        deadlines = [self._asked_ns + REWEIGH_INTERVAL_NS] if self._news else []
        present = self._present()
        if present.any():
            silent_ns = int(self._heard_ns[present].min()) + self._silence_ns
            if silent_ns > self._checked_ns and not self._isolated(
                silent_ns
            ):  # an isolated balancer would conclude nothing
                deadlines.append(silent_ns)
        return min(deadlines, default=None)

    def _hear(self, event: NodesNotified, now_ns: int) -> None:
        self._restart_clocks_if_isolated(now_ns)
        rows = self._view.update(event, now_ns)
        self._heard_ns[rows] = now_ns
        if self._placer is not None:
            self._placer.heard(rows, self._view)
        for row in rows.tolist():
            self._away[row].discard(_SILENT)
        self._news = True

    def _place(self, event: FlowArrived, now_ns: int) -> list[Action]:
        if self._placer is None:
            return []  # the switch places flows, not the policy
        row = self._placer.place(self._view, now_ns)
        return [PlaceFlow(flow=event.flow, node=self._view.nodes[row])]

    def _leave(self, event: NodeLeft) -> None:
        row = self._view.index(event.node)
        if row is not None:
            self._away[row].add(event.reason)
            if event.reason == MESH:
                self._view.forget(row)

    def _join(self, event: NodeJoined, now_ns: int) -> None:
        row = self._view.index(event.node)
        if row is not None:
            self._away[row] = self._away[row] - {event.reason} if event.reason else set()
            self._restart_clocks_if_isolated(now_ns)
            self._heard_ns[row] = now_ns  # its notification timeout starts again

    def _take_stages(self, event: StagesAnnounced, now_ns: int) -> None:
        for node, stage in zip(event.nodes, event.stage.tolist(), strict=True):
            row = self._view.index(node)
            if row is None:
                continue
            self._draining[row] = stage == StageOfLife.DRAINING
            if stage not in _FORWARDING:
                self._away[row] = {_DRAIN}  # other reasons belong to its previous life
                self._view.forget(row)
            elif _DRAIN in self._away[row]:
                self._join(NodeJoined(node=node), now_ns)

    def _present(self) -> NDArray[np.bool_]:
        return np.array([not reasons for reasons in self._away], dtype=bool)

    def _restart_clocks_if_isolated(self, now_ns: int) -> None:
        if self._isolated(now_ns):
            self._heard_ns[:] = now_ns

    def _isolated(self, at_ns: int) -> bool:
        """Return whether at `at_ns`, without a notification until then, the last one is too old for a conclusion."""
        return at_ns - int(self._heard_ns.max()) > self._silence_ns // 2

    def _check_timeouts(self, now_ns: int) -> None:
        self._checked_ns = now_ns
        if self._isolated(now_ns):
            return
        for row in np.flatnonzero(now_ns - self._heard_ns >= self._silence_ns).tolist():
            self._away[row].add(_SILENT)

    def _decide(self, now_ns: int) -> list[Action]:
        before, served = self._forwarding, self._view.serving
        present = self._present()
        self._forwarding = present if present.any() else before
        if not self._forwarding.any():  # no node has joined yet: slots that lead nowhere need no weights
            self._news = False
            return []
        fresh = self._forwarding & ~self._draining
        self._view.serving = fresh if fresh.any() else self._forwarding
        dealt_anew, changed = bool((self._view.serving != served).any()), self._forwarding != before
        if not dealt_anew and not (self._news and now_ns >= self._asked_ns + REWEIGH_INTERVAL_NS):
            return [RemoveNode(node=self._view.nodes[row]) for row in np.flatnonzero(changed)]
        deals = self._deal(now_ns, at_least=1 if dealt_anew else int(LEAST_CHANGE_RATIO * len(self._table)))
        names = np.array(self._view.nodes, dtype=object)
        restores = [RestoreNode(node=node) for node in names[changed & self._forwarding]]
        return [*restores, *deals, *(RemoveNode(node=node) for node in names[changed & before])]

    def _deal(self, now_ns: int, at_least: int) -> list[SetSlots]:
        """Call the rule, if allowed, and return the table as an action if it differs in at least `at_least` slots."""
        self._news = False
        rule: SlotRule = _BY_RATE
        if not self._rule.heeds_state or self._view.all_known(now_ns):
            rule, self._asked_ns = self._rule, now_ns
        table = rule.slots(self._table, self._view)
        if int((table != self._table).sum()) < at_least:
            return []
        self._table = table
        return [SetSlots(slots=self.slots)]
