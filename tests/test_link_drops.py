"""What a veth link drops counts once, wherever the kernel counts it."""

from __future__ import annotations

import socket

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from testbed.emulation.dataplane.link_drops import interface_drops
from testbed.emulation.dataplane.xdp import NodeProgram, PassProgram
from tests.own_network import in_own_network, veth

pytestmark = pytest.mark.requires("root", "bpf", "clang")

FRAME = bytes(Ether(dst="02:02:00:00:00:01") / IP(src="10.0.16.2", dst="10.0.0.100") / UDP(dport=9000) / Raw(bytes(50)))


def dropped() -> tuple[int, int]:
    """Return what the two ends of the link count, and what the link has dropped."""
    drops = interface_drops()
    ends = drops["switch"], drops["node"]
    return sum(end.counted for end in ends), sum(end.counted - end.twice for end in ends)


def send(count: int) -> None:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as port:
        port.bind(("switch", 0x800))
        for _ in range(count):
            port.send(FRAME)


@pytest.mark.parametrize("accepting", [False, True])
def test_a_frame_that_a_full_node_cannot_send_back_is_dropped_once(accepting: bool) -> None:
    def body() -> tuple[int, int]:
        switch, end = veth("switch", "node")
        with NodeProgram(10**8, 0, 0) as node, PassProgram() as taking:
            node.attach(end)
            if accepting:
                taking.attach(switch)
            node.set_sibling("02:02:00:00:00:02")
            before = dropped()
            send(20)
            while node.snapshot().deflected_pkts < 20:
                pass
            after = dropped()
            return after[0] - before[0], after[1] - before[1]

    assert in_own_network(body) == ((0, 0) if accepting else (40, 20)), "the kernel counts it at both ends"
