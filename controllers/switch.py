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
    """What a controller is to the switch; the switch has one master and refuses the orders of slaves."""

    MASTER = "master"
    SLAVE = "slave"


class Connection(Protocol):
    """A connection to the switch."""

    def request_role(self, role: Role, generation: int) -> int:
        """Ask for a role; return the number that the answer will carry.

        The answer is `MasterGranted` or `SlaveGranted`, or `Deposed` when a greater generation has been seen.
        """
        ...

    def prepare(self, messages: Sequence[Message]) -> None:
        """Make ready what the link will send again and again; nothing is sent."""
        ...


class Link(Protocol):
    """The way for orders of the master."""

    def send(self, messages: Sequence[Message]) -> int:
        """Send messages and a barrier after them; return the barrier's number, which `Acknowledged` will carry.

        On a connection that is lost this does nothing.
        """
        ...

    def post(self, messages: Sequence[Message]) -> None:
        """Send messages that nobody waits for."""
        ...


@dataclass(frozen=True, slots=True)
class Connected:
    """The switch is there (again); `ports_up` says of each of its ports whether it has a carrier."""

    connection: Connection
    ports_up: Mapping[int, bool]


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The connection is lost; the switch continues to forward with its current tables."""

    connection: Connection


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """Everything sent up to the barrier of that number is in force."""

    link: Link
    barrier: int


@dataclass(frozen=True, slots=True)
class PortChanged:
    """A port gained or lost its carrier; one of another switch than the balancer's is named by `far_port`."""

    port: int
    up: bool


def far_port(dpid: int, port: int) -> int:
    """Return the number by which a port of another switch is known; OpenFlow's own have 32 bits."""
    return dpid << _PORT_BITS | port


def is_far(port: int) -> bool:
    """Return whether the number is that of a port of another switch."""
    return port >> _PORT_BITS > 0


@dataclass(frozen=True, slots=True)
class PacketIn:
    """The switch handed us a frame that came in by `port`."""

    port: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Refused:
    """The switch did not accept a message."""

    text: str


@dataclass(frozen=True, slots=True)
class MasterGranted:
    """The switch made us its master; `request` is the number of what asked for it."""

    connection: Connection
    request: int
    link: Link


@dataclass(frozen=True, slots=True)
class SlaveGranted:
    """The switch made us a slave."""

    connection: Connection
    request: int


@dataclass(frozen=True, slots=True)
class Deposed:
    """The switch obeys another controller: our generation is stale, or we are a slave."""

    connection: Connection


Happening = (
    Connected | Disconnected | Acknowledged | PortChanged | PacketIn | Refused | MasterGranted | SlaveGranted | Deposed
)
