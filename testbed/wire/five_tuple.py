"""What a frame belongs to: the 5-tuple of its TCP or UDP packet, for packets the switch asks about."""

from __future__ import annotations

import ipaddress
import struct

from testbed.records.events import FiveTuple

TCP, UDP = 6, 17

_ETHERNET_BYTES, _IPV6_BYTES = 14, 40
_IPV4, _IPV6 = 0x0800, 0x86DD
_OFFSET_BITS = 0x1FFF  # of IPv4's fragment field


def five_tuple(frame: bytes) -> FiveTuple | None:
    """Return the flow of an Ethernet frame; None unless it is whole TCP or UDP over IPv4 or IPv6.

    VLAN tags and IPv6 extension headers are not looked behind: the pipeline sends no such packet here.
    """
    try:
        (kind,) = struct.unpack_from("!H", frame, 12)
        if kind == _IPV4:
            return _of_ipv4(frame)
        return _of_ipv6(frame) if kind == _IPV6 else None
    except struct.error:
        return None


def _of_ipv4(frame: bytes) -> FiveTuple | None:
    words, fragment, protocol, source, target = struct.unpack_from("!B5xHxB2x4s4s", frame, _ETHERNET_BYTES)
    if fragment & _OFFSET_BITS:
        return None
    return _flow(frame, _ETHERNET_BYTES + 4 * (words & 15), protocol, source, target)


def _of_ipv6(frame: bytes) -> FiveTuple | None:
    protocol, source, target = struct.unpack_from("!6xBx16s16s", frame, _ETHERNET_BYTES)
    return _flow(frame, _ETHERNET_BYTES + _IPV6_BYTES, protocol, source, target)


def _flow(frame: bytes, at: int, protocol: int, source: bytes, target: bytes) -> FiveTuple | None:
    if protocol not in (TCP, UDP):
        return None
    source_port, target_port = struct.unpack_from("!HH", frame, at)
    return (
        ipaddress.ip_address(source).compressed,
        ipaddress.ip_address(target).compressed,
        protocol,
        source_port,
        target_port,
    )
