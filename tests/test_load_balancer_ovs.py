"""The balancer on a real Open vSwitch (userspace datapath), in a sandbox of its own.

One trial, run once: a client port, three node ports, frames in and frames out through packet sockets.  Each test
asserts one thing of what the trial saw.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from controllers import load_balancer, notification
from controllers.config import BalancerConfig, Station, Vip
from testbed.emulation import commands
from testbed.emulation.open_vswitch import OpenVSwitch
from testbed.emulation.sandbox import Sandbox
from testbed.events import NotifyBalancer
from testbed.spec.scenario import BalancerSpec
from testbed.spec.topology import VIP_IP, VIP_IP6, VIP_MAC, Host
from testbed.units import NS_PER_S

pytestmark = pytest.mark.requires("root", "ovs")

FLOWS = 200
DPID = 0x51
LISTEN_PORT = 6653
NODES = ("n1", "n2", "n3")
MB = 10**6
PATIENCE_S = 10.0
REVALIDATION_S = 0.1  # the switch acknowledges before it has been through its cache of flows; ample


# ------------------------------------------------------------------------------------------------ frames in and out


class Wire:
    """Packet sockets on the hosts' ends of the links to s1."""

    def __init__(self, names: Iterable[str]) -> None:
        self.sockets = {name: self._open(f"{name}-eth0") for name in names}

    def _open(self, interface: str) -> socket.socket:
        end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        end.bind((interface, 0))
        end.setsockopt(socket.SOL_SOCKET, 33, 32 * MB)  # SO_RCVBUFFORCE
        return end

    def exchange(self, sender: str, frames: list[bytes], expected: int, at: Iterable[str]) -> list[tuple[str, bytes]]:
        """Send frames and return (host, frame) of what arrives at the hosts `at`: `expected` frames or what comes."""
        for name in self.sockets:
            self._drain(name)
        for frame in frames:
            self.sockets[sender].send(frame)
        got: list[tuple[str, bytes]] = []
        receivers = {self.sockets[name].fileno(): name for name in at}
        deadline = time.monotonic() + 2.0
        while len(got) < expected and time.monotonic() < deadline:
            for fd in select.select(list(receivers), [], [], 0.2)[0]:
                got += [(receivers[fd], frame) for frame in self._drain(receivers[fd])]
        return got

    def _drain(self, name: str) -> list[bytes]:
        frames = []
        while True:
            try:
                frame, (_, _, kind, *_) = self.sockets[name].recvfrom(2048, socket.MSG_DONTWAIT)
            except OSError:  # nothing there, or the interface is down
                return frames
            if kind != socket.PACKET_OUTGOING and frame[12:14] in (b"\x08\x00", b"\x86\xdd", b"\x08\x06"):
                frames.append(frame)


def build(flow: int, kind: str = "udp", ip6: bool = False) -> bytes:
    """Return a frame of client c1 to the VIP; the source port is the flow."""
    from scapy.layers.inet import IP, TCP, UDP
    from scapy.layers.inet6 import IPv6
    from scapy.layers.l2 import Ether
    from scapy.packet import Raw

    client = Host("c1", "client")
    network = IPv6(src=client.ip6, dst=VIP_IP6) if ip6 else IP(src=client.ip, dst=VIP_IP)
    transport = (UDP if kind == "udp" else TCP)(sport=flow, dport=9000)
    return bytes(Ether(src=client.mac, dst=VIP_MAC) / network / transport / Raw(b"x" * 40))


def flow_of(frame: bytes) -> int:
    """Return the source port of a TCP or UDP frame."""
    start = 34 if frame[12:14] == b"\x08\x00" else 54
    return int.from_bytes(frame[start : start + 2], "big")


# -------------------------------------------------------------------------------------------------------- the trial


