"""The node program: exact packets in, verdict, packet out and counters, through BPF_PROG_TEST_RUN.

Time in a test run is the real clock.  Where a test needs exact times it writes the time of the last packet into the
program's memory: a future one makes the next packet simultaneous with it, an earlier one makes a gap.
"""

from __future__ import annotations

import copy
import itertools
import os
import random
import signal
import socket
import struct
import subprocess
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scapy.contrib.lldp import LLDPDUChassisID, LLDPDUEndOfLLDPDU, LLDPDUPortID, LLDPDUTimeToLive
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_NOP, IPOption_Router_Alert
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6MLReport2,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.ipsec import AH
from scapy.layers.l2 import ARP, Dot1AD, Dot1Q, Ether
from scapy.packet import Packet, Padding, Raw

from testbed.emulation.dataplane import xdp_meter
from testbed.emulation.dataplane.libbpf import XDP_DROP, XDP_PASS, XDP_TX
from testbed.emulation.dataplane.xdp import NodeProgram, PassProgram
from testbed.emulation.dataplane.xdp_abi import NODE_BIN, NODE_BIN_NS, NODE_MEMORY, NODE_STATE
from testbed.emulation.dataplane.xdp_meter import Look, offset
from testbed.errors import InputError, ToolError
from tests.own_network import in_own_network, veth

pytestmark = pytest.mark.requires("root", "bpf", "clang")

BPF = Path(__file__).parents[1] / "bpf"
NODE_MAC, CLIENT_MAC, SIBLING_MAC, OTHER_MAC = (
    "02:02:00:00:00:01",
    "02:01:00:00:00:01",
    "02:02:00:00:00:02",
    "02:02:00:00:00:63",
)
MARK_OF_1 = "02:de:f1:00:00:01"
MARK_OF_LARGE = "02:de:f1:ab:cd:ef"
CLIENT, CLIENT6, VIP, VIP6, NODE, NODE6 = "10.0.16.2", "fd00::1:1", "10.0.0.100", "fd00::100", "10.0.32.2", "fd00::2:1"
NB = 8_000_000_000
LIMIT = 500_000
FAR_NS = 3_600_000_000_000

ETH = Ether(dst=NODE_MAC, src=CLIENT_MAC)
V4 = IP(src=CLIENT, dst=VIP)
V6 = IPv6(src=CLIENT6, dst=VIP6)
UDP9 = UDP(sport=20000, dport=9000)
DATA = Raw(bytes(range(200)))


@pytest.fixture(scope="module", autouse=True)
def _compiled() -> None:
    subprocess.run(["make", "-s", "-C", str(BPF)], check=True)


@pytest.fixture(scope="module")
def loaded(_compiled: None) -> Iterator[tuple[NodeProgram, bytes]]:
    """A program and the control values it was loaded with; loading one takes longer than most tests."""
    with make_node() as program:
        yield program, program._control_memory[:]


