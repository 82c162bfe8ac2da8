"""What the policies are given and answer that decide how many nodes there are, and when each of them serves."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, ClassVar

from testbed.records.events.balancer import Node
from testbed.records.events.node import Nodes
from testbed.records.events.record import Action, Doc, Event, Ints, LogEntry, Record, Short


class StageOfLife(IntEnum):
    """Where a node is between absent and absent.

    Attributes:
        ABSENT: nothing of it runs.
        JOINING: it is started; no flow goes to it.
        SERVING: it gets new flows.
        DRAINING: it keeps its flows and gets no new ones.
        LEAVING: no flow goes to it any more; its queue empties.
    """

    ABSENT = 0
    JOINING = 1
    SERVING = 2
    DRAINING = 3
    LEAVING = 4


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Stages(Record):
    """The stage of life of every node."""

    nodes: Nodes
    stage: Annotated[Ints, Doc("0 absent, 1 joining, 2 serving, 3 draining, 4 leaving", "number")]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class StagesAnnounced(Stages, Event):
    """The lifecycle states of all nodes, as announced by the orchestrator to the balancer and the mesh members."""

    short: ClassVar[Short] = Short.NEVER


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SendStages(Stages, Action):
    """Announce the lifecycle states of all nodes to the balancer and the mesh members."""

    to: Annotated[tuple[str, ...], Doc("recipients", "names")]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class StagesChanged(Stages, LogEntry):
    """Nodes entered another lifecycle state. The first record of a run has all nodes, later ones those that changed."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class AddOrdered(Event):
    """The scenario orders that `node` be added."""

    node: Node


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class DrainOrdered(Event):
    """The scenario orders that `node` be drained."""

    node: Node


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SizeOrdered(Event):
    """The autoscaler orders the number of nodes that are to serve."""

    size: Annotated[int, Doc("the number of nodes", "nodes")]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class NodeReady(Event):
    """A node was started, and all of its processes are now running."""

    node: Node


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class NodeFailed(Event):
    """The processes of a node have ended unexpectedly."""

    node: Node


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class NodeObserved(Event):
    """Remaining work of a node that is draining or leaving."""

    node: Node
    silent_ns: Annotated[int, Doc("for how long no packet has reached it")]
    backlog_bytes: Annotated[int, Doc("bytes in its queue")]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class StartNode(Action):
    """Start all processes of `node`."""

    node: Node


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class StopNode(Action):
    """End all processes of `node`."""

    node: Node
    reason: Annotated[str, Doc("reason", "drained, failed, cancelled or late (not ready in time)")]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class RefuseOrder(Action):
    """An order for `node` was rejected and has no effect."""

    node: Node
    reason: Annotated[str, Doc("reason", "text")]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class LoadMeasured(Event):
    """The load of the whole cluster since the last measurement."""

    load_bps: Annotated[int, Doc("rate of the traffic that arrived at the nodes, including dropped packets")]
    serving: Annotated[int, Doc("nodes that serve", "nodes")]
    joining: Annotated[int, Doc("nodes that are started and do not serve yet", "nodes")]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ScaleDecided(Action):
    """The new target number of nodes that serve or join, and the reason."""

    size: Annotated[int, Doc("the number of nodes", "nodes")]
    current: Annotated[int, Doc("nodes that serve or join at that time", "nodes")]
    required: Annotated[
        int, Doc("the number computed by the rule, before `min`, `max` and `step` are applied", "nodes")
    ]
    load_bps: Annotated[int, Doc("load that was measured")]
    expected_bps: Annotated[int, Doc("load on which the decision is based: the measured load or its forecast")]
    reason: Annotated[str, Doc("reason for the decision", "text")]
