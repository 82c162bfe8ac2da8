"""A cluster as Kubernetes would run it, in network namespaces of a sandbox: a process for each pod, on one bridge.

    balancer .2   backend .3   client .4   n0 .10   n1 .11   n2 .12        all at the bridge, 10.77.0.0/24

The client sends numbered packets of many flows to the address of the balancer's pod, as a Service would, and the
backend sends each of them back.  The processes are those of the containers: ``python -m testbed node`` and the like.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

import yaml

from testbed.system import commands, kernel, waiting

PORT, FLOWS, VIP = 9000, 60, "198.18.0.10"
INTERVAL_NS = 2_000_000  # between two packets
_ACT_NS = 500_000_000
PATIENCE_S = 40.0
_WEB = "http://127.0.0.1:9464"
_PACKET = struct.Struct("!HIQ")  # flow, number, time
_SHELL = 'read _ && mount -t tmpfs none /run && exec "$@"'

CLUSTER = {
    "version": 1,
    "name": "pods",
    "nodes": 3,
    "node_hosts": [f"10.77.0.{10 + number}" for number in range(3)],
    "balancer_host": "10.77.0.2",
    "backend_host": "10.77.0.3",
    "rate": "50Mbit",
    "vip": VIP,
    "ports": [PORT],
    "secret": "secret",
    "buffer": {"policy": "reactive"},
    "balancer": {"policy": "round-robin", "affinity_idle": "1s"},
    "autoscaler": {
        "policy": "predictive",
        "min": 1,
        "max": 3,
        "period": "1s",
        "stabilisation": "1s",
        "drain_deadline": "2s",
    },
}


class Pods:
    """The processes, and what they wrote."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "secret").write_bytes(os.urandom(32))
        (folder / "cluster.yaml").write_text(yaml.safe_dump(CLUSTER), encoding="utf-8")
        self._cluster = str(folder / "cluster.yaml")
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        _run("ip link set lo up", "ip link add br0 type bridge", "ip link set br0 up")
        self._cuts: list[subprocess.Popen[bytes]] = []

    def start(self, name: str, address: int, *argv: str) -> None:
        """Start a pod with a network of its own; without a command it only holds the network."""
        command = [sys.executable, "-m", "testbed", *argv] if argv else ["sleep", "600"]
        log = (self._folder / f"{name}.log").open("ab")
        process = subprocess.Popen(
            ["unshare", "--net", "--mount", "sh", "-c", _SHELL, "sh", *command],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
        )
        log.close()
        self.processes[name] = process
        _until(lambda: os.readlink(f"/proc/{process.pid}/ns/net") != os.readlink("/proc/self/ns/net"), f"{name} began")
        _run(
            f"ip link add p{address} type veth peer name eth0 netns {process.pid}",
            f"ip link set p{address} master br0 up",
        )
        with kernel.network_of(process.pid):
            _run("ip link set lo up", "ip link set eth0 up", f"ip address add 10.77.0.{address}/24 dev eth0")
        assert process.stdin is not None
        process.stdin.write(b"go\n")
        process.stdin.close()

    def start_balancer(self) -> None:
        """Start the balancer with its external scaler."""
        logs = str(self._folder)
        self.start("balancer", 2, "balancer", self._cluster, "--scaler", "0.0.0.0:9465", "--logs", logs)

    def start_node(self, number: int) -> None:
        """Start a node."""
        self.start(f"n{number}", 10 + number, "node", self._cluster, "--name", f"n{number}")

    def start_rest(self) -> None:
        """Start backend and client."""
        self.start("backend", 3, "backend", self._cluster)
        self.start("client", 4)

    def pid(self, name: str) -> int:
        """Return the main process of a pod."""
        return self.processes[name].pid

    def asked(self, name: str, path: str) -> tuple[int, str]:
        """Return status and text of what a pod answers; 0 when it does not."""
        try:
            with (
                kernel.network_of(self.pid(name)),
                urllib.request.urlopen(f"http://127.0.0.1:9464{path}", timeout=2) as got,
            ):
                return got.status, got.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def wait_ready(self, *names: str) -> None:
        """Wait until pods are ready."""
        for name in names:
            _until(lambda name=name: self._is_ready(name), f"{name} is ready")

    def _is_ready(self, name: str) -> bool:
        if self.processes[name].poll() is not None:
            raise AssertionError(f"{name} ended: {self.log(name)}")
        return self.asked(name, "/readyz")[0] == 200

    def log(self, name: str) -> str:
        """Return the end of what a pod wrote."""
        return (self._folder / f"{name}.log").read_text(encoding="utf-8")[-3000:]

    def kill(self, name: str) -> None:
        """Kill a pod as a machine that fails does: its network is cut off, and its processes end."""
        cut = ["ip", "link", "set", f"p{10 + int(name[1:])}", "down"]
        self._cuts.append(subprocess.Popen(cut))
        self.processes[name].send_signal(signal.SIGKILL)

    def drain(self, name: str) -> None:
        """Ask a pod to end, as the platform does."""
        self.processes[name].send_signal(signal.SIGTERM)

    def end(self) -> None:
        """End all; the sandbox does the rest."""
        for process in self.processes.values():
            if process.poll() is None:
                process.kill()


