"""What a veth link drops counts once, wherever the kernel counts it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

import pytest
from pyroute2 import IPRoute
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from testbed.emulation.dataplane.link_drops import interface_drops
from testbed.emulation.dataplane.xdp import NodeProgram, PassProgram
from testbed.system import kernel

pytestmark = pytest.mark.requires("root", "bpf", "clang")

FRAME = bytes(Ether(dst="02:02:00:00:00:01") / IP(src="10.0.16.2", dst="10.0.0.100") / UDP(dport=9000) / Raw(bytes(50)))


def in_own_network(body: Callable[[], None]) -> None:
    """Run `body` in a thread with a network namespace of its own, which ends with it."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            kernel.unshare(kernel.CLONE_NEWNET)
            with IPRoute() as netlink:
                netlink.link("add", ifname="switch", kind="veth", peer={"ifname": "node"})
                for name in ("switch", "node"):
                    netlink.link("set", index=socket.if_nametoindex(name), state="up")
            body()
        except BaseException as error:  # noqa: BLE001 - raised again in the test's thread
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


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
    def body() -> None:
        with NodeProgram(10**8, 0, 0) as node, PassProgram() as taking:
            node.attach(socket.if_nametoindex("node"))
            if accepting:
                taking.attach(socket.if_nametoindex("switch"))
            node.set_sibling("02:02:00:00:00:02")
            before = dropped()
            send(20)
            while node.snapshot().deflected_pkts < 20:
                pass
            after = dropped()
            seen.append((after[0] - before[0], after[1] - before[1]))

    seen: list[tuple[int, int]] = []
    in_own_network(body)
    assert seen == ([(0, 0)] if accepting else [(40, 20)]), "the kernel counts it at both ends"
