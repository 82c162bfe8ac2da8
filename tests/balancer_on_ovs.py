"""What trials of the balancer on a real Open vSwitch are made of: one client port, three node ports, packet sockets."""

from __future__ import annotations

import json
import os
import select
import socket
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from testbed.controllers import process, replication, standby
from testbed.controllers.config import BalancerConfig, Station, Vip
from testbed.emulation.network.open_vswitch import OpenVSwitch
from testbed.emulation.sandbox import Sandbox
from testbed.policies.membership import BALANCER
from testbed.records.events import NotifyBalancer
from testbed.scenario.balancer import BalancerSpec, FrameworkName
from testbed.scenario.network import VIP_IP, VIP_IP6, VIP_MAC, Host
from testbed.system import commands
from testbed.units import NS_PER_S
from tests import sealed

FLOWS = 200
DPID = 0x51
LISTEN_PORT, STANDBY_PORT = 6653, 6654
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
            if kind != socket.PACKET_OUTGOING and _is_of_a_trial(frame):
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


def _is_of_a_trial(frame: bytes) -> bool:
    """Tell TCP, UDP, their fragments and ARP from what the hosts' own IPv6 says when a link comes up."""
    protocol = {b"\x08\x00": frame[23:24], b"\x86\xdd": frame[20:21], b"\x08\x06": b"\x11"}.get(frame[12:14])
    return protocol in (b"\x06", b"\x11", b"\x2c")  # the last announces an IPv6 fragment header


def flow_of(frame: bytes) -> int:
    """Return the source port of a TCP or UDP frame."""
    start = 34 if frame[12:14] == b"\x08\x00" else 54
    return int.from_bytes(frame[start : start + 2], "big")


# -------------------------------------------------------------------------------------------------------- the trial


class Notifier(threading.Thread):
    """Notifies for the `speaking` nodes every 10 ms; stands for their agents."""

    def __init__(self, to: tuple[str, int], now_ns: Callable[[], int]) -> None:
        super().__init__(daemon=True)
        self._seal, self._now_ns = sealed.Notifying(NODES), now_ns
        self.speaking = set(NODES)
        self.limit_bytes = dict.fromkeys(NODES, MB // 2)
        self._to, self._socket = to, socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(0.01):
            for node in sorted(self.speaking):
                zero = np.zeros(1, dtype=np.int64)
                limit = np.array([self.limit_bytes[node]])
                news = NotifyBalancer(
                    nodes=(node,),
                    limit_bytes=limit,
                    backlog_bytes=zero,
                    predicted_bytes=zero,
                    severity_ratio=np.zeros(1),
                    arrived_bps=zero,
                )
                self._socket.sendto(self._seal(news, self._now_ns()), self._to)

    def end(self) -> None:
        self._over.set()
        self.join()
        self._socket.close()


Serve = Callable[[Callable[[int, dict[str, Any]], None]], None]


class Balancer:
    """A controller process and what it emits."""

    FREQUENT = ("NodesNotified", "DeadlineReached")

    def __init__(self, serve: Serve) -> None:
        reading, writing = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            status = 1
            try:
                with os.fdopen(writing, "w", buffering=1) as out:
                    serve(lambda t, record: print(json.dumps({"t_ns": t, **record}), file=out))
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
        self.wait_for(is_kind("ActionsAcknowledged"), since=self.wait_for(wanted, since))
        time.sleep(REVALIDATION_S)

    def end(self, number: int) -> int:
        os.kill(self.pid, number)
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        self._taker.join()
        self._lines.close()
        return status


def alone(config: BalancerConfig, notify_socket: socket.socket) -> Balancer:
    """Start a controller without a standby."""
    return Balancer(lambda emit: process.serve(config, notify_socket, emit))


def pair(config: BalancerConfig, notify_socket: socket.socket) -> tuple[Balancer, Balancer]:
    """Start a primary and its standby."""
    ends = replication.line()

    def serve(emit: Callable[[int, dict[str, Any]], None]) -> None:
        ends[1].close()
        process.serve(config, notify_socket, emit, ends[0])

    def follow(emit: Callable[[int, dict[str, Any]], None]) -> None:
        ends[0].close()
        standby.stand_by(replace(config, listen_port=STANDBY_PORT), notify_socket, emit, ends[1])

    both = Balancer(serve), Balancer(follow)
    for end in ends:
        end.close()
    return both


def is_kind(kind: str, **fields: Any) -> Callable[[dict[str, Any]], bool]:
    return lambda record: record["kind"] == kind and all(record[name] == value for name, value in fields.items())


def shares(n1: int, n2: int, n3: int) -> Callable[[dict[str, Any]], bool]:
    wanted = {name: count for name, count in zip(NODES, (n1, n2, n3), strict=True) if count}
    return lambda record: record["kind"] == "SetSlots" and Counter(record["slots"]) == wanted


def build_network(
    logs: Path, listen_ports: Sequence[int] = (LISTEN_PORT,), port_type: str = "system"
) -> tuple[OpenVSwitch, dict[str, int]]:
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
        # As in a trial, the kernel that holds the ports sends nothing by itself: it would count as sent by the switch.
        Path(f"/proc/sys/net/ipv6/conf/{port}/disable_ipv6").write_text("1", encoding="ascii")
        commands.run("up", ["ip", "link", "set", port, "up"])
        commands.run("up", ["ip", "link", "set", end, "up"])
        argv += ["--", "add-port", "s1", port, "--", "set", "Interface", port, f"type={port_type}"]
        argv += ["options:xdp-mode=native"] if port_type != "system" else []
    argv += ["--", "set-controller", "s1", *(f"tcp:127.0.0.1:{port}" for port in listen_ports)]
    commands.run("bridge", argv)
    for controller in (
        commands.run("controllers", ["ovs-vsctl", "get", "bridge", "s1", "controller"]).strip("[]\n ").split(",")
    ):
        commands.run("backoff", ["ovs-vsctl", "set", "controller", controller.strip(), "max_backoff=1000"])
    numbers = ovs.port_numbers([f"s1-{name}" for name in names])
    return ovs, {name: numbers[f"s1-{name}"] for name in names}


def make_config(
    ports: dict[str, int], framework: FrameworkName = "os-ken", policy: str = "ready-first"
) -> BalancerConfig:
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
        spec=BalancerSpec(policy=policy),
        framework=framework,
        seed=7,
        now_ns=lambda: time.monotonic_ns() - start_ns,
        ring=sealed.ring(BALANCER, NODES),
    )


