"""The lifecycle of the nodes: which are started, serve and are drained, and when a drained node leaves.

    absent ── add ──▶ joining ── ready ──▶ serving ── drain ──▶ draining ── flows ended ──▶ leaving ──▶ absent
                                               ▲                   │  (or the deadline)     queue empty
                                               └──────── add ──────┘

Orders come one at a time, from the scenario (`AddOrdered`, `DrainOrdered`) and from the autoscaler (`SizeOrdered`).
Each is executed or refused (`RefuseOrder`) when it comes.  So of two simultaneous orders, the second applies to the
result of the first.  Orders of the scenario come first, and for one node the drain before the addition; the autoscaler
then decides by the number of nodes that they leave.

**Adding.**  A node is *ready* when all its parts run (`NodeReady`), but no earlier than `boot` + `warm_up` after its
start.  From then on it serves.  A node that is not ready after `JOIN_WITHIN_NS` is given up.

**Draining.**  A draining node keeps its flows.  The switch forgets a flow after `affinity_idle` without a packet; so a
node that has received no packet for this time has no flow left.  After `drain_deadline` it leaves even if flows are
active; they move to other nodes.  The packets in its queue are still served: a leaving node is stopped when its queue
is empty and all packets in transit to it have arrived.

**An order for a node between two stages.**  A drain of a joining node cancels its start.  An addition of a draining
node cancels the drain: its flows are still there, and nothing is started.  A leaving node cannot be kept, as its flows
have moved: it is started again as soon as it is gone.  An addition of a joining or serving node is refused, and so is a
drain of an absent, draining or leaving one, or of the last node that serves.

**A change of size** first cancels drains, because a node that still has its flows is available at once.  Then it
starts the absent nodes with the lowest numbers.  To reduce the size, it first cancels joining nodes, then drains
serving ones, the highest numbers first.  The last serving node is never drained.  A size beyond all nodes starts all
that there are.

**A node that dies** while joining is given up and stopped.  A node that dies while draining or leaving has left,
together with its flows.  If it is ordered again while its failure lasts, it is started when the failure is over, or
given up like any node that is late.  A node that dies while serving is handled by the failure detector: it may return.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from testbed.records.events import (
    Action,
    AddOrdered,
    DeadlineReached,
    DrainOrdered,
    Event,
    NodeFailed,
    NodeObserved,
    NodeReady,
    RefuseOrder,
    SizeOrdered,
    StageOfLife,
    StagesAnnounced,
    StartNode,
    StopNode,
)
from testbed.scenario.autoscaler import AutoscalerSpec
from testbed.units import NS_PER_MS, NS_PER_S

LIFECYCLE = "lifecycle"  # the policy's name in the history
JOIN_WITHIN_NS = 10 * NS_PER_S
LOOK_NS = 20 * NS_PER_MS  # interval between two observations of a node that drains or leaves
SETTLED_NS = (
    50 * NS_PER_MS
)  # after this time the change of the switch is in force, and packets sent before have arrived

MESHED = (
    StageOfLife.SERVING,
    StageOfLife.DRAINING,
    StageOfLife.LEAVING,
)  # states of nodes that monitor and are monitored

_ABSENT, _JOINING, _SERVING, _DRAINING, _LEAVING = StageOfLife


def meshed(event: StagesAnnounced) -> tuple[str, ...]:
    """Return the members of the mesh, by an announcement of the cluster."""
    return tuple(node for node, stage in zip(event.nodes, event.stage.tolist(), strict=True) if stage in MESHED)


@dataclass(slots=True)
class _Life:
    """The state of a node, its start time, and whether all parts of the node run."""

    stage: StageOfLife
    since_ns: int = 0
    runs: bool = False
    again: bool = False  # must be added again as soon as it is absent


class Lifecycle:
    """Inputs: orders and observations of the nodes.  Outputs: `StartNode`, `StopNode`, `RefuseOrder`.

    `stages` says which nodes serve; the caller announces it when it changes.
    """

    def __init__(self, nodes: tuple[str, ...], spare: Collection[str], spec: AutoscalerSpec, idle_ns: int) -> None:
        """Start with all `nodes` serving except the `spare` ones.

        Args:
            nodes: all possible nodes.
            spare: the nodes that are absent at the start.
            spec: the times of a node.
            idle_ns: after this time without a packet, a flow has lost its node.
        """
        self._lives = {node: _Life(_ABSENT if node in spare else _SERVING) for node in nodes}
        self._ready_ns, self._deadline_ns, self._idle_ns = spec.horizon_ns, spec.drain_deadline_ns, idle_ns

    @property
    def stages(self) -> StagesAnnounced:
        """Return the stage of every node."""
        stage = np.array([life.stage for life in self._lives.values()], dtype=np.int64)
        return StagesAnnounced(nodes=tuple(self._lives), stage=stage)

    def at(self, *stages: StageOfLife) -> list[str]:
        """Return the nodes in one of these stages, in order."""
        return [node for node, life in self._lives.items() if life.stage in stages]

    def handle(self, event: Event, now_ns: int) -> list[Action]:
        """See `Policy.handle`."""
        if isinstance(event, AddOrdered):
            return self._add(event.node, now_ns)
        if isinstance(event, DrainOrdered):
            return self._drain(event.node, now_ns)
        if isinstance(event, SizeOrdered):
            return self._resize(event.size, now_ns)
        if isinstance(event, NodeReady):
            self._lives[event.node].runs = True
        elif isinstance(event, NodeFailed):
            return self._failed(event.node, now_ns)
        elif isinstance(event, NodeObserved):
            return self._observed(event, now_ns)
        elif not isinstance(event, DeadlineReached):
            return []
        return self._due(now_ns)

    def next_deadline_ns(self) -> int | None:
        """See `Policy.next_deadline_ns`: a node is ready or given up, or the deadline of a drain is over."""
        deadlines = [self._until_ns(life) for life in self._lives.values()]
        return min((due for due in deadlines if due is not None), default=None)

    def _until_ns(self, life: _Life) -> int | None:
        """Return when the present stage of a node ends at the latest; None if only an event ends it."""
        if life.stage == _JOINING:
            return life.since_ns + self._ready_ns + (0 if life.runs else JOIN_WITHIN_NS)
        return life.since_ns + self._deadline_ns if life.stage == _DRAINING else None

    def _due(self, now_ns: int) -> list[Action]:
        """Advance every node whose stage has ended."""
        actions: list[Action] = []
        for node, life in self._lives.items():
            until_ns = self._until_ns(life)
            if until_ns is None or now_ns < until_ns:
                continue
            if life.stage == _JOINING and not life.runs:
                actions += self._stop(node, "late", now_ns)
            else:
                self._enter(node, _SERVING if life.stage == _JOINING else _LEAVING, now_ns)
        return actions

    # ------------------------------------------------------------------------------------------------------- orders

    def _add(self, node: str, now_ns: int) -> list[Action]:
        life = self._lives.get(node)
        if life is None:
            return [RefuseOrder(node=node, reason="there may be no such node")]
        if life.stage == _ABSENT:
            return self._start(node, now_ns)
        if life.stage == _DRAINING:
            self._enter(node, _SERVING, now_ns)
        elif life.stage == _LEAVING:
            life.again = True
        else:
            return [RefuseOrder(node=node, reason=f"it is {life.stage.name.lower()} already")]
        return []

    def _drain(self, node: str, now_ns: int) -> list[Action]:
        life = self._lives.get(node)
        if life is None or life.stage in (_ABSENT, _DRAINING, _LEAVING):
            stage = "absent" if life is None else life.stage.name.lower()
            return [RefuseOrder(node=node, reason=f"it is {stage} already")]
        if life.stage == _JOINING:
            return self._stop(node, "cancelled", now_ns)
        if len(self.at(_SERVING)) == 1:
            return [RefuseOrder(node=node, reason="it is the last node that serves")]
        self._enter(node, _DRAINING, now_ns)
        return []

    def _resize(self, size: int, now_ns: int) -> list[Action]:
        lacking = size - len(self.at(_SERVING, _JOINING))
        if lacking > 0:
            chosen = [*self.at(_DRAINING), *self.at(_ABSENT)][:lacking]
            return [action for node in chosen for action in self._add(node, now_ns)]
        chosen = [*reversed(self.at(_JOINING)), *reversed(self.at(_SERVING))][:-lacking] if lacking else []
        return [action for node in chosen for action in self._drain(node, now_ns)]

    # ---------------------------------------------------------------------------------------------- what is observed

    def _failed(self, node: str, now_ns: int) -> list[Action]:
        life = self._lives[node]
        return self._gone(node, "failed", now_ns) if life.stage in (_JOINING, _DRAINING, _LEAVING) else []

    def _observed(self, seen: NodeObserved, now_ns: int) -> list[Action]:
        life = self._lives[seen.node]
        silent_ns = min(seen.silent_ns, now_ns - life.since_ns)
        if life.stage == _DRAINING and seen.silent_ns >= self._idle_ns and silent_ns >= SETTLED_NS:
            self._enter(seen.node, _LEAVING, now_ns)
        elif life.stage == _LEAVING and silent_ns >= SETTLED_NS and not seen.backlog_bytes:
            return self._gone(seen.node, "drained", now_ns)
        return []

    # ------------------------------------------------------------------------------------------------------- stages

    def _enter(self, node: str, stage: StageOfLife, now_ns: int) -> None:
        self._lives[node].stage, self._lives[node].since_ns = stage, now_ns

    def _gone(self, node: str, reason: str, now_ns: int) -> list[Action]:
        """Stop a node, and start it anew if it was added meanwhile."""
        again = self._lives[node].again
        return [*self._stop(node, reason, now_ns), *(self._start(node, now_ns) if again else [])]

    def _start(self, node: str, now_ns: int) -> list[Action]:
        self._lives[node] = _Life(_JOINING, now_ns)
        return [StartNode(node=node)]

    def _stop(self, node: str, reason: str, now_ns: int) -> list[Action]:
        self._lives[node] = _Life(_ABSENT, now_ns)
        return [StopNode(node=node, reason=reason)]
