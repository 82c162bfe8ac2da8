"""What a real Open vSwitch drops and counts apart: fragments to the VIP, and what hosts' kernels send by themselves.

No fragment gets to a node, and whole datagrams pass.

One trial, run once a framework.
"""

from __future__ import annotations

import signal
from dataclasses import replace
from typing import Any

import pytest
from scapy.contrib.igmp import IGMP
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6MLReport2,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RS,
    IPv6,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    RouterAlert,
)
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet, Raw

from testbed.controllers.pipeline import FRAGMENT_COOKIE, KERNEL_COOKIE
from testbed.emulation.network.switch_counts import SwitchCounts
from testbed.scenario.network import VIP_IP, VIP_IP6, VIP_MAC, Host
from tests.balancer_on_ovs import NODES, Trial, alone, build, is_kind, run_in_sandbox

pytestmark = pytest.mark.requires("root", "ovs")

CLIENT = Host("c1", "client")
HEAD = Ether(src=CLIENT.mac, dst=VIP_MAC)
HEAD6 = HEAD / IPv6(src=CLIENT.ip6, dst=VIP_IP6)
BODY = Raw(bytes(200))
PLACES = {"first": (1, 0), "middle": (1, 100), "last": (0, 200)}  # more to come, offset in units of 8 bytes
FLOWS = range(10_000, 10_010)


def ipv4(flow: int, place: str, ports: type[Packet]) -> Packet:
    """Return one fragment of a datagram of the flow; only the first has ports."""
    more, offset = PLACES[place]
    header = IP(src=CLIENT.ip, dst=VIP_IP, id=flow, flags="MF" if more else 0, frag=offset)
    header.proto = 17 if ports is UDP else 6
    return HEAD / header / (BODY if offset else ports(sport=flow, dport=9000) / BODY)


def ipv6(flow: int, place: str, ports: type[Packet]) -> Packet:
    """Return the same of IPv6."""
    more, offset = PLACES[place]
    header = IPv6ExtHdrFragment(m=more, offset=offset, id=flow, nh=17 if ports is UDP else 6)
    return (
        HEAD / IPv6(src=CLIENT.ip6, dst=VIP_IP6) / header / (BODY if offset else ports(sport=flow, dport=9000) / BODY)
    )


KINDS = [(family, ports, place) for family in (ipv4, ipv6) for ports in (UDP, TCP) for place in PLACES]


def _to(mac: str) -> Ether:
    return Ether(src=CLIENT.mac, dst=mac)


STRANGER = "02:99:99:99:99:99"
MLD = IPv6(src="fe80::1", dst="ff02::16") / IPv6ExtHdrHopByHop(options=[RouterAlert()]) / ICMPv6MLReport2()
BY_KERNELS = (
    _to("33:33:00:00:00:16") / MLD,
    _to("33:33:00:00:00:02") / IPv6(src="fe80::1", dst="ff02::2") / ICMPv6ND_RS(),
    _to("33:33:ff:00:00:01") / IPv6(src="::", dst="ff02::1:ff00:1") / ICMPv6ND_NS(tgt="fd00::1"),
    _to(VIP_MAC) / IPv6(src=CLIENT.ip6, dst=VIP_IP6) / ICMPv6ND_NS(tgt=VIP_IP6),
    _to("33:33:00:00:00:01") / IPv6(src=CLIENT.ip6, dst="ff02::1") / ICMPv6ND_NA(tgt=CLIENT.ip6),
    _to("01:00:5e:00:00:16") / IP(src=CLIENT.ip, dst="224.0.0.22", ttl=1) / IGMP(type=0x16, gaddr="239.1.1.1"),
    _to("ff:ff:ff:ff:ff:ff") / ARP(op=1, hwsrc=CLIENT.mac, psrc=CLIENT.ip, pdst="10.9.9.9"),
    _to(STRANGER) / ARP(op=2, hwsrc=CLIENT.mac, psrc=CLIENT.ip, hwdst=STRANGER, pdst="10.9.9.9"),
)
TRAFFIC_WITHOUT_A_WAY = _to(STRANGER) / IP(src=CLIENT.ip, dst="10.9.9.9") / UDP(sport=1, dport=9000) / BODY