class Traffic:
    """Packets of many flows at a steady rate, each sent back by the backend.

    Attributes:
        sent_ns: when each was sent, by flow and number.
        served, answered: which came to the backend, and back.
    """

    def __init__(self, client: int, backend: int | None = None, to: str = "10.77.0.2") -> None:
        """Send from the network of process `client` to an address; answer in that of `backend`, or not at all."""
        with kernel.network_of(client):
            self._flows = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(FLOWS)]
        for flow in self._flows:
            flow.setblocking(False)
            flow.connect((to, PORT))
        self._servers: list[socket.socket] = []
        if backend is not None:
            with kernel.network_of(backend):
                self._servers.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            self._servers[0].setblocking(False)
            self._servers[0].bind((VIP, PORT))
        self.sent_ns: dict[tuple[int, int], int] = {}
        self.served: dict[tuple[int, int], int] = {}
        self.answered: set[tuple[int, int]] = set()
        self._count = 0

    def run(self, lasts_s: float, act: Callable[[], object] | None = None) -> int:
        """Send for so long, then take in what is still on its way; `act` half a second after the begin.

        Returns when it acted (CLOCK_MONOTONIC, ns).
        """
        begin_ns = due_ns = time.monotonic_ns()
        acted_ns = 0
        while due_ns < begin_ns + lasts_s * 1e9:
            self._take(due_ns - time.monotonic_ns())
            if act is not None and not acted_ns and due_ns > begin_ns + _ACT_NS:
                acted_ns = time.monotonic_ns()
                act()
            if time.monotonic_ns() >= due_ns:
                self._send()
                due_ns += INTERVAL_NS
        end_ns = time.monotonic_ns() + 300_000_000
        while (left_ns := end_ns - time.monotonic_ns()) > 0:
            self._take(left_ns)
        return acted_ns

    def _send(self) -> None:
        flow, number = self._count % FLOWS, self._count // FLOWS
        self._count += 1
        now_ns = time.monotonic_ns()
        self._flows[flow].send(_PACKET.pack(flow, number, now_ns) + bytes(200))
        self.sent_ns[flow, number] = now_ns

    def _take(self, within_ns: int) -> None:
        line_of = {line.fileno(): line for line in (*self._servers, *self._flows)}
        for ready in waiting.readable(list(line_of), max(0, within_ns)):
            line = line_of[ready]
            if line in self._servers:
                self._serve(line)
            else:
                self.answered.update(_PACKET.unpack_from(data)[:2] for data, _ in _drained(line))

    def _serve(self, line: socket.socket) -> None:
        for data, sender in _drained(line):
            self.served[_PACKET.unpack_from(data)[:2]] = time.monotonic_ns()
            line.sendto(data, sender)

    def lost(self, since: int = 0) -> list[tuple[int, int]]:
        """Return what did not come to the backend, of packets from the `since`-th on, in the order of sending."""
        return [key for key in list(self.sent_ns)[since:] if key not in self.served]

    def unanswered(self, since: int = 0) -> list[tuple[int, int]]:
        """Return what did not come back."""
        return [key for key in list(self.sent_ns)[since:] if key not in self.answered]


def _drained(line: socket.socket) -> Sequence[tuple[bytes, tuple[str, int]]]:
    got = []
    while True:
        try:
            got.append(line.recvfrom(2048))
        except BlockingIOError:
            return got


def _run(*lines: str) -> None:
    for line in lines:
        commands.run("making the network of the pods", line.split())


def _until(wanted: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not wanted():
        assert time.monotonic() < deadline, f"not within {PATIENCE_S:g} s: {what}"
        time.sleep(0.02)
