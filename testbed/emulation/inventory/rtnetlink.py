"""The kernel's network configuration of one namespace: its state (dumps), and every change (notifications).

One socket does both.  It first joins the groups and then requests the dumps, so that no change between the two is
missed.  Messages are stored as bytes: a dump of a namespace takes 0.2 ms, decoding one link takes 1 ms, and nearly all
messages are never decoded (`messages` does it).
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

from testbed.errors import MachineError

LINK, ADDRESS, ROUTE, NEIGHBOUR, RULE, QDISC, FILTER, CHAIN, ACTION = 16, 20, 24, 28, 32, 36, 44, 100, 48
NETCONF, NEXTHOP = 80, 104
"""Families of message types: the type that makes (NEW), then the one that takes away (DEL), then the one that asks."""

_SOL_NETLINK, _ADD_MEMBERSHIP = 270, 1
_SO_RCVBUFFORCE = 33
_ROOM_BYTES = 1 << 20  # a link that goes down takes some hundred neighbours with it
_HEADER = struct.Struct("IHHII")  # length, type, flags, sequence, port
_DUMP = 0x301  # REQUEST | ROOT | MATCH
_DUMP_INTERRUPTED = 0x10
_ERROR, _DONE = 2, 3
_ATTEMPTS = 5

_GROUPS = {
    "link": 1, "neigh": 3, "tc": 4, "ipv4 addr": 5, "ipv4 route": 7, "ipv4 rule": 8, "ipv6 addr": 9, "ipv6 route": 11,
    "ipv6 rule": 19, "ipv4 netconf": 24, "ipv6 netconf": 25, "nexthop": 32,
}  # fmt: skip
_SKIP_STATISTICS = struct.pack("HHI", 8, 29, 1 << 3)  # IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS
_REQUESTS = (
    (LINK, bytes(16) + _SKIP_STATISTICS),
    (ADDRESS, bytes(8)),
    (ROUTE, bytes(12)),
    (NEIGHBOUR, bytes(12)),
    (RULE, bytes(12)),
    (QDISC, bytes(20)),
    (NETCONF, bytes([socket.AF_INET])),
    (NETCONF, bytes([socket.AF_INET6])),
    (NEXTHOP, bytes(8)),
)


class Raw(NamedTuple):
    """One message: its family of types, whether it takes something away, and all its bytes."""

    family: int
    gone: bool
    data: bytes


class RouteSocket:
    """Hears and asks in the network namespace it was made in, wherever the process goes.

    Attributes:
        lost: how often the kernel had more to say than there was room for.
    """

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _ROOM_BYTES)
        self._socket.bind((0, 0))
        for group in _GROUPS.values():
            self._socket.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)
        self._port = self._socket.getsockname()[0]
        self._heard: list[Raw] = []
        self.lost = 0

    def fileno(self) -> int:
        """Return the descriptor, for `select`."""
        return self._socket.fileno()

    def everything(self) -> list[Raw]:
        """Return all there is now.

        Raises:
            MachineError: the kernel does not answer.
        """
        return [message for family, body in _REQUESTS for message in self._dump(family, body)]

    def heard(self) -> list[Raw]:
        """Return what changed since the last call, in order."""
        while self._receive(socket.MSG_DONTWAIT) is not None:
            pass
        heard, self._heard = self._heard, []
        return heard

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _dump(self, family: int, body: bytes) -> list[Raw]:
        for _ in range(_ATTEMPTS):
            self._socket.send(_HEADER.pack(_HEADER.size + len(body), family + 2, _DUMP, 1, 0) + body)
            found = self._answer()
            if found is not None:
                return found
        raise MachineError("reading the network configuration", "it changes continuously")

    def _answer(self) -> list[Raw] | None:
        """Return the messages of one dump, None when a change came between."""
        found: list[Raw] = []
        whole = True
        while True:
            for kind, flags, message in self._receive(0) or ():
                whole = whole and not flags & _DUMP_INTERRUPTED
                if kind == _DONE:
                    return found if whole else None
                if kind == _ERROR:  # a kind this kernel does not have: there is nothing of it
                    return found
                found.append(message)

    def _receive(self, flags: int) -> list[tuple[int, int, Raw]] | None:
        """Process one datagram: keep notifications, return answers; None when there is none."""
        try:
            data = self._socket.recv(1 << 18, flags)
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise MachineError("listening to the network", os.strerror(error.errno or 0)) from error
            self.lost += 1
            return []
        answers = []
        for kind, message_flags, port, message in _messages(data):
            if port == self._port:
                answers.append((kind, message_flags, message))
            elif kind > _DONE:
                self._heard.append(message)
        return answers


def _messages(data: bytes) -> Iterator[tuple[int, int, int, Raw]]:
    start = 0
    while start + _HEADER.size <= len(data):
        length, kind, flags, _, port = _HEADER.unpack_from(data, start)
        yield kind, flags, port, Raw(kind & ~3, kind & 3 == 1, data[start : start + length])
        start += (length + 3) & ~3
