"""Data frames: what is on the wire for each planned packet.

    Ethernet 14 | IPv4 20 | UDP 8 | probe 32 | padding up to the packet's size

The probe is what every measurement rests on (network byte order):

    magic u32 "TBPB" | run u32 | flow u32 | seq u32 | planned_ns u64, since t0 | sent_ns u64, CLOCK_MONOTONIC

Scapy builds one frame for each source and size: it knows the protocols, lengths and the IPv4 checksum.  At 0.4 ms a
frame it cannot build each packet, nor each of 20,000 flows, so NumPy copies the 74 header bytes for every packet and
writes what differs: source port, flow, sequence number and planned time.  None of these is under the IPv4 checksum, and
the UDP checksum is 0 (IPv4 allows it, RFC 768), or else `sent_ns` could not be stamped at the last moment.  The padding
is one array of zeros shared by all packets, so memory is 74 bytes a packet whatever its size.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scapy.fields import IntField, LongField, XIntField
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from testbed.spec.scenario import HEADER_BYTES, MAX_PACKET_BYTES, MIN_PACKET_BYTES
from testbed.spec.topology import VIP_IP, VIP_MAC, Host
from testbed.traffic.plan import Int32s, PacketPlan

MAGIC = 0x54425042  # "TBPB"
ECT_0 = 2  # "the ends understand congestion marks"; the ECN field is the low two bits of the TOS byte
_PROBE = struct.Struct("!IIIIQQ")
_SRC_PORT_AT = 34
_FLOW_AT, _SEQ_AT, _PLANNED_AT, _SENT_AT = HEADER_BYTES + 8, HEADER_BYTES + 12, HEADER_BYTES + 16, HEADER_BYTES + 24

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
        headers: uint8 [n, 74], Ethernet to the end of the probe.
        padding: uint8 [longest - 74], what follows the header of every packet, cut to its size.
        size_bytes: int32 [n], length of each frame.
    """

    headers: Bytes2D
    padding: NDArray[np.uint8]
    size_bytes: Int32s

    def __len__(self) -> int:
        return len(self.size_bytes)

    @property
    def sent_ns(self) -> NDArray[Any]:
        """Return a writable view of the send stamps, big-endian uint64 [n]: assigning to a slice stamps frames."""
        return _column(self.headers, _SENT_AT, ">u8")

    def frame(self, index: int) -> bytes:
        """Return one frame whole."""
        rest = int(self.size_bytes[index]) - MIN_PACKET_BYTES
        return bytes(self.headers[index]) + bytes(self.padding[:rest])


def build_frames(plan: PacketPlan, client: Host, run_id: int, *, tos: int = 0) -> FrameSet:
    """Build the frames of the packets that `client` sends (`plan` holds no others); `sent_ns` is still 0.

    `tos` is the byte with DSCP and ECN field; only frames with `ECT_0` in it may get a congestion mark (RFC 3168).
    """
    kinds, kind_of_packet = np.unique(plan.source * np.int64(1 << 32) + plan.size_bytes, return_inverse=True)
    dst_port = dict(zip(plan.flows.source.tolist(), plan.flows.dst_port.tolist(), strict=True))
    templates = [_template(client, dst_port[kind >> 32], run_id, kind & 0xFFFF_FFFF, tos) for kind in kinds.tolist()]
    headers = np.array(templates, np.uint8).reshape(-1, MIN_PACKET_BYTES)[kind_of_packet]
    _column(headers, _SRC_PORT_AT, ">u2")[:] = plan.flows.src_port[plan.flow]
    _column(headers, _FLOW_AT, ">u4")[:] = plan.flow
    _column(headers, _SEQ_AT, ">u4")[:] = plan.seq
    _column(headers, _PLANNED_AT, ">u8")[:] = plan.t_ns
    return FrameSet(headers, np.zeros(MAX_PACKET_BYTES - MIN_PACKET_BYTES, np.uint8), plan.size_bytes)


def read_probe(frame: bytes) -> Probe | None:
    """Return the probe of a frame, None when the frame carries none."""
    if len(frame) < MIN_PACKET_BYTES:
        return None
    magic, *values = _PROBE.unpack_from(frame, HEADER_BYTES)
    return Probe(*values) if magic == MAGIC else None


def _template(client: Host, dst_port: int, run_id: int, size_bytes: int, tos: int) -> list[int]:
    """Return the header bytes of a frame of this size, built by Scapy."""
    frame = (
        Ether(dst=VIP_MAC, src=client.mac)
        / IP(src=client.ip, dst=VIP_IP, id=0, flags="DF", ttl=64, tos=tos)
        / UDP(sport=0, dport=dst_port, chksum=0)
        / ProbeHeader(run=run_id)
        / Raw(bytes(size_bytes - MIN_PACKET_BYTES))
    )
    return list(bytes(frame)[:MIN_PACKET_BYTES])


def _column(headers: Bytes2D, offset: int, dtype: str) -> NDArray[Any]:
    """Return a view of one big-endian field of every header, shape [n]."""
    field: NDArray[Any] = headers[:, offset : offset + np.dtype(dtype).itemsize].view(dtype)
    return field[:, 0]
