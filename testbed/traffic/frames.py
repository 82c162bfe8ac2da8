"""Data frames: the bytes that are sent for each planned packet.

    Ethernet 14 | IPv4 20 or IPv6 40 | UDP 8 | probe 32 | padding up to the packet's size

The probe is what every measurement rests on (network byte order):

    magic u32 "TBPB" | run u32 | flow u32 | seq u32 | planned_ns u64, since t0 | sent_ns u64, CLOCK_MONOTONIC

Scapy builds one frame for each source and size: it knows the protocols, lengths and the IPv4 checksum.  At 0.4 ms a
frame it cannot build each packet, nor each of 20,000 flows, so NumPy copies the header bytes for every packet and
writes what differs: source port, flow, sequence number and planned time.  None of these is under the IPv4 checksum, and
over IPv4 the UDP checksum is 0 (RFC 768 allows it).  Over IPv6 it is not optional (RFC 8200, section 8.1): the sum of
everything but the send stamp is made before the clock starts, and stamping adds the four words of the stamp.  The
padding is one array of zeros shared by all packets, so memory is the headers, whatever the size of a packet.

Headers end at one column of the array, so that the fields from the UDP header on stand in the same columns for both
versions of IP: where there is IPv6 the headers of IPv4 begin 20 bytes into their row.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.scenario.network import VIP_IP, VIP_IP6, VIP_MAC, Host
from testbed.scenario.sources import HEADER_BYTES, MAX_PACKET_BYTES, MIN_PACKET6_BYTES, MIN_PACKET_BYTES, PROBE_BYTES
from testbed.traffic.plan import Int32s, PacketPlan
from testbed.traffic.scapy_layers import (
    IP,
    UDP,
    Ether,
    IntField,
    IPv6,
    LongField,
    Packet,
    Raw,
    XIntField,
)

MAGIC = 0x54425042  # "TBPB"
PLANNED_DSCP = 8  # of planned packets in a trial: whatever else shares their way is counted apart from them
ECT_0 = 2  # "the ends understand congestion marks"; the ECN field is the low two bits of the TOS byte
_PROBE = struct.Struct("!IIIIQQ")
# Offsets from the end of the headers.
_SRC_PORT_AT, _CHECKSUM_AT, _FLOW_AT, _SEQ_AT, _PLANNED_AT, _SENT_AT = -40, -34, -24, -20, -16, -8
_ADDRESSES6_AT = 22  # from the beginning of an IPv6 frame: both addresses, then the UDP header
_UDP, _UDP_HEADER_BYTES = 17, 8

Bytes2D = NDArray[np.uint8]


class ProbeHeader(Packet):
    """The probe as a Scapy layer, for building frames and reading captures."""

    name = "TestbedProbe"
    fields_desc = [  # noqa: RUF012 - Scapy's own way of declaring a layer
        XIntField("magic", MAGIC),
        IntField("run", 0),
        IntField("flow", 0),
        IntField("seq", 0),
        LongField("planned_ns", 0),
        LongField("sent_ns", 0),
    ]


@dataclass(frozen=True, slots=True)
class Probe:
    """The probe of one received frame."""

    run: int
    flow: int
    seq: int
    planned_ns: int
    sent_ns: int


@dataclass(frozen=True, eq=False)
class FrameSet:
    """The frames of a plan, in its order.

    Attributes:
        headers: uint8 [n, 74 or 94], Ethernet to the end of the probe, flush right.
        padding: uint8 [longest - 74], what follows the header of every packet, cut to its size.
        size_bytes: int32 [n], length of each frame.
        header_bytes: int32 [n], length of the header of each frame.
        unstamped_sums: uint32 [n], the words under the UDP checksum without the send stamp; None without IPv6.
    """

    headers: Bytes2D
    padding: NDArray[np.uint8]
    size_bytes: Int32s
    header_bytes: Int32s
    unstamped_sums: NDArray[np.uint32] | None

    def __len__(self) -> int:
        return len(self.size_bytes)

    @property
    def sent_ns(self) -> NDArray[Any]:
        """Return a writable view of the send stamps, big-endian uint64 [n]."""
        return _column(self.headers, _SENT_AT, ">u8")

    def stamper(self) -> Callable[[int, int, int], None]:
        """Return what stamps the frames `first` to `last` - 1 with a send time, the UDP checksums of IPv6 included."""
        stamps, sums = self.sent_ns, self.unstamped_sums
        if sums is None:

            def stamp(first: int, last: int, sent_ns: int) -> None:
                stamps[first:last] = sent_ns

            return stamp
        checksums = _column(self.headers, _CHECKSUM_AT, ">u2")
        over_ip6 = self.header_bytes == MIN_PACKET6_BYTES

        def stamp_with_checksum(first: int, last: int, sent_ns: int) -> None:
            stamps[first:last] = sent_ns
            chosen = slice(first, last)
            checksums[chosen] = np.where(over_ip6[chosen], _checksum(sums[chosen] + np.uint32(_words(sent_ns))), 0)

        return stamp_with_checksum

    def frame(self, index: int) -> bytes:
        """Return one frame whole."""
        header_bytes = int(self.header_bytes[index])
        rest = int(self.size_bytes[index]) - header_bytes
        return bytes(self.headers[index, -header_bytes:]) + bytes(self.padding[:rest])


def build_frames(plan: PacketPlan, client: Host, run_id: int, *, tos: int = 0) -> FrameSet:
    """Build the frames of the packets that `client` sends (`plan` holds no others); `sent_ns` is still 0.

    `tos` is the byte with DSCP and ECN field; only frames with `ECT_0` in it may get a congestion mark (RFC 3168).
    """
    over_ip6 = (plan.flows.ip_version == 6)[plan.flow]
    kinds, kind_of_packet = np.unique(
        plan.source * np.int64(1 << 33) + over_ip6 * np.int64(1 << 32) + plan.size_bytes, return_inverse=True
    )
    dst_port = dict(zip(plan.flows.source.tolist(), plan.flows.dst_port.tolist(), strict=True))
    width = MIN_PACKET6_BYTES if over_ip6.any() else MIN_PACKET_BYTES
    templates = np.zeros((len(kinds), width), np.uint8)
    for row, kind in enumerate(kinds.tolist()):
        header = _template(client, dst_port[kind >> 33], run_id, kind & 0xFFFF_FFFF, tos, ip6=bool(kind >> 32 & 1))
        templates[row, -len(header) :] = header
    headers = templates[kind_of_packet]
    _column(headers, _SRC_PORT_AT, ">u2")[:] = plan.flows.src_port[plan.flow]
    _column(headers, _FLOW_AT, ">u4")[:] = plan.flow
    _column(headers, _SEQ_AT, ">u4")[:] = plan.seq
    _column(headers, _PLANNED_AT, ">u8")[:] = plan.t_ns
    return FrameSet(
        headers,
        np.zeros(MAX_PACKET_BYTES - MIN_PACKET_BYTES, np.uint8),
        plan.size_bytes,
        np.where(over_ip6, MIN_PACKET6_BYTES, MIN_PACKET_BYTES).astype(np.int32),
        _unstamped_sums(headers, plan.size_bytes) if over_ip6.any() else None,
    )


def _unstamped_sums(headers: Bytes2D, size_bytes: Int32s) -> NDArray[np.uint32]:
    """Return the sum of the words of pseudo header (RFC 8200, section 8.1), UDP header and probe, of IPv6 frames."""
    words = headers[:, _ADDRESSES6_AT:].view(">u2").sum(axis=1, dtype=np.uint32)
    udp_bytes = size_bytes - (MIN_PACKET6_BYTES - PROBE_BYTES - _UDP_HEADER_BYTES)
    return np.asarray(words + (udp_bytes + _UDP).astype(np.uint32))


def _words(value: int) -> int:
    """Return the sum of the four 16-bit words of a 64-bit number."""
    return sum(value >> shift & 0xFFFF for shift in (0, 16, 32, 48))


def _checksum(sums: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Return the Internet checksum (RFC 1071) of sums of words; a 0 is sent as 0xFFFF, since 0 means none."""
    once = (sums & np.uint32(0xFFFF)) + (sums >> np.uint32(16))
    folded = (once & np.uint32(0xFFFF)) + (once >> np.uint32(16))
    checksum = np.uint32(0xFFFF) - folded
    return np.asarray(np.where(checksum == 0, np.uint32(0xFFFF), checksum))


