"""Which packets ended where: what the programs of node and link note of each, by BPF_PROG_TEST_RUN and on a link."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import numpy as np
import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Packet, Raw

from testbed.emulation.dataplane.libbpf import XDP_DROP, XDP_PASS
from testbed.emulation.dataplane.link_meter import LinkMeter
from testbed.emulation.dataplane.xdp import NodeProgram
from testbed.traffic.frames import ProbeHeader
from testbed.traffic.numbers import PacketNumbers
from tests.own_network import in_own_network, veth

pytestmark = pytest.mark.requires("root", "bpf", "clang")

RUN = 77
FLOWS, FLOW_PKTS = 3, 100
NUMBERS = PacketNumbers(np.full(FLOWS, FLOW_PKTS))
ETH = Ether(dst="02:02:00:00:00:01", src="02:01:00:00:00:01")
V4, V6 = IP(src="10.0.16.2", dst="10.0.0.100"), IPv6(src="fd00::1:1", dst="fd00::100")
UDP9 = UDP(sport=20000, dport=9000, chksum=0)


@pytest.fixture(scope="module", autouse=True)
def _compiled() -> None:
    subprocess.run(["make", "-s", "-C", str(Path(__file__).parents[1] / "bpf")], check=True)


def probe(flow: int, seq: int, run: int = RUN) -> Packet:
    return ProbeHeader(run=run, flow=flow, seq=seq) / Raw(bytes(50))


def frame(flow: int, seq: int) -> bytes:
    return bytes(ETH / V4 / UDP9 / probe(flow, seq))


NAMED = {
    "first of all": (ETH / V4 / UDP9 / probe(0, 0), 0),
    "last of a word": (ETH / V4 / UDP9 / probe(0, 63), 63),
    "first of the next": (ETH / V4 / UDP9 / probe(0, 64), 64),
    "another flow": (ETH / V4 / UDP9 / probe(1, 0), FLOW_PKTS),
    "last of all": (ETH / V4 / UDP9 / probe(FLOWS - 1, FLOW_PKTS - 1), NUMBERS.total - 1),
    "IPv6": (ETH / V6 / UDP9 / probe(2, 7), 207),
    "IPv6 with an extension header": (ETH / V6 / IPv6ExtHdrDestOpt() / UDP9 / probe(2, 8), 208),
    "VLAN": (ETH / Dot1Q(vlan=7) / V4 / UDP9 / probe(1, 9), 109),
}
NAMELESS = {
    "flow beyond the plan": ETH / V4 / UDP9 / probe(FLOWS, 0),
    "number beyond the plan": ETH / V4 / UDP9 / probe(0, FLOW_PKTS),
    "another run": ETH / V4 / UDP9 / probe(0, 0, run=RUN + 1),
    "no probe": ETH / V4 / UDP9 / Raw(bytes(64)),
    "TCP": ETH / V4 / TCP() / probe(0, 0),
    "fragment": ETH / IP(src="10.0.16.2", dst="10.0.0.100", flags="MF") / UDP9 / probe(0, 0),
    "IPv6 fragment": ETH / V6 / IPv6ExtHdrFragment(m=1, nh=17) / UDP9 / probe(0, 0),
}


def make_node(**changes: object) -> NodeProgram:
    values = {"rate_bps": 10**6, "bucket_bytes": 0, "limit_bytes": 0, "run": RUN, "numbers": NUMBERS} | changes
    return NodeProgram(**values)  # type: ignore[arg-type]


def noted(node: NodeProgram) -> dict[str, list[int]]:
    return {name: np.flatnonzero(NUMBERS.members(words)).tolist() for name, words in node.fates().items()}


@pytest.fixture(scope="module")
def full() -> NodeProgram:
    return make_node()


@pytest.mark.parametrize(("packet", "number"), NAMED.values(), ids=NAMED)
def test_a_full_node_notes_which_packet_it_dropped(full: NodeProgram, packet: Packet, number: int) -> None:
    full._fates[:] = bytes(len(full._fates))
    assert full.run(bytes(packet), repeat=3).verdict == XDP_DROP
    assert noted(full) == {"dropped": [number], "crashed": [], "lost": []}


@pytest.mark.parametrize("packet", NAMELESS.values(), ids=NAMELESS)
def test_what_the_plan_does_not_have_is_dropped_without_a_note(full: NodeProgram, packet: Packet) -> None:
    full._fates[:] = bytes(len(full._fates))
    before = full.snapshot().dropped_pkts
    assert full.run(bytes(packet)).verdict == XDP_DROP
    assert full.snapshot().dropped_pkts == before + 1
    assert noted(full) == {"dropped": [], "crashed": [], "lost": []}


def test_each_cause_has_a_set_of_its_own() -> None:
    with make_node(limit_bytes=10**6) as node:
        assert node.run(frame(0, 0)).verdict == XDP_PASS
        node.set_loss(1.0)
        node.run(frame(0, 1))
        node.set_crashed(True)
        node.run(frame(0, 2))
        node.set_crashed(False)
        node.set_loss(0.0)
        node.set_limit(0)
        node.run(frame(0, 3))
        assert noted(node) == {"dropped": [3], "crashed": [2], "lost": [1]}
        node.reload_locked()
        node.run(frame(1, 1))
        assert noted(node) == {"dropped": [101], "crashed": [], "lost": []}


def test_deflected_packets_are_counted_by_class() -> None:
    with make_node() as node:
        node.set_classes({8: 1})
        node.set_sibling("02:02:00:00:00:02")
        planned, other = (ETH / IP(src="10.0.16.2", dst="10.0.0.100", tos=tos) / UDP9 for tos in (8 << 2, 0))
        for packet in (planned, planned, planned, other, other):
            node.run(bytes(packet))
        marked = Ether(dst="02:02:00:00:00:01", src="02:de:f1:00:00:05")
        for below in (planned, other, other):
            node.run(bytes(marked / below.payload))
        out, into = node.deflected_by_class()
        assert (out.tolist()[:2], into.tolist()[:2]) == ([2, 3], [2, 1])
        counters = node.snapshot()
        assert (counters.deflected_pkts, counters.deflected_in_pkts) == (5, 3)


def test_a_cut_link_notes_which_packets_went_nowhere() -> None:
    def body() -> None:
        veth("va", "vb", mtu=9000)
        meter = LinkMeter("va", RUN, NUMBERS)
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
            sender.bind(("va", 0x800))
            sender.send(frame(0, 0))
            meter.cut(True)
            before = meter.passed_pkts()
            for packet in (*(bytes(packet) for packet, _ in NAMED.values()), *(bytes(p) for p in NAMELESS.values())):
                sender.send(packet)
            sender.send(frame(1, 5) + bytes(8000))  # longer than a page: the kernel keeps it in pieces
            seen.append((meter.passed_pkts() - before, meter.cut_planned_pkts()))
            swallowed.extend(np.flatnonzero(NUMBERS.members(meter.swallowed())).tolist())
            meter.cut(False)
            sender.send(frame(0, 1))
            seen.append((meter.passed_pkts() - before, meter.cut_planned_pkts()))
        meter.close()

    seen: list[tuple[int, int]] = []
    swallowed: list[int] = []
    in_own_network(body)
    assert swallowed == sorted({*(number for _, number in NAMED.values()), 105})
    assert seen[0] == (0, len(NAMED) + 1)
    assert seen[1][0] >= 1
    assert seen[1][1] == len(NAMED) + 1