class Trial:
    """A network, nodes that notify, and what was `seen`, which the tests judge; a subclass has the steps."""

    LISTEN_PORTS: Sequence[int] = (LISTEN_PORT,)
    POLICY = "ready-first"

    def __init__(self, logs: Path, framework: FrameworkName = "os-ken") -> None:
        self.seen: dict[str, Any] = {}
        self.ovs, self.ports = build_network(logs, self.LISTEN_PORTS)
        self.config = make_config(self.ports, framework, self.POLICY)
        self.notify_socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.notify_socket.bind(("127.0.0.1", 0))
        self.wire = Wire(("c1", *NODES))
        self.notifier = Notifier(self.notify_socket.getsockname(), self.config.now_ns)

    def run(self) -> dict[str, Any]:
        raise NotImplementedError

    def send_flows(self, name: str, flows: range, packets: int = 1, kind: str = "udp", ip6: bool = False) -> None:
        """Send `packets` rounds of all flows; note the frames that arrived and the nodes of each flow."""
        frames = [build(flow, kind, ip6) for flow in flows] * packets
        got = self.wire.exchange("c1", frames, len(frames), NODES)
        ours = [(node, flow_of(frame)) for node, frame in got if flow_of(frame) in flows]
        nodes: dict[int, set[str]] = {flow: set() for flow in flows}
        for node, flow in ours:
            nodes[flow].add(node)
        by_flow = {flow: "+".join(sorted(names)) for flow, names in nodes.items()}
        self.seen[name] = {"sent": len(frames), "arrived": len(ours), "nodes": by_flow}


def run_in_sandbox(trial: Callable[[], Trial]) -> dict[str, Any]:
    """Run a trial in a sandbox of its own and return what it saw."""
    reading, writing = os.pipe()

    def body() -> int:
        os.close(reading)
        with os.fdopen(writing, "w") as out:
            try:
                json.dump(trial().run(), out)
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
