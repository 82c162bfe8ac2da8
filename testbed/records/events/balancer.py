"""What the balancer's policies are given and what they answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from testbed.records.events.node import Nodes
from testbed.records.events.record import Action, Doc, Event, FiveTuple

Node = Annotated[str, Doc("the node it is about", "name")]
SLOTS = Doc(
    "slots[i] is the node of slot i. A new flow takes the slot of its hash; under `cooperative` and `turns` it takes "
    "the next slot in turn",
    "names",
)
_FLOW = Doc("source, destination, protocol, source port, destination port", "5-tuple")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class NodeLeft(Event):
    """`node` stopped serving."""

    node: Node
    reason: Annotated[str, Doc("why it left", "notifications, port, mesh, drain or crash")]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class NodeJoined(Event):
    """`node` serves (again)."""

    node: Node
    reason: Annotated[str, Doc("which reason for leaving is over; empty: any", "as of NodeLeft, or restart")] = ""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class FlowArrived(Event):
    """A packet of `flow`, which has no node yet, reached the balancer."""

    flow: Annotated[FiveTuple, _FLOW]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class DeadlineReached(Event):
    """The time a policy asked to be woken at (`next_deadline_ns`) has come."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SetSlots(Action):
    """Give the slots of the balancer's table to nodes."""

    slots: Annotated[tuple[str, ...], SLOTS]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class PlaceFlow(Action):
    """Send `flow` to `node` from now on, beginning with the packet that waits."""

    flow: Annotated[FiveTuple, _FLOW]
    node: Node


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class NameSiblings(Action):
    """Let each of `nodes`, when its buffer is full, forward packets to its sibling."""

    nodes: Nodes
    siblings: Annotated[tuple[str, ...], Doc("the sibling of each node; an empty name: none", "names")]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class RemoveNode(Action):
    """Take `node` out of forwarding at once, its pinned flows included (they hash anew)."""

    node: Node


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class RestoreNode(Action):
    """Let `node` forward again."""

    node: Node
