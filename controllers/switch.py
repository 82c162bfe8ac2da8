"""What the balancer sees of a switch, whatever framework speaks OpenFlow to it.

Happenings arrive from the framework's threads; `Link` is how messages leave.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from controllers.openflow import Message


class Link(Protocol):
    """A connection to the switch."""

    def send(self, messages: Sequence[Message]) -> int:
        """Send messages and a barrier after them; return the barrier's number, which `Acknowledged` will carry.

        On a connection that is lost this does nothing.
        """
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
class Refused:
    """The switch did not accept a message."""

    text: str


Happening = Connected | Disconnected | Acknowledged | PortChanged | Refused
