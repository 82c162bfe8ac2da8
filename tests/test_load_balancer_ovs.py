"""The balancer on a real Open vSwitch (userspace datapath), in a sandbox of its own, with each framework.

One trial, run once a framework.  Each test asserts one thing of what the trial saw.
"""

from __future__ import annotations

import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from testbed.scenario.network import VIP_IP, VIP_MAC, Host
from testbed.system import commands
from tests.balancer_on_ovs import (
    MB,
    NODES,
    PATIENCE_S,
    Balancer,
    Trial,
    alone,
    build,
    flow_of,
    is_kind,
    run_in_sandbox,
    shares,
)

pytestmark = pytest.mark.requires("root", "ovs")

FLOWS = 200


class WholeLife(Trial):
    """The steps of one controller's life, and its successor's."""

    def run(self) -> dict[str, Any]:
        balancer = alone(self.config, self.notify_socket)
        self.seen["ready"] = balancer.records[balancer.wait_for(is_kind("BalancerReady"))]
        self.ovs.widen_buffers("s1", "s1-c1")
        self.send_flows("first", range(10_000, 10_000 + FLOWS), packets=3)
        self._weigh(balancer)
        self._other_traffic()
        self._lose_port(balancer)
        self._kill_controller(balancer)
        balancer = alone(self.config, self.notify_socket)
        self._come_back(balancer)
        self._fall_silent(balancer)
        self.notifier.end()
        self.seen["status"] = balancer.end(signal.SIGTERM)
        self.seen["last_record"] = balancer.records[-1]
        self.seen["switch_drops"] = self.ovs.dropped_pkts()
        return self.seen

    def _weigh(self, balancer: Balancer) -> None:
        """Ready-first with free buffers 1 : 1 : 2."""
        self.notifier.start()
        balancer.wait_for(is_kind("NodesNotified"))
        self.notifier.limit_bytes = {"n1": 2 * MB, "n2": 2 * MB, "n3": 4 * MB}
        balancer.wait_in_force(shares(16, 16, 32))
        self.send_flows("weighted", range(20_000, 20_000 + FLOWS))
        self.send_flows("first after reweighting", range(10_000, 10_000 + FLOWS))
        loops = [r["control_loop_us"] for r in balancer.records if r["kind"] == "ActionsAcknowledged"]
        self.seen["control_loops_us"] = loops

    def _other_traffic(self) -> None:
        self.send_flows("tcp", range(30_000, 30_050), packets=2, kind="tcp")
        self.send_flows("ipv6 udp", range(31_000, 31_050), packets=2, ip6=True)
        self.send_flows("ipv6 tcp", range(32_000, 32_050), packets=2, kind="tcp", ip6=True)
        self._ask_arp("arp")
        self._answer_and_deflect()

    def _ask_arp(self, name: str) -> None:
        from scapy.layers.l2 import ARP, Ether

        client = Host("c1", "client")
        question = ARP(hwsrc=client.mac, psrc=client.ip, pdst=VIP_IP)
        frame = bytes(Ether(src=client.mac, dst="ff:ff:ff:ff:ff:ff") / question)
        answers = [Ether(got) for _, got in self.wire.exchange("c1", [frame], 1, ["c1"])]
        fields = [(a.src, a.dst, a.op, a.hwsrc, a.psrc, a.hwdst, a.pdst) for a in answers]
        self.seen[name] = [[str(value) for value in answer] for answer in fields]

    def _answer_and_deflect(self) -> None:
        from scapy.layers.inet import IP, TCP, UDP
        from scapy.layers.l2 import Ether

        client, n1, n3 = Host("c1", "client"), Host("n1", "node"), Host("n3", "node")
        answer = Ether(src=n1.mac, dst=client.mac) / IP(src=VIP_IP, dst=client.ip) / TCP(sport=9000, dport=40_000)
        got = self.wire.exchange("n1", [bytes(answer)], 1, ["c1"])
        self.seen["answer"] = [[Ether(frame).src, Ether(frame).dst] for _, frame in got]
        ip = IP(src=client.ip, dst=VIP_IP) / UDP(sport=41_000, dport=9000)
        deflected = Ether(src="02:de:f1:00:00:01", dst=n3.mac) / ip
        got = self.wire.exchange("n1", [bytes(deflected)], 1, ["n2", "n3", "c1"])
        self.seen["deflected"] = [[host, Ether(frame).src, Ether(frame).dst] for host, frame in got]

    def _lose_port(self, balancer: Balancer) -> None:
        commands.run("down", ["ip", "link", "set", "n2-eth0", "down"])
        balancer.wait_in_force(is_kind("RemoveNode", node="n2"))
        self.send_flows("port down", range(10_000, 10_000 + FLOWS))
        commands.run("up", ["ip", "link", "set", "n2-eth0", "up"])
        balancer.wait_in_force(is_kind("RestoreNode", node="n2"))
        self.send_flows("port up", range(10_000, 10_000 + FLOWS))

    def _kill_controller(self, balancer: Balancer) -> None:
        balancer.end(signal.SIGKILL)
        self.send_flows("old flows, controller dead", range(10_000, 10_000 + FLOWS), packets=3)
        self.send_flows("new flows, controller dead", range(40_000, 40_000 + FLOWS), packets=3)
        self._ask_arp("arp, controller dead")

    def _come_back(self, balancer: Balancer) -> None:
        """Send all the time while the new controller writes the whole pipeline again."""
        flows = range(10_000, 10_000 + FLOWS)
        frames = [build(flow) for flow in flows]
        sent, got, deadline = 0, [], time.monotonic() + PATIENCE_S
        while not any(is_kind("BalancerReady")(record) for record in balancer.records):
            assert time.monotonic() < deadline, "the switch did not connect again"
            got += self.wire.exchange("c1", frames, FLOWS, NODES)
            sent += FLOWS
        nodes = {flow: sorted({node for node, frame in got if flow_of(frame) == flow}) for flow in (10_000, 10_100)}
        arrived = sum(flow_of(frame) in flows for _, frame in got)
        self.seen["controller back"] = {"sent": sent, "arrived": arrived, "nodes": nodes}
        self.send_flows("after controller back", flows)

    def _fall_silent(self, balancer: Balancer) -> None:
        balancer.wait_for(is_kind("NodesNotified", nodes=["n1"]))
        self.notifier.speaking = {"n2", "n3"}
        balancer.wait_in_force(is_kind("RemoveNode", node="n1"))
        self.send_flows("n1 silent", range(10_000, 10_000 + FLOWS))
        self.notifier.speaking = set(NODES)
        balancer.wait_in_force(is_kind("RestoreNode", node="n1"))
        self.send_flows("n1 back", range(10_000, 10_000 + FLOWS))