def read_probe(frame: bytes) -> Probe | None:
    """Return the probe of a frame, None when the frame carries none."""
    at = HEADER_BYTES if frame[12:14] == b"\x08\x00" else HEADER_BYTES + MIN_PACKET6_BYTES - MIN_PACKET_BYTES
    if len(frame) < at + PROBE_BYTES:
        return None
    magic, *values = _PROBE.unpack_from(frame, at)
    return Probe(*values) if magic == MAGIC else None


def _template(client: Host, dst_port: int, run_id: int, size_bytes: int, tos: int, *, ip6: bool) -> list[int]:
    """Return the header bytes of a frame of this size, built by Scapy."""
    header_bytes = MIN_PACKET6_BYTES if ip6 else MIN_PACKET_BYTES
    ip = (
        IPv6(src=client.ip6, dst=VIP_IP6, hlim=64, tc=tos)
        if ip6
        else IP(src=client.ip, dst=VIP_IP, id=0, flags="DF", ttl=64, tos=tos)
    )
    udp = UDP(sport=0, dport=dst_port, chksum=0)
    probe = ProbeHeader(run=run_id)
    frame = Ether(dst=VIP_MAC, src=client.mac) / ip / udp / probe / Raw(bytes(size_bytes - header_bytes))
    return list(bytes(frame)[:header_bytes])


def _column(headers: Bytes2D, offset: int, dtype: str) -> NDArray[Any]:
    """Return a view of one big-endian field of every header, shape [n]; `offset` is negative, from the end."""
    begin = headers.shape[1] + offset
    field: NDArray[Any] = headers[:, begin : begin + np.dtype(dtype).itemsize].view(dtype)
    return field[:, 0]
