"""The interface between the balancer and a switch, independent of the OpenFlow framework.

Events arrive from the threads of the framework.  Messages are sent in two steps, so that a controller cannot change the
switch before it may: a `Connection` can only request a role; a `Link`, which accepts commands, is part of the answer
that grants the master role (`MasterGranted`).  This matters because Open vSwitch gives every new connection the role
EQUAL, whose commands it executes.  A controller that was replaced would otherwise write outdated state before it learns
that it was replaced.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from testbed.controllers.openflow import Message

_PORT_BITS = 32


class Role(Enum):
    """The role of a controller; a switch has one master and refuses commands of slaves."""

    MASTER = "master"
    SLAVE = "slave"


class Connection(Protocol):
    """A connection to the switch."""

    def request_role(self, role: Role, generation: int) -> int:
        """Ask for a role; return the number that the answer will carry.

        The answer is `MasterGranted` or `SlaveGranted`, or `Deposed` if the switch has seen a higher generation id.
        """
        ...

    def prepare(self, messages: Sequence[Message]) -> None:
        """Prepare messages that the link will send many times; nothing is sent."""
        ...


class Link(Protocol):
    """Accepts the commands of the master."""

    def send(self, messages: Sequence[Message]) -> int:
        """Send messages and a barrier after them; return the barrier's number, which `Acknowledged` will carry.

        On a connection that is lost this does nothing.
        """
        ...

    def post(self, messages: Sequence[Message]) -> None:
        """Send messages without a barrier."""
        ...


@dataclass(frozen=True, slots=True)
class Connected:
    """The switch has connected; `ports_up` says for each of its ports whether it has a carrier."""

    connection: Connection
    ports_up: Mapping[int, bool]


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The connection is lost; the switch continues to forward with its current tables."""

    connection: Connection


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """Everything sent before the barrier with this number is in force."""

    link: Link
    barrier: int


@dataclass(frozen=True, slots=True)
class PortChanged:
    """A port gained or lost its carrier; for a switch other than the balancer's, `far_port` gives the number."""

    port: int
    up: bool


def far_port(dpid: int, port: int) -> int:
    """Return a number for a port of another switch; the numbers of OpenFlow have 32 bits."""
    return dpid << _PORT_BITS | port


def is_far(port: int) -> bool:
    """Return whether a number belongs to a port of another switch."""
    return port >> _PORT_BITS > 0


@dataclass(frozen=True, slots=True)
class PacketIn:
    """The switch sent a frame to the controller; it had arrived at `port`."""

    port: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Refused:
    """The switch did not accept a message."""

    text: str


@dataclass(frozen=True, slots=True)
class MasterGranted:
    """The switch granted the master role; `request` is the number of the request."""

    connection: Connection
    request: int
    link: Link


@dataclass(frozen=True, slots=True)
class SlaveGranted:
    """The switch granted the slave role."""

    connection: Connection
    request: int


@dataclass(frozen=True, slots=True)
class Deposed:
    """Another controller is the master: the generation id is stale, or this controller is a slave."""

    connection: Connection


Happening = (
    Connected | Disconnected | Acknowledged | PortChanged | PacketIn | Refused | MasterGranted | SlaveGranted | Deposed
)