class Notifier(threading.Thread):
    """Notifies for the `speaking` nodes every 10 ms; stands for their agents."""

    def __init__(self, to: tuple[str, int]) -> None:
        super().__init__(daemon=True)
        self.speaking = set(NODES)
        self.limit_bytes = dict.fromkeys(NODES, MB // 2)
        self._to, self._socket = to, socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(0.01):
            for node in sorted(self.speaking):
                zero = np.zeros(1, dtype=np.int64)
                limit = np.array([self.limit_bytes[node]])
                news = NotifyBalancer((node,), limit, zero, zero, np.zeros(1), zero)
                self._socket.sendto(notification.encode(news), self._to)

    def end(self) -> None:
        self._over.set()
        self.join()
        self._socket.close()


class Balancer:
    """The balancer process and what it emits."""

    FREQUENT = ("NodesNotified", "DeadlineReached")

    def __init__(self, config: BalancerConfig, notify_socket: socket.socket) -> None:
        reading, writing = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            status = 1
            try:
                with os.fdopen(writing, "w", buffering=1) as out:
                    load_balancer.serve(
                        config, notify_socket, lambda t, record: print(json.dumps({"t_ns": t, **record}), file=out)
                    )
                others = [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
                status = 0 if all(thread.daemon for thread in others) else 9
            finally:
                os._exit(status)
        os.close(writing)
        self.records: list[dict[str, Any]] = []
        self._lines = os.fdopen(reading, "rb")
        self._taker = threading.Thread(target=self._take, daemon=True)
        self._taker.start()

    def _take(self) -> None:
        self.records.extend(json.loads(line) for line in self._lines if line.endswith(b"\n"))

    def wait_for(self, wanted: Callable[[dict[str, Any]], bool], since: int = 0) -> int:
        """Wait for a record and return its place."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            for place in range(since, len(self.records)):
                if wanted(self.records[place]):
                    return place
            time.sleep(0.005)
        told = [{**record, "slots": ...} for record in self.records if record["kind"] not in self.FREQUENT]
        raise AssertionError(f"not within {PATIENCE_S} s; what was told: {told}")

    def wait_in_force(self, wanted: Callable[[dict[str, Any]], bool], since: int = 0) -> None:
        """Wait for an action and for the switch to have carried it out."""
        self.wait_for(_is("ActionsAcknowledged"), since=self.wait_for(wanted, since))
        time.sleep(REVALIDATION_S)

    def end(self, number: int) -> int:
        os.kill(self.pid, number)
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        self._taker.join()
        self._lines.close()
        return status


def _is(kind: str, **fields: Any) -> Callable[[dict[str, Any]], bool]:
    return lambda record: record["kind"] == kind and all(record[name] == value for name, value in fields.items())


def _shares(n1: int, n2: int, n3: int) -> Callable[[dict[str, Any]], bool]:
    wanted = {name: count for name, count in zip(NODES, (n1, n2, n3), strict=True) if count}
    return lambda record: record["kind"] == "SetSlots" and Counter(record["slots"]) == wanted


def build_network(logs: Path) -> tuple[OpenVSwitch, dict[str, int]]:
    """Start the switch with one port each for c1, n1, n2, n3, and return it with the port numbers."""
    ovs = OpenVSwitch(logs, idle_ns=15 * NS_PER_S)
    names = ("c1", *NODES)
    commands.run("lo", ["ip", "link", "set", "lo", "up"])
    bridge = ["--", "set", "bridge", "s1", "datapath_type=netdev", "fail_mode=secure", "protocols=OpenFlow13"]
    options = [f"other_config:datapath-id={DPID:016x}", "other_config:disable-in-band=true"]  # as Mininet does
    argv = ["ovs-vsctl", "add-br", "s1", *bridge, *options]
    for name in names:
        port, end = f"s1-{name}", f"{name}-eth0"
        commands.run("veth", ["ip", "link", "add", port, "type", "veth", "peer", "name", end])
        commands.run("up", ["ip", "link", "set", port, "up"])
        commands.run("up", ["ip", "link", "set", end, "up"])
        argv += ["--", "add-port", "s1", port]
    argv += ["--", "set-controller", "s1", f"tcp:127.0.0.1:{LISTEN_PORT}"]
    argv += ["--", "set", "controller", "s1", "max_backoff=1000"]
    commands.run("bridge", argv)
    numbers = ovs.port_numbers([f"s1-{name}" for name in names])
    return ovs, {name: numbers[f"s1-{name}"] for name in names}


def make_config(ports: dict[str, int]) -> BalancerConfig:
    def station(name: str) -> Station:
        host = Host(name, "client" if name == "c1" else "node")
        return Station(name, ports[name], host.mac, host.ip, host.ip6)

    start_ns = time.monotonic_ns()
    return BalancerConfig(
        dpid=DPID,
        listen_port=LISTEN_PORT,
        vip=Vip(VIP_IP, VIP_MAC, VIP_IP6, (9000, 9001)),
        clients=(station("c1"),),
        nodes=tuple(station(name) for name in NODES),
        spec=BalancerSpec(policy="ready-first"),
        seed=7,
        now_ns=lambda: time.monotonic_ns() - start_ns,
    )


class Trial:
    """The steps; `seen` is what the tests judge."""

    def __init__(self, logs: Path) -> None:
        self.seen: dict[str, Any] = {}
        self.ovs, self.ports = build_network(logs)
        self.config = make_config(self.ports)
        self.notify_socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.notify_socket.bind(("127.0.0.1", 0))
        self.wire = Wire(("c1", *NODES))
        self.notifier = Notifier(self.notify_socket.getsockname())

    def run(self) -> dict[str, Any]:
        balancer = Balancer(self.config, self.notify_socket)
        self.seen["ready"] = balancer.records[balancer.wait_for(_is("BalancerReady"))]
        self.ovs.widen_receive_buffers()
        self._flows("first", range(10_000, 10_000 + FLOWS), packets=3)
        self._weigh(balancer)
        self._other_traffic()
        self._lose_port(balancer)
        self._kill_controller(balancer)
        balancer = Balancer(self.config, self.notify_socket)
        self._come_back(balancer)
        self._fall_silent(balancer)
        self.notifier.end()
        self.seen["status"] = balancer.end(signal.SIGTERM)
        self.seen["last_record"] = balancer.records[-1]
        self.seen["switch_drops"] = self.ovs.dropped_pkts()
        return self.seen

    def _flows(self, name: str, flows: range, packets: int = 1, kind: str = "udp", ip6: bool = False) -> None:
        """Send `packets` rounds of all flows; note the frames that arrived and the nodes of each flow."""
        frames = [build(flow, kind, ip6) for flow in flows] * packets
        got = self.wire.exchange("c1", frames, len(frames), NODES)
        ours = [(node, flow_of(frame)) for node, frame in got if flow_of(frame) in flows]
        nodes: dict[int, set[str]] = {flow: set() for flow in flows}
        for node, flow in ours:
            nodes[flow].add(node)
        by_flow = {flow: "+".join(sorted(names)) for flow, names in nodes.items()}
        self.seen[name] = {"sent": len(frames), "arrived": len(ours), "nodes": by_flow}

    def _weigh(self, balancer: Balancer) -> None:
        """Ready-first with free buffers 1 : 1 : 2."""
        self.notifier.start()
        balancer.wait_for(_is("NodesNotified"))
        self.notifier.limit_bytes = {"n1": 2 * MB, "n2": 2 * MB, "n3": 4 * MB}
        balancer.wait_in_force(_shares(16, 16, 32))
        self._flows("weighted", range(20_000, 20_000 + FLOWS))
        self._flows("first after reweighting", range(10_000, 10_000 + FLOWS))
        loops = [r["control_loop_us"] for r in balancer.records if r["kind"] == "ActionsAcknowledged"]
        self.seen["control_loops_us"] = loops

    def _other_traffic(self) -> None:
        self._flows("tcp", range(30_000, 30_050), packets=2, kind="tcp")
        self._flows("ipv6 udp", range(31_000, 31_050), packets=2, ip6=True)
        self._flows("ipv6 tcp", range(32_000, 32_050), packets=2, kind="tcp", ip6=True)
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
        balancer.wait_in_force(_is("RemoveNode", node="n2"))
        self._flows("port down", range(10_000, 10_000 + FLOWS))
        commands.run("up", ["ip", "link", "set", "n2-eth0", "up"])
        balancer.wait_in_force(_is("RestoreNode", node="n2"))
        self._flows("port up", range(10_000, 10_000 + FLOWS))

    def _kill_controller(self, balancer: Balancer) -> None:
        balancer.end(signal.SIGKILL)
        self._flows("old flows, controller dead", range(10_000, 10_000 + FLOWS), packets=3)
        self._flows("new flows, controller dead", range(40_000, 40_000 + FLOWS), packets=3)
        self._ask_arp("arp, controller dead")

    def _come_back(self, balancer: Balancer) -> None:
        """Send all the time while the new controller writes the whole pipeline again."""
        flows = range(10_000, 10_000 + FLOWS)
        frames = [build(flow) for flow in flows]
        sent, got, deadline = 0, [], time.monotonic() + PATIENCE_S
        while not any(_is("BalancerReady")(record) for record in balancer.records):
            assert time.monotonic() < deadline, "the switch did not connect again"
            got += self.wire.exchange("c1", frames, FLOWS, NODES)
            sent += FLOWS
        nodes = {flow: sorted({node for node, frame in got if flow_of(frame) == flow}) for flow in (10_000, 10_100)}
        arrived = sum(flow_of(frame) in flows for _, frame in got)
        self.seen["controller back"] = {"sent": sent, "arrived": arrived, "nodes": nodes}
        self._flows("after controller back", flows)

    def _fall_silent(self, balancer: Balancer) -> None:
        balancer.wait_for(_is("NodesNotified", nodes=["n1"]))
        self.notifier.speaking = {"n2", "n3"}
        balancer.wait_in_force(_is("RemoveNode", node="n1"))
        self._flows("n1 silent", range(10_000, 10_000 + FLOWS))
        self.notifier.speaking = set(NODES)
        balancer.wait_in_force(_is("RestoreNode", node="n1"))
        self._flows("n1 back", range(10_000, 10_000 + FLOWS))


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Run the trial once."""
    logs = tmp_path_factory.mktemp("logs")
    reading, writing = os.pipe()

    def body() -> int:
        os.close(reading)
        with os.fdopen(writing, "w") as out:
            try:
                json.dump(Trial(logs).run(), out)
            except Exception:  # noqa: BLE001  # the test tells it
                out.write(traceback.format_exc())
                return 1
        return 0

    sandbox = Sandbox(body)
    os.close(writing)
    with os.fdopen(reading) as lines:
        text = lines.read()
    status = sandbox.wait()
    assert status == 0, text
    return json.loads(text)


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
