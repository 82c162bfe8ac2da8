"""What the balancer sees of a switch, whatever framework speaks OpenFlow to it.

Happenings arrive from the framework's threads; `Link` is how messages leave.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from testbed.controllers.openflow import Message


class Role(Enum):
    """What a controller is to the switch; the switch has one master and refuses the orders of slaves."""

    MASTER = "master"
    SLAVE = "slave"


class Link(Protocol):
    """A connection to the switch."""

    def send(self, messages: Sequence[Message]) -> int:
        """Send messages and a barrier after them; return the barrier's number, which `Acknowledged` will carry.

        On a connection that is lost this does nothing.
        """
        ...

    def post(self, messages: Sequence[Message]) -> None:
        """Send messages that nobody waits for."""
        ...

    def prepare(self, messages: Sequence[Message]) -> None:
        """Make ready what will be sent again and again; nothing is sent."""
        ...

    def request_role(self, role: Role, generation: int) -> None:
        """Ask for a role; answered by `RoleGranted`, or by `Deposed` when a greater generation has been seen."""
        ...


@dataclass(frozen=True, slots=True)
class Connected:
    """The switch is there (again); `ports_up` says of each of its ports whether it has a carrier."""

    link: Link
    ports_up: Mapping[int, bool]


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The connection `link` is lost; the switch goes on forwarding by what it has."""

    link: Link


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """Everything sent up to the barrier of that number is in force."""

    link: Link
    barrier: int


@dataclass(frozen=True, slots=True)
class PortChanged:
    """A port gained or lost its carrier."""

    port: int
    up: bool


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
class RoleGranted:
    """The switch gave us the role."""

    link: Link
    role: Role


@dataclass(frozen=True, slots=True)
class Deposed:
    """The switch obeys another controller: our generation is stale, or we are a slave."""

    link: Link


Happening = Connected | Disconnected | Acknowledged | PortChanged | PacketIn | Refused | RoleGranted | Deposed
