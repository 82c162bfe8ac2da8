"""The egress qdisc that delays the packets of a node's queue, and a fast way to read its backlog.

It is a token bucket (TBF) with the rate of the link over a byte FIFO that never drops: only the XDP program decides on
drops.  The bucket holds `bucket_bytes`.  After a stall of the machine, the qdisc may send this much faster than the
link; the XDP program models the same bucket, so both have the same backlog.  A deeper bucket tolerates longer stalls,
but lets the head of a burst through faster than the link. 4 ms of the rate (at least three full frames) covers the
delays of timers on a small, busy machine.  With 1 ms, the qdisc lagged behind the XDP queue in 1 to 5 % of the samples,
and its delays were a quarter longer.

A packet reaches the qdisc about 80 us after the XDP program saw it (receive batches, routing).  At the head of a burst
the bucket is full, so the tokens of that time are lost to the qdisc, and the missing bytes stay in the queue for as
long as the link is busy: at 500 Mbit/s the backlog of the qdisc was 5 kB above that of the XDP queue, whatever the size
of the packets.  So the kernel's bucket is deeper than the modelled one by the bytes that are served in this time.  (The
timer of the qdisc is not the cause: traces show that it fires 6 us late, once per packet.)
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

from pyroute2 import IPRoute, NetlinkError

from testbed.emulation.network.route_requests import NEW_QDISC, RouteRequests, added, attribute
from testbed.errors import MachineError, ToolError
from testbed.scenario.network import bucket_bytes
from testbed.units import NS_PER_S, NS_PER_US

_HANDLE = 0x10000  # 1:
_ON_THE_WAY_NS = 80 * NS_PER_US  # from the XDP program to the qdisc, median at the head of bursts
_ENDLESS_PKTS = 1_000_000  # a queue or delay line that must not drop
_RTM_NEWQDISC, _RTM_GETQDISC, _NLMSG_ERROR, _NLMSG_DONE = 36, 38, 2, 3
_DUMP = 0x301  # REQUEST | ROOT | MATCH
_HEADER = struct.Struct("IHHII")  # length, type, flags, sequence, port
_TCA_KIND, _TCA_OPTIONS, _TCA_TBF_PARMS = 1, 2, 1
_TBF = struct.Struct("xBxxxxxxI12xIII")  # link layer and rate, no peak rate, limit, depth (ticks), no MTU
_ETHERNET = 1
_TICK_NS = 64  # of the packet scheduler
_TCMSG = struct.Struct("4xiII4x")  # interface, handle, parent
_FIXED_BYTES = _HEADER.size + _TCMSG.size
_ANSWER_BYTES = 1 << 15
_TCA_STATS2, _TCA_STATS_BASIC, _TCA_STATS_QUEUE = 7, 1, 3
_TC_ROOT = 0xFFFFFFFF


def shape(interface: str, rate_bps: int, room_bytes: int) -> None:
    """Put the rate limit on `interface` (of the current network namespace) over a FIFO of `room_bytes`."""
    depth = bucket_bytes(rate_bps) + rate_bps * _ON_THE_WAY_NS // (8 * NS_PER_S)
    qdisc = _token_bucket(socket.if_nametoindex(interface), rate_bps // 8, depth, room_bytes)
    with RouteRequests() as netlink:
        netlink.carry_out(f"limiting the rate of {interface}", [qdisc])


def _token_bucket(index: int, rate_bytes: int, depth_bytes: int, room_bytes: int) -> bytes:
    """Return the request for a TBF at an interface; its kernel takes the depth as the time that it serves."""
    ticks = depth_bytes * NS_PER_S // rate_bytes // _TICK_NS
    settings = _TBF.pack(_ETHERNET, rate_bytes, room_bytes, ticks, 0)
    kind = attribute(_TCA_KIND, b"tbf\0") + attribute(_TCA_OPTIONS, attribute(_TCA_TBF_PARMS, settings))
    return added(NEW_QDISC, _TCMSG.pack(index, _HANDLE, _TC_ROOT) + kind)


def discard_queue(interface: str) -> None:
    """Put an empty queue of one packet in the place of the one `shape` made.

    What waited is thrown away, and the kernel counts it as dropped by the rate limit above.
    """
    with IPRoute() as netlink:
        index = netlink.link_lookup(ifname=interface)[0]
        netlink.tc("replace", "pfifo", index=index, parent=_HANDLE | 1, handle=2 * _HANDLE, limit=1)


def renew_queue(interface: str) -> None:
    """Put a queue that never drops, as that of `shape`, in the place of the one that `discard_queue` left."""
    with IPRoute() as netlink:
        index = netlink.link_lookup(ifname=interface)[0]
        netlink.tc("replace", "pfifo", index=index, parent=_HANDLE | 1, handle=3 * _HANDLE, limit=_ENDLESS_PKTS)


def delay(interface: str, delay_ns: int) -> None:
    """Delay everything `interface` (of the current network namespace) sends.

    Raises:
        MachineError: this kernel has no netem.
    """
    with IPRoute() as netlink:
        index = netlink.link_lookup(ifname=interface)[0]
        try:
            netlink.tc("add", "netem", index=index, handle="1:", delay=delay_ns // NS_PER_US, limit=_ENDLESS_PKTS)
        except NetlinkError as error:
            remedy = "boot the distribution's stock kernel, or set topology.link_delay to 0ms"
            raise MachineError(f"delaying {interface}", f"this kernel has no netem ({error})", remedy) from error


class QdiscStats(NamedTuple):
    """Counters of a qdisc: sent since it was made, and what waits now."""

    sent_bytes: int
    sent_pkts: int
    backlog_bytes: int
    backlog_pkts: int
    dropped_pkts: int


class QdiscReader:
    """Reads the root qdisc of one interface, in a tenth of the time of a library.

    It asks for all qdiscs of the namespace, as the kernel tells the answer about a single one to everybody who listens
    for changes.
    """

    def __init__(self, interface: str) -> None:
        """Open the socket in the current network namespace; it stays there wherever the process goes."""
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._socket.bind((0, 0))
        self._wanted = (socket.if_nametoindex(interface), _HANDLE, _TC_ROOT)
        self._request = _HEADER.pack(_HEADER.size + _TCMSG.size, _RTM_GETQDISC, _DUMP, 1, 0) + _TCMSG.pack(0, 0, 0)
        self._interface = interface

    def read(self) -> QdiscStats:
        """Return the counters now.

        Raises:
            ToolError: the qdisc or the interface is gone.
        """
        stats = self.find()
        if stats is None:
            raise ToolError(f"reading the qdisc of {self._interface}", "the kernel has no such qdisc")
        return stats

    def find(self) -> QdiscStats | None:
        """Return the counters now, None when the qdisc is gone (something outside the run removed it).

        Raises:
            ToolError: the kernel has it and does not return its counters.
        """
        self._socket.send(self._request)
        found = [(answer, start, end) for answer, start, end in self._answers() if self._is_mine(answer, start)]
        if not found:
            return None
        answer, start, end = found[0]
        stats = _attribute(answer, start + _FIXED_BYTES, end, _TCA_STATS2)
        if stats is None:
            raise ToolError(f"reading the qdisc of {self._interface}", "the kernel gave no statistics")
        return _parse_stats(answer, *stats)

    def _answers(self) -> Iterator[tuple[bytes, int, int]]:
        """Yield every qdisc: the bytes that came, where it starts in them and where it ends."""
        kind = 0
        while kind not in (_NLMSG_DONE, _NLMSG_ERROR):
            answer, start = self._socket.recv(_ANSWER_BYTES), 0
            while start < len(answer):
                length, kind, *_ = _HEADER.unpack_from(answer, start)
                if kind == _RTM_NEWQDISC:
                    yield answer, start, start + length
                start += (length + 3) & ~3

    def _is_mine(self, answer: bytes, start: int) -> bool:
        return _TCMSG.unpack_from(answer, start + _HEADER.size) == self._wanted


def _parse_stats(answer: bytes, start: int, end: int) -> QdiscStats:
    basic = _attribute(answer, start, end, _TCA_STATS_BASIC)
    queue = _attribute(answer, start, end, _TCA_STATS_QUEUE)
    sent_bytes, sent_pkts = struct.unpack_from("QI", answer, basic[0]) if basic else (0, 0)
    waiting, backlog, dropped = struct.unpack_from("III", answer, queue[0]) if queue else (0, 0, 0)
    return QdiscStats(sent_bytes, sent_pkts, backlog, waiting, dropped)


def _attribute(message: bytes, start: int, end: int, wanted: int) -> tuple[int, int] | None:
    """Return where the payload of netlink attribute `wanted` starts and ends."""
    while start + 4 <= end:
        length, kind = struct.unpack_from("HH", message, start)
        if kind & 0x3FFF == wanted:
            return start + 4, start + length
        start += (length + 3) & ~3 if length else end
    return None
