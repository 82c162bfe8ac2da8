"""What a real Open vSwitch loses: frames it cannot send, frames no flow entry matches, and none with free buffers."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Any

import pytest

from testbed.emulation.network.mininet import _quiet_namespace
from testbed.emulation.network.shaping import QdiscReader
from testbed.emulation.network.switch_counts import SwitchCounts, SwitchLoss
from testbed.system import commands
from tests.balancer_on_ovs import NODES, Wire, build, build_network, run_in_sandbox

pytestmark = pytest.mark.requires("root", "ovs")

FRAMES, WITHOUT_A_WAY = 1000, 30
SMALL_BUFFER_BYTES = 20_000
PATIENCE_S = 10.0


class Starved:
    """Frames go out of a port whose link takes 10 of them a second, first by a roomy socket, then by a small one."""

    def __init__(self, logs: Path) -> None:
        _quiet_namespace()  # as in a trial: the kernel's own frames go out of ports, too
        self._ovs, self._ports = build_network(logs)
        self._ovs.count_packet_ins("s1")
        self._widened = self._ovs.widen_buffers("s1", "s1-c1")
        self._wire = Wire(("c1", *NODES))
        way = f"in_port={self._ports['c1']},udp,actions=output:{self._ports['n1']}"
        commands.run("a flow", ["ovs-ofctl", "-O", "OpenFlow13", "add-flow", "s1", way])

    def run(self) -> dict[str, Any]:
        return {
            "sockets": self._widened,
            "roomy": self._lose(),
            "small": self._lose(SMALL_BUFFER_BYTES),
            "no way": self._lose(kind="tcp"),
        }

    def _lose(self, buffer_bytes: int | None = None, kind: str = "udp") -> dict[str, Any]:
        if buffer_bytes is not None:
            for packet_socket in self._ovs._sockets:
                packet_socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_bytes)
        self._shape("80kbit")
        counts = SwitchCounts(self._ovs, ["s1"], [f"s1-{name}" for name in ("c1", *NODES)])
        frame = build(10_000, kind) + bytes(900)
        sent = FRAMES if kind == "udp" else WITHOUT_A_WAY
        for _ in range(sent):
            self._wire.sockets["c1"].send(frame)
        self._wait_received(counts, sent)
        self._shape("1gbit")
        arrived = self._arrived()
        loss: SwitchLoss = counts.loss(0)
        return {"sent": sent, "arrived": arrived, **loss._asdict()}

    def _shape(self, rate: str) -> None:
        shape = ["rate", rate, "burst", "2000", "limit", "100000000"]
        commands.run("shaping", ["tc", "qdisc", "replace", "dev", "s1-n1", "root", "handle", "1:", "tbf", *shape])
        self._queue = QdiscReader("s1-n1")

    def _wait_received(self, counts: SwitchCounts, sent: int) -> None:
        assert counts._before is not None
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            now = counts._read()
            if now is not None and now.received - counts._before.received >= sent:
                return
        raise AssertionError("the switch did not receive what was sent")

    def _arrived(self) -> int:
        """Return how many frames come to n1 until its link has no more."""
        arrived, deadline = 0, time.monotonic() + PATIENCE_S
        while self._queue.read().backlog_pkts and time.monotonic() < deadline:
            arrived += len(self._wire._drain("n1"))
        return arrived + len(self._wire._drain("n1"))


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Any:
    logs = tmp_path_factory.mktemp("logs")
    return run_in_sandbox(lambda: Starved(logs))


def test_the_socket_for_sending_is_widened_too(seen: dict[str, Any]) -> None:
    assert seen["sockets"] >= 5, "one for each port that receives, one for all that send"


def test_with_room_nothing_is_refused(seen: dict[str, Any]) -> None:
    assert (seen["roomy"]["arrived"], seen["roomy"]["refused_pkts"]) == (FRAMES, 0)


def test_what_a_starved_switch_cannot_send_is_counted_to_the_frame(seen: dict[str, Any]) -> None:
    small = seen["small"]
    assert 0 < small["arrived"] < FRAMES
    assert small["refused_pkts"] == FRAMES - small["arrived"]
    assert small["dropped_pkts"] == 0


def test_what_has_no_way_is_not_what_was_refused(seen: dict[str, Any]) -> None:
    lost = seen["no way"]
    assert lost["arrived"] == 0
    assert lost["unrouted_pkts"] >= WITHOUT_A_WAY
    assert lost["refused_pkts"] == 0
