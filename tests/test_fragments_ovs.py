"""Fragments to the VIP on a real Open vSwitch: none gets to a node, all are counted, and whole datagrams pass.

One trial, run once a framework.
"""

from __future__ import annotations

import signal
from dataclasses import replace
from typing import Any

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from testbed.controllers.pipeline import FRAGMENT_COOKIE
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


class Fragments(Trial):
    """Whole datagrams first, so that their flows are pinned; then fragments of the same flows."""

    def run(self) -> dict[str, Any]:
        every_port = replace(self.config, vip=replace(self.config.vip, ports=()))  # as in a run
        balancer = alone(every_port, self.notify_socket)
        balancer.wait_for(is_kind("BalancerReady"))
        self.send_flows("whole", FLOWS)
        self.send_flows("whole, IPv6", FLOWS, ip6=True)
        for family, ports, place in KINDS:
            frames = [bytes(family(flow, place, ports)) for flow in FLOWS]
            before = self.ovs.matched_pkts("s1", FRAGMENT_COOKIE)
            arrived = self._arrived(frames)
            counted = self.ovs.matched_pkts("s1", FRAGMENT_COOKIE) - before
            self.seen[f"{family.__name__} {ports.__name__} {place}"] = {"arrived": arrived, "counted": counted}
        self._send_whole_datagrams_with_a_fragment_header()
        self.send_flows("whole again", FLOWS)
        balancer.end(signal.SIGTERM)
        return self.seen

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
