"""How messages reach a switch over a framework's connection: a request for a role, and once it is granted, commands."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from testbed.controllers.framework import Framework
from testbed.controllers.messages import MessageBuilder
from testbed.controllers.openflow import Message
from testbed.controllers.switch import Role

_XID = 4  # offset of the number in a message


class DatapathConnection:
    """A `switch.Connection` over one connection of a framework.

    Attributes:
        link: accepts commands; None before the switch has granted the master role.
    """

    def __init__(self, framework: Framework, datapath: Any) -> None:
        """Wrap a datapath that has finished its handshake."""
        self._framework, self._wire = framework, _Wire(framework, datapath)
        self._built = _Built(MessageBuilder(framework), datapath)
        self._datapath = datapath
        self.link: MasterLink | None = None

    def request_role(self, role: Role, generation: int) -> int:
        """See `Connection.request_role`."""
        proto = self._framework.proto
        number = {Role.MASTER: proto.OFPCR_ROLE_MASTER, Role.SLAVE: proto.OFPCR_ROLE_SLAVE}[role]
        asked = self._framework.parser.OFPRoleRequest(self._datapath, number, generation)
        return self._wire.write([_serialised(asked)])

    def prepare(self, messages: Sequence[Message]) -> None:
        """See `Connection.prepare`."""
        self._built.keep(messages)

    def granted(self) -> MasterLink:
        """Return the link; called after the switch has granted the master role."""
        if self.link is None:
            barrier = _serialised(self._framework.parser.OFPBarrierRequest(self._datapath))
            self.link = MasterLink(self._wire, self._built, barrier)
        return self.link


class MasterLink:
    """A `switch.Link`; `DatapathConnection.granted` makes it."""

    def __init__(self, wire: _Wire, built: _Built, barrier: bytes) -> None:
        self._wire, self._built, self._barrier = wire, built, barrier

    def send(self, messages: Sequence[Message]) -> int:
        """See `Link.send`."""
        return self._wire.write([*map(self._built.bytes_of, messages), self._barrier])

    def post(self, messages: Sequence[Message]) -> None:
        """See `Link.post`."""
        self._wire.write([self._built.bytes_of(message) for message in messages])


class _Built:
    """Messages as bytes, without their numbers: the frameworks need longer to build a flow than we to decide on it."""

    def __init__(self, builder: MessageBuilder, datapath: Any) -> None:
        self._builder, self._datapath = builder, datapath
        self._kept: dict[Message, bytes] = {}

    def keep(self, messages: Sequence[Message]) -> None:
        """Build messages that will be sent many times."""
        self._kept.update((new, self._now(new)) for new in messages if new not in self._kept)

    def bytes_of(self, message: Message) -> bytes:
        """Return a message."""
        return self._kept.get(message) or self._now(message)

    def _now(self, message: Message) -> bytes:
        return _serialised(self._builder.build(self._datapath, message))


class _Wire:
    """Numbers messages and passes them to the framework."""

    def __init__(self, framework: Framework, datapath: Any) -> None:
        self._framework, self._datapath = framework, datapath
        self._numbers = itertools.count(
            1
        )  # not the framework's numbers: it numbers its echo requests in another thread

    def write(self, messages: Sequence[bytes]) -> int:
        """Pass all on at once (each one would wake the framework's sending thread); return the last number."""
        wire, number = bytearray(), 0
        for message in messages:
            number = next(self._numbers)
            wire += message[:_XID] + number.to_bytes(4, "big") + message[_XID + 4 :]
        self._framework.threads.call(lambda: self._datapath.send(bytes(wire)))
        return number


def _serialised(message: Any) -> bytes:
    message.set_xid(0)
    message.serialize()
    return bytes(message.buf)