class Fragments(Trial):
    """Whole datagrams first, so that their flows are pinned; then fragments of the same flows."""

    def run(self) -> dict[str, Any]:
        every_port = replace(self.config, vip=replace(self.config.vip, ports=()))  # as in a run
        balancer = alone(every_port, self.notify_socket)
        balancer.wait_for(is_kind("BalancerReady"))
        self.send_flows("whole", FLOWS)
        self.send_flows("whole, IPv6", FLOWS, ip6=True)
        before = 0
        for family, ports, place in KINDS:
            arrived = self._arrived([bytes(family(flow, place, ports)) for flow in FLOWS])
            now = self.ovs.matched_pkts("s1", FRAGMENT_COOKIE)
            self.seen[f"{family.__name__} {ports.__name__} {place}"] = {"arrived": arrived, "counted": now - before}
            before = now
        self._lose()
        self._send_whole_datagrams_with_a_fragment_header()
        self.send_flows("whole again", FLOWS)
        balancer.end(signal.SIGTERM)
        return self.seen

    def _lose(self) -> None:
        """Send what has no way: a fragment, each kind of a kernel's own frames, and three packets of traffic."""
        self.ovs.count_packet_ins("s1")
        counts = self._begun_in_silence()
        frames = [bytes(frame) for frame in (ipv4(FLOWS[0], "first", UDP), *BY_KERNELS, *3 * [TRAFFIC_WITHOUT_A_WAY])]
        self._arrived(frames)
        self.seen["lost"] = counts.loss(0)._asdict()

    def _begun_in_silence(self) -> SwitchCounts:
        """Return counts that began while no kernel sent: neither one of a host, nor the one that holds the ports."""
        while True:
            counts = SwitchCounts(self.ovs, ["s1"], [f"s1-{name}" for name in ("c1", *NODES)])
            self.ovs.matched_pkts("s1", KERNEL_COOKIE)  # half a second, for all that was under way to be counted
            if counts._discarded() == counts._discarded_before and counts._read() == counts._before:
                return counts

    def _arrived(self, frames: list[bytes]) -> int:
        """Return how many arrive.  The switch keeps their order: once the last is there, all are."""
        last = build(FLOWS[0])
        body = last[-40:]  # the switch writes addresses anew
        return sum(not frame.endswith(body) for _, frame in self.wire.exchange("c1", [*frames, last], 1, NODES))

    def _send_whole_datagrams_with_a_fragment_header(self) -> None:
        frames = [
            bytes(
                HEAD / IPv6(src=CLIENT.ip6, dst=VIP_IP6) / IPv6ExtHdrFragment(nh=17) / UDP(sport=f, dport=9000) / BODY
            )
            for f in FLOWS
        ]
        self.seen["with a header"] = {"arrived": len(self.wire.exchange("c1", frames, len(frames), NODES))}


@pytest.fixture(scope="module", params=["os-ken", pytest.param("ryu", marks=pytest.mark.requires("ryu"))])
def seen(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    logs = tmp_path_factory.mktemp("logs")
    return run_in_sandbox(lambda: Fragments(logs, request.param))


@pytest.mark.parametrize("kind", [f"{family.__name__} {ports.__name__} {place}" for family, ports, place in KINDS])
def test_no_fragment_gets_to_a_node_and_each_is_counted(seen: dict[str, Any], kind: str) -> None:
    assert seen[kind] == {"arrived": 0, "counted": len(FLOWS)}


def test_whole_datagrams_pass_and_stay_where_they_were(seen: dict[str, Any]) -> None:
    for name in ("whole", "whole, IPv6", "whole again"):
        assert seen[name]["arrived"] == seen[name]["sent"] == len(FLOWS)
    assert seen["whole again"]["nodes"] == seen["whole"]["nodes"]


def test_a_whole_datagram_with_a_fragment_header_is_none(seen: dict[str, Any]) -> None:
    assert seen["with a header"]["arrived"] == len(FLOWS)


def test_a_kernels_own_frames_and_fragments_are_not_traffic_without_a_way(seen: dict[str, Any]) -> None:
    lost = seen["lost"]
    assert (lost["unrouted_pkts"], lost["refused_pkts"]) == (3, 0)
    assert lost["fragments_pkts"] == 1
    assert lost["kernels_pkts"] >= len(BY_KERNELS), "the kernels here are not kept quiet"
