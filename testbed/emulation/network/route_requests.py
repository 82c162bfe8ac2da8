"""Changes of a network namespace's configuration by rtnetlink, many in one request.

    messages (bytes) ─ one write ─▶ kernel, which executes one after the other ─ an answer to each ─▶ checked

A library needs one to two milliseconds of CPU time per request, mostly for encoding and decoding attributes; for 100
nodes this is about ten seconds of the set-up.  Here each message is a packed structure with its attributes, which takes
microseconds, and all messages of a namespace are sent in one system call.

Source: rtnetlink(7); linux/rtnetlink.h, linux/if_link.h, linux/if_addr.h, linux/neighbour.h.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Sequence
from types import TracebackType

from testbed.errors import ToolError

NEW_QDISC = 36
_NEW_LINK, _SET_LINK, _NEW_ADDRESS, _NEW_ROUTE, _NEW_NEIGHBOUR, _ERROR = 16, 19, 20, 24, 28, 2
_REQUEST, _ACK, _REPLACE, _EXCLUSIVE, _CREATE = 0x1, 0x4, 0x100, 0x200, 0x400
_HEADER = struct.Struct("IHHII")  # length, type, flags, sequence, port
_LINK, _ADDRESS = struct.Struct("BxHiII"), struct.Struct("BBBBi")
_NEIGHBOUR, _ROUTE = struct.Struct("BxxxiHBB"), struct.Struct("BBBBBBBBI")
_IFF_UP = 0x1
_IFLA_ADDRESS, _IFLA_NAME, _IFLA_MTU, _IFLA_MASTER, _IFLA_LINKINFO, _IFLA_NAMESPACE_PID = 1, 3, 4, 10, 18, 19
_INFO_KIND, _INFO_DATA, _VETH_INFO_PEER = 1, 2, 1
_IFA_ADDRESS, _IFA_LOCAL, _IFA_F_NODAD = 1, 2, 0x02
_NDA_DESTINATION, _NDA_MAC, _NUD_PERMANENT = 1, 2, 0x80
_RTA_DESTINATION, _RTA_INTERFACE, _RTA_GATEWAY = 1, 4, 5
_TABLE_MAIN, _PROTOCOL_STATIC, _UNICAST = 254, 4, 1
SCOPE_LINK = 253
_AT_ONCE = 100  # answers of so many fit into the socket's buffer
_ANSWER_BYTES = 1 << 16


class RouteRequests:
    """A connection to the kernel, for the network namespace that it is made in, wherever the process goes."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._socket.bind((0, 0))

    def __enter__(self) -> RouteRequests:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection."""
        self._socket.close()

    def carry_out(self, attempted: str, messages: Sequence[bytes]) -> None:
        """Let the kernel do what the messages say, in their order; all are tried.

        Raises:
            ToolError: it refused one; names the first.
        """
        refused = 0
        for first in range(0, len(messages), _AT_ONCE):
            some = messages[first : first + _AT_ONCE]
            self._socket.send(b"".join(some))
            refused = refused or self._first_refusal(len(some))
        if refused:
            raise ToolError(attempted, f"the kernel refused: {os.strerror(refused)}", "`dmesg` may show the reason")

    def _first_refusal(self, count: int) -> int:
        """Process the answer to each of `count` messages, and return the number of the first error, 0 without one."""
        refused = answered = 0
        while answered < count:
            answer, start = self._socket.recv(_ANSWER_BYTES), 0
            while start < len(answer):
                length, kind, *_ = _HEADER.unpack_from(answer, start)
                number = -struct.unpack_from("i", answer, start + _HEADER.size)[0] if kind == _ERROR else 0
                refused, answered = refused or number, answered + 1
                start += (length + 3) & ~3
        return refused


def attribute(kind: int, value: bytes) -> bytes:
    """Return an attribute, padded."""
    return struct.pack("HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def message(kind: int, flags: int, body: bytes) -> bytes:
    """Return a request of a kind that is answered."""
    return _HEADER.pack(_HEADER.size + len(body), kind, _REQUEST | _ACK | flags, 0, 0) + body


def added(kind: int, body: bytes) -> bytes:
    """Return the request to add a thing that is not there."""
    return message(kind, _CREATE | _EXCLUSIVE, body)


def veth(pid: int, name: str, mac: str | None, peer_pid: int, peer: str, peer_mac: str | None, mtu: int) -> bytes:
    """Return the request for a veth pair, each end born in the network namespace of a process."""
    other = _LINK.pack(0, 0, 0, 0, 0) + _end(peer_pid, peer, peer_mac, mtu)
    return added(_NEW_LINK, _LINK.pack(0, 0, 0, 0, 0) + _end(pid, name, mac, mtu) + _info("veth", other))


def bridge(name: str) -> bytes:
    """Return the request for a bridge of the kernel."""
    return added(_NEW_LINK, _LINK.pack(0, 0, 0, 0, 0) + _name(name) + _info("bridge"))


def up(index: int, master: int | None = None) -> bytes:
    """Return the request to take an interface up, as a port of the bridge `master`."""
    body = _LINK.pack(0, 0, index, _IFF_UP, _IFF_UP)
    return message(_SET_LINK, 0, body if master is None else body + attribute(_IFLA_MASTER, struct.pack("I", master)))


def down(index: int) -> bytes:
    """Return the request to take an interface down."""
    return message(_SET_LINK, 0, _LINK.pack(0, 0, index, 0, _IFF_UP))


def address(index: int, ip: str, prefix: int) -> bytes:
    """Return the request to give an interface an address, usable at once."""
    family = _family(ip)
    flags = _IFA_F_NODAD if family == socket.AF_INET6 else 0
    packed = socket.inet_pton(family, ip)
    body = _ADDRESS.pack(family, prefix, flags, 0, index)
    return message(
        _NEW_ADDRESS, _CREATE | _REPLACE, body + attribute(_IFA_LOCAL, packed) + attribute(_IFA_ADDRESS, packed)
    )


def neighbour(index: int, ip: str, mac: str) -> bytes:
    """Return the request for a permanent neighbour of an interface."""
    family = _family(ip)
    body = _NEIGHBOUR.pack(family, index, _NUD_PERMANENT, 0, 0)
    body += attribute(_NDA_DESTINATION, socket.inet_pton(family, ip)) + attribute(_NDA_MAC, _mac(mac))
    return message(_NEW_NEIGHBOUR, _CREATE | _REPLACE, body)


def route(index: int, to: str, gateway: str = "", scope: int = 0) -> bytes:
    """Return the request for a route through an interface; `to` is ``ADDRESS/LENGTH``, or ``default`` by a gateway."""
    ip, _, length = ("0.0.0.0/0" if to == "default" else to).partition("/")
    family = _family(ip)
    body = _ROUTE.pack(family, int(length), 0, 0, _TABLE_MAIN, _PROTOCOL_STATIC, scope, _UNICAST, 0)
    if int(length):
        body += attribute(_RTA_DESTINATION, socket.inet_pton(family, ip))
    if gateway:
        body += attribute(_RTA_GATEWAY, socket.inet_pton(family, gateway))
    return added(_NEW_ROUTE, body + attribute(_RTA_INTERFACE, struct.pack("I", index)))


def _end(pid: int, name: str, mac: str | None, mtu: int) -> bytes:
    body = _name(name) + attribute(_IFLA_NAMESPACE_PID, struct.pack("I", pid))
    body += attribute(_IFLA_MTU, struct.pack("I", mtu))
    return body if mac is None else body + attribute(_IFLA_ADDRESS, _mac(mac))


def _info(kind: str, peer: bytes = b"") -> bytes:
    data = attribute(_INFO_DATA, attribute(_VETH_INFO_PEER, peer)) if peer else b""
    return attribute(_IFLA_LINKINFO, attribute(_INFO_KIND, kind.encode()) + data)


def _name(name: str) -> bytes:
    return attribute(_IFLA_NAME, name.encode() + b"\0")


def _mac(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def _family(ip: str) -> int:
    return socket.AF_INET6 if ":" in ip else socket.AF_INET