@pytest.fixture
def node(loaded: tuple[NodeProgram, bytes]) -> NodeProgram:
    """A program as if just loaded."""
    program, control = loaded
    program._memory[:] = bytes(len(program._memory))
    program._control_memory[:] = control
    program._look = Look(time.monotonic_ns() // NODE_BIN_NS)
    return program


def make_node(**changes: object) -> NodeProgram:
    values = {"rate_bps": 100_000_000, "bucket_bytes": 0, "limit_bytes": LIMIT, "number": 1, "mac": NODE_MAC} | changes
    return NodeProgram(local_addresses=[NODE, "10.9.9.9", NODE6, "fd00::9"], **values)  # type: ignore[arg-type]


def poke(node: NodeProgram, **words: int) -> None:
    """Write words of the program's state."""
    for name, value in words.items():
        struct.pack_into("<q" if name == "debt_nb" else "<Q", node._memory, offset(NODE_STATE, name), value)


def state(node: NodeProgram, name: str) -> int:
    form = "<q" if name == "debt_nb" else "<Q"
    return int(struct.unpack_from(form, node._memory, offset(NODE_STATE, name))[0])


def hold(node: NodeProgram, backlog_bytes: int) -> None:
    """Make the backlog exact: the next packets arrive at the very time of the last one."""
    poke(node, t_ns=time.monotonic_ns() + FAR_NS, debt_nb=backlog_bytes * NB)


# ---------------------------------------------------------------------------------------------------- exact packets


@dataclass
class Case:
    """One row: the packet, what the program answers, what leaves, which counters move and by how much."""

    description: str
    packet: Packet | bytes
    verdict: int
    deltas: dict[str, int] = field(default_factory=dict)
    out: Packet | bytes | None = None  # None: unchanged
    prepare: Callable[[NodeProgram], object] = lambda node: None

    def __str__(self) -> str:
        return self.description


def queued(packet: Packet) -> dict[str, int]:
    return {"arrived_pkts": 1, "arrived_bytes": len(bytes(packet)), "new_flows": 1}


def admitted(description: str, packet: Packet) -> Case:
    return Case(description, packet, XDP_PASS, queued(packet))


def other(description: str, packet: Packet) -> Case:
    return Case(description, packet, XDP_PASS, {"passed_other_pkts": 1})


def malformed(description: str, packet: Packet | bytes) -> Case:
    return Case(description, packet, XDP_DROP, {"malformed_pkts": 1})


def full(node: NodeProgram) -> None:
    hold(node, LIMIT)


def full_with_sibling(node: NodeProgram) -> None:
    full(node)
    node.set_sibling(SIBLING_MAC)


def congested(node: NodeProgram) -> None:
    hold(node, 100_001)
    node.set_ecn_threshold(100_000)


def at_threshold(node: NodeProgram) -> None:
    hold(node, 100_000)
    node.set_ecn_threshold(100_000)


def marked(description: str, packet: Packet, out: Packet) -> Case:
    return Case(description, packet, XDP_PASS, queued(packet) | {"marked_pkts": 1}, out, congested)


def deflected(description: str, packet: Packet, out: Packet) -> Case:
    moved = {"deflected_pkts": 1, "deflected_bytes": len(bytes(packet))}
    return Case(description, packet, XDP_TX, queued(packet) | moved, out, full_with_sibling)


def dropped(description: str, packet: Packet, prepare: Callable[[NodeProgram], object], **more: int) -> Case:
    lost = {"dropped_pkts": 1, "dropped_bytes": len(bytes(packet))}
    return Case(description, packet, XDP_DROP, queued(packet) | lost | more, None, prepare)


LLDP = LLDPDUChassisID(subtype=4, id=b"\2\2\0\0\0\1") / LLDPDUPortID(subtype=7, id=b"1") / LLDPDUTimeToLive(ttl=9)
TAGS6 = [IPv6ExtHdrHopByHop(), IPv6ExtHdrDestOpt(), IPv6ExtHdrRouting(addresses=[VIP6]), IPv6ExtHdrDestOpt()]
AH6 = AH(nh=17, payloadlen=4, spi=1, seq=1, icv=bytes(12))
SEVEN = [IPv6ExtHdrDestOpt() for _ in range(7)]
LAST = IPv6ExtHdrDestOpt(nh=17)


def chain(*parts: Packet) -> Packet:
    packet = copy.deepcopy(parts[0])
    for part in parts[1:]:
        packet /= copy.deepcopy(part)
    return packet


CASES = [
    # What is queued.
    admitted("IPv4 UDP", ETH / V4 / UDP9 / DATA),
    admitted("IPv4 TCP", ETH / V4 / TCP(sport=20000, dport=80, flags="S") / DATA),
    admitted("IPv4 ICMP: unknown L4 is queued as bytes", ETH / V4 / ICMP() / DATA),
    admitted("IPv4 of protocol 59, no payload", ETH / IP(src=CLIENT, dst=VIP, proto=59)),
    admitted("IPv4 options", ETH / IP(src=CLIENT, dst=VIP, options=[IPOption_Router_Alert()]) / UDP9 / DATA),
    admitted("IPv4 options, 40 bytes", ETH / IP(src=CLIENT, dst=VIP, options=[IPOption_NOP()] * 40) / UDP9 / DATA),
    admitted("IPv4 first fragment", ETH / IP(src=CLIENT, dst=VIP, flags="MF") / UDP9 / DATA),
    admitted("IPv4 later fragment", ETH / IP(src=CLIENT, dst=VIP, frag=25, proto=17) / DATA),
    admitted("IPv4 first fragment too short for UDP", ETH / IP(src=CLIENT, dst=VIP, flags="MF", proto=17) / Raw(b"12")),
    admitted("IPv4 with Ethernet padding", ETH / V4 / UDP9 / Raw(b"x") / Padding(bytes(17))),
    admitted("IPv4, TTL 2", ETH / IP(src=CLIENT, dst=VIP, ttl=2) / UDP9 / DATA),
    admitted("IPv4, largest frame of a test run", ETH / V4 / UDP9 / Raw(bytes(3400))),
    admitted("IPv6 UDP", ETH / V6 / UDP9 / DATA),
    admitted("IPv6 TCP", ETH / V6 / TCP(sport=20000, dport=80) / DATA),
    admitted("IPv6 echo request", ETH / V6 / ICMPv6EchoRequest(data=b"x" * 32)),
    admitted("IPv6 extension headers", chain(ETH, V6, *TAGS6, UDP9, DATA)),
    admitted("IPv6 authentication header", ETH / V6 / AH6 / UDP9 / DATA),
    admitted("IPv6 authentication header before a bare UDP header", ETH / V6 / AH6 / UDP9),
    admitted("IPv6 seven extension headers: L4 unknown", chain(ETH, V6, *SEVEN, UDP9, DATA)),
    admitted("IPv6 seven extension headers before a cut UDP header", chain(ETH, V6, *SEVEN[1:], LAST, Raw(b"1234"))),
    admitted("IPv4 last fragment below a UDP header", ETH / IP(src=CLIENT, dst=VIP, frag=185, proto=17) / Raw(b"x")),
    admitted("IPv6 fragment", ETH / V6 / IPv6ExtHdrFragment(offset=0, m=1, nh=17) / UDP9 / DATA),
    admitted("IPv6 middle fragment", ETH / V6 / IPv6ExtHdrFragment(offset=1, m=1, nh=17) / DATA),
    admitted("IPv6 last fragment below a UDP header", ETH / V6 / IPv6ExtHdrFragment(offset=9, nh=17) / Raw(b"x")),
    admitted("IPv6 fragment of ICMP", ETH / V6 / IPv6ExtHdrFragment(offset=9, nh=58) / Raw(b"\x87x")),
    admitted("IPv6 fragment header of a whole datagram", ETH / V6 / IPv6ExtHdrFragment(nh=17) / UDP9 / DATA),
    admitted("IPv6 no next header", ETH / IPv6(src=CLIENT6, dst=VIP6, nh=59)),
    admitted("VLAN", ETH / Dot1Q(vlan=7) / V4 / UDP9 / DATA),
    admitted("QinQ", ETH / Dot1AD(vlan=7) / Dot1Q(vlan=8) / V4 / UDP9 / DATA),
    admitted("QinQ IPv6", ETH / Dot1AD(vlan=7) / Dot1Q(vlan=8) / V6 / TCP() / DATA),
    # What passes unqueued.
    other("ARP request", Ether(dst="ff:ff:ff:ff:ff:ff", src=CLIENT_MAC) / ARP(psrc=CLIENT, pdst=NODE)),
    other("ARP reply", ETH / ARP(op=2, psrc=CLIENT, pdst=NODE)),
    other("LLDP", ETH / LLDP / LLDPDUEndOfLLDPDU()),
    other("bare Ethernet header", Ether(dst=NODE_MAC, src=CLIENT_MAC, type=0x1234)),
    other("three tags", ETH / Dot1AD(vlan=1) / Dot1Q(vlan=2) / Dot1Q(vlan=3) / V4 / UDP9 / DATA),
    other("neighbour solicitation", ETH / IPv6(src=CLIENT6, dst=VIP6, hlim=255) / ICMPv6ND_NS(tgt=VIP6)),
    other("neighbour advertisement", ETH / IPv6(src=CLIENT6, dst=NODE6, hlim=255) / ICMPv6ND_NA(tgt=CLIENT6)),
    other("MLD report to a group", Ether(dst="33:33:00:00:00:16") / IPv6(dst="ff02::16") / ICMPv6MLReport2()),
    other("IPv6 to a group in a unicast frame", ETH / IPv6(src=CLIENT6, dst="ff0e::1") / UDP9 / DATA),
    other("IPv6 to a link-local address", ETH / IPv6(src=CLIENT6, dst="fe80::1") / UDP9 / DATA),
    other("IPv6 to loopback", ETH / IPv6(src=CLIENT6, dst="::1") / UDP9 / DATA),
    other("IPv4 broadcast", Ether(dst="ff:ff:ff:ff:ff:ff") / IP(src=CLIENT, dst="255.255.255.255") / UDP9 / DATA),
    other("IPv4 multicast", Ether(dst="01:00:5e:00:00:01") / IP(src=CLIENT, dst="224.0.0.1") / UDP9 / DATA),
    other("IPv4 to loopback", ETH / IP(src=CLIENT, dst="127.0.0.1") / UDP9 / DATA),
    other("IPv4 to this network", ETH / IP(src=CLIENT, dst="0.1.2.3") / UDP9 / DATA),
    other("IPv4 in a frame to somebody else", Ether(dst=OTHER_MAC, src=CLIENT_MAC) / V4 / UDP9 / DATA),
    Case("IPv4 to the node", ETH / IP(src=CLIENT, dst=NODE) / UDP9 / DATA, XDP_PASS, {"passed_local_pkts": 1}),
    Case(
        "IPv4 to its other address", ETH / IP(src=CLIENT, dst="10.9.9.9") / ICMP(), XDP_PASS, {"passed_local_pkts": 1}
    ),
    Case("IPv6 to the node", ETH / IPv6(src=CLIENT6, dst=NODE6) / UDP9 / DATA, XDP_PASS, {"passed_local_pkts": 1}),
    Case("TTL 1 to the node", ETH / IP(src=CLIENT, dst=NODE, ttl=1) / UDP9, XDP_PASS, {"passed_local_pkts": 1}),
    # What is dropped before the queue.
    Case("TTL 1", ETH / IP(src=CLIENT, dst=VIP, ttl=1) / UDP9 / DATA, XDP_DROP, {"ttl_expired_pkts": 1}),
    Case("TTL 0", ETH / IP(src=CLIENT, dst=VIP, ttl=0) / UDP9 / DATA, XDP_DROP, {"ttl_expired_pkts": 1}),
    Case("hop limit 1", ETH / IPv6(src=CLIENT6, dst=VIP6, hlim=1) / UDP9 / DATA, XDP_DROP, {"ttl_expired_pkts": 1}),
    malformed("Ethernet header that promises IPv4", Ether(dst=NODE_MAC, src=CLIENT_MAC, type=0x0800)),
    malformed("IPv4 wrong header checksum", ETH / IP(src=CLIENT, dst=VIP, chksum=0x1234) / UDP9 / DATA),
    malformed("IPv4 version 5", ETH / IP(src=CLIENT, dst=VIP, version=5) / UDP9 / DATA),
    malformed("IPv4 header of 16 bytes", ETH / IP(src=CLIENT, dst=VIP, ihl=4) / UDP9 / DATA),
    malformed("IPv4 options beyond the frame", ETH / IP(src=CLIENT, dst=VIP, ihl=15) / UDP9),
    malformed("IPv4 longer than the frame", ETH / IP(src=CLIENT, dst=VIP, len=400) / UDP9 / DATA),
    malformed("IPv4 shorter than its header", ETH / IP(src=CLIENT, dst=VIP, len=19) / UDP9 / DATA),
    malformed("IPv4 too short for UDP", ETH / IP(src=CLIENT, dst=VIP, proto=17) / Raw(b"1234567")),
    malformed("IPv4 too short for TCP", ETH / IP(src=CLIENT, dst=VIP, proto=6) / Raw(bytes(19))),
    malformed("UDP header in the padding", ETH / IP(src=CLIENT, dst=VIP, len=24) / UDP9 / DATA),
    malformed("IPv6 version 4", ETH / IPv6(src=CLIENT6, dst=VIP6, version=4) / UDP9 / DATA),
    malformed("IPv6 longer than the frame", ETH / IPv6(src=CLIENT6, dst=VIP6, plen=400) / UDP9 / DATA),
    malformed("IPv6 extension beyond the packet", ETH / V6 / IPv6ExtHdrDestOpt(len=40, nh=17) / UDP9 / DATA),
    malformed("IPv6 six extension headers before a cut UDP header", chain(ETH, V6, *SEVEN[2:], LAST, Raw(b"1234"))),
    malformed("IPv6 too short for UDP", ETH / IPv6(src=CLIENT6, dst=VIP6, nh=17) / Raw(b"1234567")),
    malformed("IPv6 fragment header cut off", ETH / IPv6(src=CLIENT6, dst=VIP6, nh=44) / Raw(bytes(7))),
    malformed("whole datagram behind a fragment header cut short", ETH / V6 / IPv6ExtHdrFragment(nh=17) / Raw(b"1234")),
    malformed("IPv6 too short for ICMP", ETH / IPv6(src=CLIENT6, dst=VIP6, nh=58) / Raw(b"123")),
    # ECN.
    marked(
        "ECT(0) becomes CE", ETH / IP(src=CLIENT, dst=VIP, tos=2) / UDP9, ETH / IP(src=CLIENT, dst=VIP, tos=3) / UDP9
    ),
    marked(
        "ECT(1) with a DSCP becomes CE",
        ETH / IP(src=CLIENT, dst=VIP, tos=0xB9) / UDP9,
        ETH / IP(src=CLIENT, dst=VIP, tos=0xBB) / UDP9,
    ),
    marked(
        "IPv6 ECT(0) becomes CE, flow label kept",
        ETH / IPv6(src=CLIENT6, dst=VIP6, tc=0xBA, fl=0xFEDCB) / UDP9 / DATA,
        ETH / IPv6(src=CLIENT6, dst=VIP6, tc=0xBB, fl=0xFEDCB) / UDP9 / DATA,
    ),
    Case("not ECN-capable: admitted as it is", p := ETH / V4 / UDP9, XDP_PASS, queued(p), None, congested),
    Case("CE already", p := ETH / IP(src=CLIENT, dst=VIP, tos=3) / UDP9, XDP_PASS, queued(p), None, congested),
    Case(
        "ECT at the threshold",
        p := ETH / IP(src=CLIENT, dst=VIP, tos=2) / UDP9,
        XDP_PASS,
        queued(p),
        None,
        at_threshold,
    ),
    # Full.
    dropped("full", ETH / V4 / UDP9 / DATA, full),
    dropped("full, ECN-capable: dropped all the same", ETH / IP(src=CLIENT, dst=VIP, tos=2) / UDP9, full),
    deflected(
        "full with a sibling",
        ETH / V4 / UDP9 / DATA,
        Ether(dst=SIBLING_MAC, src=MARK_OF_1) / IP(src=CLIENT, dst=VIP, ttl=63) / UDP9 / DATA,
    ),
    deflected(
        "full with a sibling, TTL 2",
        ETH / IP(src=CLIENT, dst=VIP, ttl=2) / UDP9 / DATA,
        Ether(dst=SIBLING_MAC, src=MARK_OF_1) / IP(src=CLIENT, dst=VIP, ttl=1) / UDP9 / DATA,
    ),
    deflected(
        "full with a sibling, VLAN and IPv6",
        ETH / Dot1Q(vlan=7) / V6 / UDP9 / DATA,
        Ether(dst=SIBLING_MAC, src=MARK_OF_1) / Dot1Q(vlan=7) / IPv6(src=CLIENT6, dst=VIP6, hlim=63) / UDP9 / DATA,
    ),
    dropped(
        "deflected once, never twice",
        Ether(dst=NODE_MAC, src=MARK_OF_LARGE) / V4 / UDP9 / DATA,
        full_with_sibling,
        deflected_in_pkts=1,
    ),
    Case(
        "deflected frame that fits",
        p := Ether(dst=NODE_MAC, src=MARK_OF_LARGE) / V4 / UDP9 / DATA,
        XDP_PASS,
        queued(p) | {"deflected_in_pkts": 1},
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_exact_packet(node: NodeProgram, case: Case) -> None:
    packet = bytes(case.packet)
    case.prepare(node)
    before = node.snapshot()
    ran = node.run(packet)
    after = node.snapshot()
    ignored = {"t_ns", "limit_bytes", "backlog_nb"}
    moved = {
        name: now - then
        for name, then, now in zip(before._fields, before, after, strict=True)
        if now != then and name not in ignored
    }
    assert (ran.verdict, moved) == (case.verdict, case.deltas)
    assert ran.packet.hex() == bytes(packet if case.out is None else case.out).hex()
    if ran.verdict == XDP_PASS and "arrived_pkts" in moved:
        assert after.backlog_nb == before.backlog_nb + len(packet) * NB
    elif "arrived_pkts" in moved:
        assert after.backlog_nb == before.backlog_nb


def test_every_way_to_cut_a_frame_short_is_malformed(node: NodeProgram) -> None:
    whole = [
        ETH / Dot1AD(vlan=7) / Dot1Q(vlan=8) / IP(src=CLIENT, dst=VIP, options=[IPOption_NOP()] * 8) / TCP() / DATA,
        chain(ETH, V6, *TAGS6, IPv6ExtHdrFragment(), UDP9, DATA),
        ETH / V6 / AH6 / UDP9 / DATA,
    ]
    for packet in whole:
        frame = bytes(packet)
        assert node.run(frame).verdict == XDP_PASS
        for length in range(14, len(frame)):
            before = node.snapshot().malformed_pkts
            assert (node.run(frame[:length]).verdict, node.snapshot().malformed_pkts - before) == (XDP_DROP, 1), length


@pytest.mark.parametrize(("protocol", "header"), [(17, UDP9), (6, TCP())], ids=["UDP", "TCP"])
def test_headers_cut_short_within_a_consistent_packet_are_malformed(
    node: NodeProgram, protocol: int, header: Packet
) -> None:
    for length in range(len(header)):
        for ip in (IP(src=CLIENT, dst=VIP, proto=protocol), IPv6(src=CLIENT6, dst=VIP6, nh=protocol)):
            assert node.run(bytes(ETH / ip / Raw(bytes(header)[:length]))).verdict == XDP_DROP, length
            assert node.run(bytes(ETH / ip / header)).verdict == XDP_PASS


def test_rewritten_checksums_are_those_of_a_fresh_header(node: NodeProgram) -> None:
    def header(identity: int, ttl: int, tos: int) -> bytes:
        fields = (0x45, tos, 28, identity, 0, ttl, 17, 0, socket.inet_aton(CLIENT), socket.inet_aton(VIP))
        bare = struct.pack("!BBHHHBBH4s4s", *fields)
        total = sum(struct.unpack("!10H", bare))
        total = (total & 0xFFFF) + (total >> 16)
        total = (total & 0xFFFF) + (total >> 16)
        return bare[:10] + struct.pack("!H", ~total & 0xFFFF) + bare[12:]

    addresses, l4 = bytes(ETH)[:12] + b"\x08\x00", bytes(UDP(sport=1, dport=2, len=8, chksum=0))
    base = int.from_bytes(header(0, 64, 2)[10:12], "big")
    edges = [(base - wanted) & 0xFFFF for wanted in (0, 1, 2, 0xFE, 0xFF, 0x100, 0x101, 0xFEFF, 0xFF00, 0xFFFE, 0xFFFF)]
    numbers = [number & 0xFFFF for edge in edges for number in (edge - 1, edge, edge + 1)] + random.Random(1).sample(
        range(65536), 300
    )
    for number in numbers:
        for ttl, tos in ((64, 2), (2, 1), (255, 0xFD)):
            frame = addresses + header(number, ttl, tos) + l4
            congested(node)
            node.set_limit(LIMIT)
            assert node.run(frame).packet == addresses + header(number, ttl, tos | 3) + l4
            full_with_sibling(node)
            assert node.run(frame).packet[14:] == header(number, ttl - 1, tos) + l4


def test_the_mark_carries_the_nodes_number() -> None:
    with make_node(number=0xABCDEF) as node:
        full_with_sibling(node)
        assert Ether(node.run(bytes(ETH / V4 / UDP9)).packet).src == MARK_OF_LARGE


def test_without_a_sibling_again_a_full_node_drops(node: NodeProgram) -> None:
    full_with_sibling(node)
    node.set_sibling(None)
    assert node.run(bytes(ETH / V4 / UDP9)).verdict == XDP_DROP


def test_without_a_mac_any_unicast_frame_is_the_nodes() -> None:
    with make_node(mac=None) as node:
        assert node.run(bytes(Ether(dst=OTHER_MAC) / V4 / UDP9)).verdict == XDP_PASS
        node.run(bytes(Ether(dst="ff:ff:ff:ff:ff:ff") / V4 / UDP9))
        assert (node.snapshot().arrived_pkts, node.snapshot().passed_other_pkts) == (1, 1)


# ------------------------------------------------------------------------------------------------------------ queue


@pytest.mark.parametrize("size", [60, 64, 1000, 1514])
@pytest.mark.parametrize("limit", [1514, 10_000, 500_000, 10_000_000, 1_000_000_000])
def test_the_limit_holds_to_the_byte(node: NodeProgram, size: int, limit: int) -> None:
    frame = bytes(ETH / V4 / UDP9 / Raw(bytes(size - 42)))
    node.set_limit(limit)
    hold(node, limit - size)
    assert node.run(frame).verdict == XDP_PASS
    assert state(node, "debt_nb") == limit * NB
    hold(node, limit - size + 1)
    assert node.run(frame).verdict == XDP_DROP
    assert state(node, "debt_nb") == (limit - size + 1) * NB


def test_a_nanobit_above_the_limit_is_above(node: NodeProgram) -> None:
    frame = bytes(ETH / V4 / UDP9)
    hold(node, 0)
    poke(node, debt_nb=(LIMIT - len(frame)) * NB + 1)
    assert node.run(frame).verdict == XDP_DROP


def test_limit_zero_admits_nothing(node: NodeProgram) -> None:
    node.set_limit(0)
    assert node.run(bytes(ETH / V4 / UDP9)).verdict == XDP_DROP


def test_resize_up_and_down(node: NodeProgram) -> None:
    frame = bytes(ETH / V4 / UDP9 / Raw(bytes(958)))
    hold(node, LIMIT)
    assert node.run(frame).verdict == XDP_DROP
    node.set_limit(LIMIT + 1000)
    assert [node.run(frame).verdict for _ in range(2)] == [XDP_PASS, XDP_DROP]
    node.set_limit(LIMIT // 2)
    assert node.run(frame).verdict == XDP_DROP
    assert state(node, "debt_nb") == (LIMIT + 1000) * NB  # nothing of what waits was taken away
    hold(node, LIMIT // 2 - 1000)
    assert [node.run(frame).verdict for _ in range(2)] == [XDP_PASS, XDP_DROP]


def test_tokens_are_saved_up_to_the_bucket() -> None:
    frame = bytes(ETH / V4 / UDP9 / Raw(bytes(958)))
    with make_node(bucket_bytes=5000, limit_bytes=1000) as node:
        assert node.run(frame).verdict == XDP_PASS  # after endless idling: a full bucket
        assert state(node, "debt_nb") == -4000 * NB
        assert node.snapshot().backlog_nb == 0
        hold(node, 0)
        poke(node, debt_nb=-4000 * NB)
        assert [node.run(frame).verdict for _ in range(7)] == [XDP_PASS] * 5 + [XDP_DROP] * 2


Step = tuple[int, int, int]  # pause in ns, packet size, limit
steps = st.lists(
    st.tuples(
        st.one_of(st.integers(0, 10**5), st.integers(0, 10**9), st.just(10**12)),
        st.integers(60, 3400),
        st.sampled_from([0, 1_000, 20_000, 500_000, 10_000_000, 1_000_000_000]),
    ),
    min_size=5,
    max_size=60,
)


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(
    rate_bps=st.one_of(st.integers(1, 10**12), st.sampled_from([10**7, 10**8, 10**9, 10**10, 8 * 10**9 + 7])),
    bucket_bytes=st.sampled_from([0, 1514, 125_000, 50_000_000]),
    first_backlog=st.sampled_from([0, 499_000, 999_999_999]),
    history=steps,
)
def test_the_queue_is_the_fluid_queue(
    rate_bps: int, bucket_bytes: int, first_backlog: int, history: list[Step]
) -> None:
    """Against unbounded integers: every debt and every verdict, bit for bit."""
    with make_node(rate_bps=rate_bps, bucket_bytes=bucket_bytes) as node:
        t_ns, debt = time.monotonic_ns(), first_backlog * NB
        poke(node, t_ns=t_ns, debt_nb=debt)
        for pause_ns, size, limit in history:
            t_ns = max(1, t_ns - pause_ns)
            poke(node, t_ns=t_ns)
            node.set_limit(limit)
            verdict = node.run(bytes(14 + 20 + 8) if size < 42 else frame_of(size)).verdict
            now_ns = state(node, "t_ns")
            debt = max(-bucket_bytes * NB, debt - (now_ns - t_ns) * rate_bps)
            fits = max(0, debt) + size * NB <= limit * NB
            debt += size * NB if fits else 0
            t_ns = now_ns
            assert verdict == (XDP_PASS if fits else XDP_DROP)
            assert state(node, "debt_nb") == debt


FRAMES: dict[int, bytes] = {}


def frame_of(size: int) -> bytes:
    if size not in FRAMES:
        FRAMES[size] = bytes(ETH / V4 / UDP9 / Raw(bytes(size - 42)))
    return FRAMES[size]


@pytest.mark.parametrize("short_ns", [1, 2, 1000])
def test_the_longest_pause_before_the_shortcut_does_not_overflow(short_ns: int) -> None:
    with make_node(rate_bps=10**12, bucket_bytes=50_000_000) as node:
        full_drain_ns = int(node._config["full_drain_ns"])
        poke(node, t_ns=time.monotonic_ns() - full_drain_ns, debt_nb=-50_000_000 * NB)
        for pause_ns in range(full_drain_ns - 400_000, full_drain_ns, 20_000 + short_ns):
            poke(node, t_ns=time.monotonic_ns() - pause_ns, debt_nb=-50_000_000 * NB)
            node.run(frame_of(1000))
            assert state(node, "debt_nb") == (-50_000_000 + 1000) * NB


def test_time_that_runs_backwards_drains_nothing(node: NodeProgram) -> None:
    hold(node, 10_000)
    ahead = state(node, "t_ns")
    node.run(frame_of(1000))
    assert (state(node, "t_ns"), state(node, "debt_nb")) == (ahead, 11_000 * NB)


def test_backlog_is_carried_on_to_any_time(node: NodeProgram) -> None:
    hold(node, 9_000)
    node.run(frame_of(1000))
    t_ns = state(node, "t_ns")
    assert node.backlog_bytes(t_ns) == 10_000
    assert node.backlog_bytes(t_ns + 79) == 10_000  # 80 ns a byte at 100 Mbit/s: one byte is still in service
    assert node.backlog_bytes(t_ns + 80) == 9_999
    assert node.backlog_bytes(t_ns + 80 * 10_000) == 0
    assert node.backlog_bytes(t_ns - 1) == 10_000


# ------------------------------------------------------------------------------------------------------------ meter


def bins_of(node: NodeProgram, first_ns: int, last_ns: int) -> NDArray[np.void]:
    """Return the bins with arrivals between two times: `NODE_BIN`."""
    first, last = xdp_meter.bin_range(first_ns // NODE_BIN_NS, last_ns // NODE_BIN_NS)
    bins = np.frombuffer(node._copy_bins(first, last), NODE_BIN)
    return bins[(bins["number"] >= first) & (bins["number"] <= last)]


def test_bins_gaps_and_peak_follow_the_arrivals(node: NodeProgram) -> None:
    node.look(time.monotonic_ns())
    times, sizes = [], [100, 1500, 60, 800, 1500, 300]
    for k, size in enumerate(sizes):
        if k:
            poke(node, t_ns=times[-1])
        node.run(frame_of(size))
        times.append(state(node, "t_ns"))
    now_ns = time.monotonic_ns()
    stats = node.look(now_ns).interval
    gaps = [b - a for a, b in itertools.pairwise(times)]
    totals: dict[int, int] = {}
    for t_ns, size in zip(times, sizes, strict=True):
        totals[t_ns // NODE_BIN_NS] = totals.get(t_ns // NODE_BIN_NS, 0) + size
    assert stats.gap_max_ns == max(*gaps, now_ns - times[-1])
    assert stats.peak_1ms_bytes == max(totals.values())
    assert stats.new_flows == 1
    bins = bins_of(node, times[0], now_ns)
    assert dict(zip(bins["number"].tolist(), bins["bytes"].tolist(), strict=True)) == totals


def test_a_long_gap_is_reported_once_when_it_has_ended(node: NodeProgram) -> None:
    node.run(frame_of(100))
    node.look(time.monotonic_ns())
    before = time.monotonic_ns() - 30_000_000
    poke(node, t_ns=before)
    node.run(frame_of(100))
    gap_ns = state(node, "t_ns") - before
    assert node.look(time.monotonic_ns()).interval.gap_max_ns == gap_ns
    node.run(frame_of(100))
    assert node.look(time.monotonic_ns()).interval.gap_max_ns < gap_ns


def test_an_open_gap_grows_and_silence_has_no_peak(node: NodeProgram) -> None:
    now_ns = time.monotonic_ns()
    assert node.look(now_ns).interval == (0, 0, 0, 0)  # nothing ever arrived
    node.run(frame_of(100))
    t_ns = state(node, "t_ns")
    node.look(t_ns + 1)
    stats = node.look(t_ns + 5_000_000_000).interval  # longer than the ring
    assert (stats.gap_max_ns, stats.new_flows) == (5_000_000_000, 0)
    assert node.look(t_ns + 5_100_000_000).interval.peak_1ms_bytes == 0


def test_the_peak_of_the_backlog_between_two_samples_is_kept(node: NodeProgram) -> None:
    for size in (1000, 3000, 1500):
        node.run(frame_of(size))
    high = max(1000, node.look(time.monotonic_ns()).interval.peak_backlog_bytes)
    assert 3000 <= high <= 5500
    assert node.look(time.monotonic_ns() + 2 * NODE_BIN_NS).interval.peak_backlog_bytes <= high


def test_bins_of_a_ring_that_has_turned_are_not_mixed_up(node: NodeProgram) -> None:
    node.run(frame_of(1000))
    t_ns = state(node, "t_ns")
    assert len(bins_of(node, t_ns, t_ns)) == 1
    assert len(bins_of(node, t_ns + 4096 * NODE_BIN_NS, t_ns + 4096 * NODE_BIN_NS)) == 0
    assert len(bins_of(node, t_ns - 4096 * NODE_BIN_NS, t_ns - 4000 * NODE_BIN_NS)) == 0
    assert len(bins_of(node, 0, t_ns)) == 1  # more than the ring holds


def test_a_slot_of_the_ring_is_cleared_for_its_next_bin(node: NodeProgram) -> None:
    start, end = offset(NODE_MEMORY, "bins"), offset(NODE_MEMORY, "flow_age")
    node._memory[start:end] = b"\1" * (end - start)
    node.run(frame_of(1000))
    t_ns = state(node, "t_ns")
    (only,) = bins_of(node, t_ns, t_ns)
    assert (only["gap_max_ns"], only["backlog_max_nb"]) == (0, 1000 * NB)
    assert only["bytes"] == 1000


def test_traffic_classes(node: NodeProgram) -> None:
    node.set_classes({46: 3, 8: 7})
    for tos in (0, 46 << 2, 46 << 2, 8 << 2):
        node.run(bytes(ETH / IP(src=CLIENT, dst=VIP, tos=tos) / UDP9 / DATA))
    node.run(bytes(ETH / IPv6(src=CLIENT6, dst=VIP6, tc=46 << 2) / UDP9 / DATA))
    node.set_limit(0)
    node.run(bytes(ETH / IP(src=CLIENT, dst=VIP, tos=8 << 2) / UDP9 / DATA))
    classes = node.class_meters()
    assert classes["arrived_pkts"].tolist() == [1, 0, 0, 3, 0, 0, 0, 2]
    assert classes["dropped_pkts"].tolist() == [0] * 7 + [1]
    counters = node.snapshot()
    assert (counters.arrived_pkts, counters.dropped_pkts) == (6, 1)
    assert counters.arrived_bytes == classes["arrived_bytes"].sum()


def test_flows_are_new_once_and_again_after_idling() -> None:
    def age_all_flows(node: NodeProgram, seconds: int) -> None:
        start = offset(NODE_MEMORY, "flow_age")
        ages = np.frombuffer(node._memory[start : start + 4 * 65536], "<u4").copy()
        ages[ages > 0] -= np.uint32((seconds * 10**9) >> 20)  # modulo 2^32, as in the program
        node._memory[start : start + 4 * 65536] = ages.tobytes()

    frames = [bytes(ETH / V4 / UDP(sport=port, dport=9000) / DATA) for port in range(10_000, 10_200)]
    frames += [bytes(ETH / V6 / UDP(sport=port, dport=9000) / DATA) for port in range(10_000, 10_100)]
    with make_node(flow_idle_ns=10**15) as node:
        for frame in frames * 3:
            node.run(frame)
        first = node.snapshot().new_flows
        assert 295 <= first <= 300  # two flows of 300 share a cell now and then: never more, seldom less
        age_all_flows(node, 900_000)  # of 1,000,000 s: still known
        for frame in frames:
            node.run(frame)
        assert node.snapshot().new_flows == first
        age_all_flows(node, 1_100_000)
        for frame in frames:
            node.run(frame)
        assert node.snapshot().new_flows == 2 * first


def test_fragments_of_a_datagram_are_one_flow(node: NodeProgram) -> None:
    for part in (
        IP(flags="MF") / UDP9 / Raw(bytes(72)),
        IP(flags="MF", frag=9, proto=17) / DATA,
        IP(frag=18, proto=17),
    ):
        part.src, part.dst = CLIENT, VIP
        node.run(bytes(ETH / part / DATA))
    assert node.snapshot().new_flows == 1
    for header in (IPv6ExtHdrFragment(m=1), IPv6ExtHdrFragment(m=1, offset=9), IPv6ExtHdrFragment(offset=18)):
        header.nh = 17
        node.run(bytes(ETH / V6 / header / UDP9 / DATA))
    assert node.snapshot().new_flows == 2


def test_a_whole_datagram_behind_a_fragment_header_is_of_its_own_flow(node: NodeProgram) -> None:
    for ports in (UDP9, UDP(sport=20001, dport=9000)):
        node.run(bytes(ETH / V6 / ports / DATA))
        node.run(bytes(ETH / V6 / IPv6ExtHdrFragment(nh=17) / ports / DATA))
    assert node.snapshot().new_flows == 2


# ------------------------------------------------------------------------------------------------- user space's side


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"rate_bps": 0}, "rate_bps"),
        ({"bucket_bytes": 50_000_001}, "bucket_bytes"),
        ({"limit_bytes": 1_000_000_001}, "limit_bytes"),
        ({"number": 1 << 24}, "number"),
        ({"flow_idle_ns": -1}, "flow_idle_ns"),
    ],
)
def test_values_out_of_range_are_refused(change: dict[str, int], word: str) -> None:
    with pytest.raises(InputError, match=word):
        make_node(**change)


def test_controls_out_of_range_are_refused(node: NodeProgram) -> None:
    for call in (lambda: node.set_limit(-1), lambda: node.set_limit(10**9 + 1), lambda: node.set_classes({64: 0})):
        with pytest.raises(InputError):
            call()
    assert node.limit_bytes == LIMIT


def forked(body: Callable[[], object]) -> int:
    """Run `body` in a forked child and return its process id."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of threads; the child uses none
        child = os.fork()
    if not child:
        body()
        os._exit(0)
    return child


def test_a_limit_set_in_a_forked_child_is_in_force(node: NodeProgram) -> None:
    assert os.waitpid(forked(lambda: node.set_limit(77)), 0)[1] == 0
    assert (node.limit_bytes, node.run(frame_of(100)).verdict) == (77, XDP_DROP)


def test_snapshots_are_consistent_while_packets_flow(node: NodeProgram) -> None:
    def send() -> None:
        while True:
            node.run(frame_of(1000))  # repeating would wait for RCU each time

    node.set_limit(1_000_000_000)
    child, last = forked(send), 0
    try:
        while last < 3000:
            counters = node.snapshot()
            assert counters.arrived_bytes == 1000 * counters.arrived_pkts
            assert counters.arrived_pkts >= last
            last = counters.arrived_pkts
            node.look(time.monotonic_ns())
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_each_packet_moves_the_sequence_lock_by_two(node: NodeProgram) -> None:
    for packets in range(1, 4):
        node.run(frame_of(100))
        assert state(node, "sequence") == 2 * packets


def test_a_writer_that_never_pauses_is_an_error_not_a_wrong_number(node: NodeProgram) -> None:
    poke(node, sequence=7)
    with pytest.raises(ToolError, match="lower the packet rate"):
        node.snapshot()


def test_the_locked_program_does_the_same() -> None:
    with make_node() as node:
        node.set_limit(4321)
        node.reload_locked()
        assert node.limit_bytes == 4321
        for case in CASES[:30]:
            assert node.run(bytes(case.packet)).verdict == case.verdict, case.description


# --------------------------------------------------------------------------------------------------------- on a link


def test_a_full_node_in_native_mode_sends_the_frame_back_to_the_switch() -> None:
    def body() -> None:
        switch_end, node_end = veth("tx-switch", "tx-node")
        with make_node() as node, PassProgram() as accepting:
            assert (node.attach(node_end), accepting.attach(switch_end)) == ("native", "native")
            node.set_limit(0)
            node.set_sibling(SIBLING_MAC)
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800)) as port:
                port.bind(("tx-switch", 0x0800))
                port.settimeout(5)
                port.send(bytes(ETH / V4 / UDP9 / DATA))
                came = port.recv(2000)
            assert node.snapshot().deflected_pkts == 1
        assert came == bytes(Ether(dst=SIBLING_MAC, src=MARK_OF_1) / IP(src=CLIENT, dst=VIP, ttl=63) / UDP9 / DATA)

    in_own_network(body)
