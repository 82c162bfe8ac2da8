"""What the balancer's policies are given and what they answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from testbed.records.events.node import Nodes
from testbed.records.events.record import Action, Doc, Event, FiveTuple

Node = Annotated[str, Doc("the node that this record concerns", "name")]
SLOTS = Doc(
    "slots[i] is the node assigned to slot i. A new flow uses the slot selected by "
    "its hash; under `cooperative` and `turns` it uses the next slot in turn",
    "names",
)
_FLOW = Doc("source, destination, protocol, source port, destination port", "5-tuple")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class NodeLeft(Event):
    """`node` stopped serving."""

    node: Node
    reason: Annotated[str, Doc("reason for leaving", "notifications, port, mesh, drain or crash")]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class NodeJoined(Event):
    """`node` serves (again)."""

    node: Node
    reason: Annotated[
        str,
        Doc(
            "the reason for leaving that no longer applies; empty: all reasons",
            "one of the reasons of NodeLeft, or restart",
        ),
    ] = ""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class FlowArrived(Event):
    """A packet of `flow` reached the balancer (only under `per-flow`); no node has been assigned to the flow yet."""

    flow: Annotated[FiveTuple, _FLOW]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class DeadlineReached(Event):
    """The time at which a policy had asked to be called (`next_deadline_ns`) was reached."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SetSlots(Action):
    """Assigns the slots of the balancer's table to nodes."""

    slots: Annotated[tuple[str, ...], SLOTS]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class PlaceFlow(Action):
    """Forward `flow` to `node` from now on, beginning with the packet that was sent to the controller."""

    flow: Annotated[FiveTuple, _FLOW]
    node: Node


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class NameSiblings(Action):
    """Tells each of `nodes` to which sibling it forwards packets when its buffer is full."""

    nodes: Nodes
    siblings: Annotated[tuple[str, ...], Doc("the sibling of each node; an empty name: none", "names")]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class RemoveNode(Action):
    """Remove `node` from forwarding immediately. Its pinned flows are unpinned and assigned to other nodes."""

    node: Node


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class RestoreNode(Action):
    """Put `node` back into forwarding: the switch may send packets to it again."""

    node: Node