class InTurn(Trial):
    """New flows take the slots in turn."""

    POLICY = "turns"

    def run(self) -> dict[str, Any]:
        balancer = alone(self.config, self.notify_socket)
        balancer.wait_for(is_kind("BalancerReady"))
        self.ovs.widen_buffers("s1", "s1-c1")
        self.send_flows("turns", range(10_000, 10_000 + FLOWS), packets=3)
        balancer.end(signal.SIGTERM)
        return self.seen


@pytest.fixture(scope="module", params=["os-ken", pytest.param("ryu", marks=pytest.mark.requires("ryu"))])
def seen(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Run the trial once."""
    logs = tmp_path_factory.mktemp("logs")
    return run_in_sandbox(lambda: WholeLife(logs, request.param))


# -------------------------------------------------------------------------------------------------------- judgement


def test_pipeline_is_in_force_when_ready_is_told(seen: dict[str, Any]) -> None:
    assert seen["ready"]["messages"] > 64
    assert seen["ready"]["control_loop_us"] > 0


@pytest.mark.parametrize("name", ["first", "tcp", "ipv6 udp", "ipv6 tcp"])
def test_every_packet_arrives_and_every_flow_has_one_node(seen: dict[str, Any], name: str) -> None:
    assert seen[name]["arrived"] == seen[name]["sent"]
    assert set(seen[name]["nodes"].values()) == set(NODES)


def test_equal_weights_share_evenly(seen: dict[str, Any]) -> None:
    counts = Counter(seen["first"]["nodes"].values())
    assert all(40 <= counts[node] <= 94 for node in NODES), counts  # 67 each, four standard deviations


def test_new_flows_follow_the_weights(seen: dict[str, Any]) -> None:
    counts = Counter(seen["weighted"]["nodes"].values())
    assert 26 <= counts["n1"] <= 74, counts
    assert 26 <= counts["n2"] <= 74, counts
    assert 72 <= counts["n3"] <= 128, counts


def test_reweighting_moves_no_existing_flow(seen: dict[str, Any]) -> None:
    assert seen["first after reweighting"]["nodes"] == seen["first"]["nodes"]


def test_switch_acknowledges_changes(seen: dict[str, Any]) -> None:
    assert seen["control_loops_us"]
    assert min(seen["control_loops_us"]) > 0


@pytest.mark.parametrize("name", ["arp", "arp, controller dead"])
def test_arp_is_answered(seen: dict[str, Any], name: str) -> None:
    client = Host("c1", "client")
    assert seen[name] == [[VIP_MAC, client.mac, "2", VIP_MAC, VIP_IP, client.mac, client.ip]]


def test_answers_go_home(seen: dict[str, Any]) -> None:
    assert seen["answer"] == [[VIP_MAC, Host("c1", "client").mac]]


def test_deflected_packets_reach_the_sibling_as_they_are(seen: dict[str, Any]) -> None:
    assert seen["deflected"] == [["n3", "02:de:f1:00:00:01", Host("n3", "node").mac]]


def test_port_down_moves_only_its_flows(seen: dict[str, Any]) -> None:
    before, after = seen["first"]["nodes"], seen["port down"]["nodes"]
    assert seen["port down"]["arrived"] == FLOWS
    assert "n2" not in after.values()
    assert all(after[flow] == node for flow, node in before.items() if node != "n2")
    assert seen["port up"]["nodes"] == after


@pytest.mark.parametrize("name", ["old flows, controller dead", "new flows, controller dead"])
def test_killing_the_controller_loses_nothing(seen: dict[str, Any], name: str) -> None:
    assert seen[name]["arrived"] == seen[name]["sent"]


def test_killing_the_controller_moves_no_flow(seen: dict[str, Any]) -> None:
    assert seen["old flows, controller dead"]["nodes"] == seen["port up"]["nodes"]
    assert set(seen["new flows, controller dead"]["nodes"].values()) == set(NODES)  # weights as they were last


def test_controller_that_comes_back_disturbs_nothing(seen: dict[str, Any]) -> None:
    assert seen["controller back"]["arrived"] == seen["controller back"]["sent"] > 0
    assert all(len(nodes) == 1 for nodes in seen["controller back"]["nodes"].values())
    assert seen["after controller back"]["nodes"] == seen["port up"]["nodes"]


def test_silent_node_loses_its_flows_and_gets_new_ones_when_it_is_back(seen: dict[str, Any]) -> None:
    before, after = seen["after controller back"]["nodes"], seen["n1 silent"]["nodes"]
    assert seen["n1 silent"]["arrived"] == FLOWS
    assert "n1" not in after.values()
    assert all(after[flow] == node for flow, node in before.items() if node != "n1")
    assert seen["n1 back"]["nodes"] == after


def test_sigterm_ends_the_process_cleanly(seen: dict[str, Any]) -> None:
    assert seen["status"] == 0
    assert seen["last_record"]["kind"] == "BalancerStopped"
    assert seen["last_record"]["malformed"] == 0


def test_switch_dropped_nothing(seen: dict[str, Any]) -> None:
    assert seen["switch_drops"] == 0


def test_flows_take_the_slots_in_turn(tmp_path: Path) -> None:
    turns = run_in_sandbox(lambda: InTurn(tmp_path))["turns"]
    assert turns["arrived"] == turns["sent"]
    assert list(turns["nodes"].values()) == [NODES[k % 64 % 3] for k in range(FLOWS)]
