"""Which sockets the ports of the switch have: what is asked for is had or refused, and what they lose is counted."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from testbed import topologies
from testbed.emulation import bounds
from testbed.emulation.dataplane.link_drops import InterfaceDrops, interface_drops
from testbed.emulation.network import poll_thread, switch_ports
from testbed.emulation.network.mininet import _quiet_namespace
from testbed.emulation.network.switch_counts import SwitchCounts
from testbed.emulation.network.switch_ports import AFXDP_BYTES, AFXDP_TYPE, SwitchPorts
from testbed.errors import EXIT_MACHINE_LACKS, MachineError
from testbed.scenario.model import Scenario
from testbed.system import commands
from tests.balancer_on_ovs import NODES, Wire, build, build_network, run_in_sandbox

LINK_DOWN = {"at": "100ms", "link_down": "s1-n2"}


def scenario(*faults: dict[str, str], **topology: object) -> Scenario:
    source = {"name": "base", "from": "c1", "shape": "constant", "rate": "1Mbit"}
    data = {"version": 1, "name": "x", "duration": "1s", "traffic": [source], "faults": faults}
    return Scenario.model_validate({**data, "topology": {"family": "cluster", **topology}})


class Offering:
    """Stands for a switch that offers types of ports."""

    switch_pid = 0

    def __init__(self, *types: str, version: str = "ovs-vswitchd (Open vSwitch) 3.1.0") -> None:
        self._types, self._version = types, version

    def version(self) -> str:
        return self._version

    def interface_types(self) -> list[str]:
        return list(self._types)


def chosen(wanted: Scenario, *types: str) -> SwitchPorts:
    return switch_ports.choose(wanted, topologies.describe(wanted.topology), Offering(*types))  # type: ignore[arg-type]


def test_every_port_has_an_af_xdp_socket_where_the_switch_offers_them() -> None:
    ports = chosen(scenario(), "system", AFXDP_TYPE)
    assert (len(ports.of("afxdp")), ports.of("packet"), ports.because) == (5, [], "")


def test_packet_sockets_serve_where_it_does_not_and_where_they_are_asked_for() -> None:
    without, asked = chosen(scenario(), "system"), chosen(scenario(switch_ports="packet"), AFXDP_TYPE)
    assert without.of("afxdp") == asked.of("afxdp") == []
    assert AFXDP_TYPE in without.because
    assert asked.because == ""


@pytest.mark.parametrize(("version", "afxdp"), [("2.17.9", 0), ("3.0.1", 0), ("3.1.0", 5), ("3.10.2", 5), ("?", 0)])
def test_af_xdp_ports_need_a_poll_thread_that_sleeps(version: str, afxdp: int) -> None:
    wanted = scenario()
    offering = Offering(AFXDP_TYPE, version=f"ovs-vswitchd (Open vSwitch) {version}\nDPDK none\n")
    ports = switch_ports.choose(wanted, topologies.describe(wanted.topology), offering)  # type: ignore[arg-type]
    assert len(ports.of("afxdp")) == afxdp
    assert ("Open vSwitch 3.1 or later" in ports.because) == (not afxdp)


def test_ports_that_do_not_fit_into_memory_are_packet_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(switch_ports.allowance, "free_bytes", lambda: 2 * 5 * AFXDP_BYTES - 1)
    few = chosen(scenario(), AFXDP_TYPE)
    assert few.of("afxdp") == []
    assert "MiB available" in few.because
    monkeypatch.setattr(switch_ports.allowance, "free_bytes", lambda: 2 * 5 * AFXDP_BYTES)
    assert len(chosen(scenario(), AFXDP_TYPE).of("afxdp")) == 5


@pytest.mark.parametrize("more", [{"for": "200ms"}, {}])
def test_a_link_that_a_fault_takes_down_keeps_its_packet_socket(more: dict[str, str]) -> None:
    ports = chosen(scenario({**LINK_DOWN, **more}), AFXDP_TYPE)
    assert ports.of("packet") == ["s1-eth4"], "c1, c2, n1, n2"
    assert len(ports.of("afxdp")) == 4


def test_af_xdp_demanded_and_not_to_be_had_is_refused() -> None:
    demanding = scenario(switch_ports="afxdp")
    with pytest.raises(MachineError, match=r"switch_ports: afxdp.*no ports of type.*set it to auto"):
        chosen(demanding, "system")
    with pytest.raises(MachineError) as refused:
        chosen(demanding, "system")
    assert refused.value.exit_code == EXIT_MACHINE_LACKS


def test_af_xdp_demanded_beside_a_link_fault_is_a_complaint() -> None:
    for wanted, complaints in (("afxdp", 1), ("auto", 0), ("packet", 0)):
        asked = scenario(LINK_DOWN, switch_ports=wanted)
        assert len(list(bounds.check(asked, topologies.describe(asked.topology)))) == complaints


# ------------------------------------------------------------------------------------------------ the real switch

FRAMES, ACROSS = 3000, 100
PATIENCE_S = 10.0


class Overrun:
    """A switch that stands still while more comes than its sockets hold, and one that sends into a link without end."""

    def __init__(self, logs: Path) -> None:
        _quiet_namespace()
        self._ovs, self._ports = build_network(logs, port_type=AFXDP_TYPE)
        self._ovs.count_packet_ins("s1")
        self._wire = Wire(("c1", *NODES))
        way = f"in_port={self._ports['c1']},udp,actions=output:{self._ports['n1']}"
        commands.run("a flow", ["ovs-ofctl", "-O", "OpenFlow13", "add-flow", "s1", way])
        self._counts = SwitchCounts(self._ovs, ["s1"], [f"s1-{name}" for name in ("c1", *NODES)])

    def run(self) -> dict[str, Any]:
        return {
            "types": self._types_written_late(),
            "poll threads": self._poll_threads(),
            "programless": switch_ports.without_program([f"s1-{name}" for name in NODES]),
            "stopped": self._stopped(),
            "dead end": self._dead_end(),
        }

    def _types_written_late(self) -> list[str]:
        """Ask for the types of ports before the daemon has written them."""
        types = ["ovs-vsctl", "--no-wait", "clear", "Open_vSwitch", ".", "iface_types"]
        commands.run("clearing the types of ports", types)
        late = "sleep 0.2; exec ovs-vsctl --no-wait set Open_vSwitch . iface_types=afxdp"
        with subprocess.Popen(["sh", "-c", late]):
            return self._ovs.interface_types()

    def _poll_threads(self) -> list[tuple[int, bool]]:
        """Give them their priority, and return the priority of each and whether it may run on every core."""
        self._ovs.give_priority()
        threads = map(int, os.listdir(f"/proc/{self._ovs.switch_pid}/task"))
        polling = [tid for tid in threads if poll_thread.is_poll_thread(self._ovs.switch_pid, tid)]
        every = os.sched_getaffinity(0)
        return [(os.sched_getparam(tid).sched_priority, os.sched_getaffinity(tid) == every) for tid in polling]

    def _stopped(self) -> dict[str, int]:
        before = interface_drops()["s1-c1"]
        os.kill(self._ovs.switch_pid, signal.SIGSTOP)
        try:
            self._send(FRAMES)
        finally:
            os.kill(self._ovs.switch_pid, signal.SIGCONT)
        lost = self._since("s1-c1", before).unreceived
        return {"sent": FRAMES, "lost": lost, "arrived": self._arrived(FRAMES - lost)}

    def _dead_end(self) -> dict[str, int]:
        """The kernel drops one frame a call; the others stay in the ring until the next frame to this port."""
        before, received = interface_drops()["s1-n1"], self._received()
        commands.run("down", ["ip", "link", "set", "n1-eth0", "down"])
        self._send(ACROSS)
        self._until(lambda: self._received() - received >= ACROSS)
        refused = self._counts.loss(0).refused_pkts or 0
        return {"lost": self._since("s1-n1", before).counted, "refused": refused}

    def _received(self) -> int:
        counts = self._counts._read()
        assert counts is not None
        return counts.received

    def _send(self, count: int) -> None:
        frame = build(10_000)
        for _ in range(count):
            self._wire.sockets["c1"].send(frame)

    def _arrived(self, wanted: int) -> int:
        arrived = 0

        def enough() -> bool:
            nonlocal arrived
            arrived += len(self._wire._drain("n1"))
            return arrived >= wanted

        self._until(enough)
        return arrived

    @staticmethod
    def _until(reached: Any) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not reached() and time.monotonic() < deadline:
            pass

    @staticmethod
    def _since(interface: str, before: InterfaceDrops) -> InterfaceDrops:
        now = interface_drops()[interface]
        return InterfaceDrops(*(new - old for new, old in zip(now, before, strict=True)))


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Any:
    logs = tmp_path_factory.mktemp("logs")
    return run_in_sandbox(lambda: Overrun(logs))


@pytest.mark.requires("root", "ovs", "bpf")
def test_the_types_of_ports_are_awaited(seen: Any) -> None:
    assert seen["types"] == ["afxdp"]


@pytest.mark.requires("root", "ovs", "bpf")
def test_one_thread_of_the_switch_forwards_before_agents_and_on_any_core(seen: Any) -> None:
    assert seen["poll threads"] == [[poll_thread.PRIORITY, True]]


@pytest.mark.requires("root", "ovs", "bpf")
def test_what_finds_no_room_in_a_socket_is_counted_to_the_frame(seen: dict[str, Any]) -> None:
    assert seen["programless"] == []
    stopped = seen["stopped"]
    assert 0 < stopped["lost"] < FRAMES
    assert stopped["arrived"] == FRAMES - stopped["lost"]


@pytest.mark.requires("root", "ovs", "bpf")
def test_what_is_sent_into_a_link_that_is_down_is_dropped_there(seen: dict[str, Any]) -> None:
    lost, refused = seen["dead end"]["lost"], seen["dead end"]["refused"]
    assert lost > 0
    assert lost + refused == ACROSS


def test_a_port_whose_program_the_kernel_refused_becomes_a_packet_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    changed: list[tuple[list[str], str]] = []

    class Recording(Offering):
        def set_types(self, ports: list[str], kind: str) -> None:
            changed.append((ports, kind))

        def carried_out(self) -> None:
            """Be a switch that has made every port."""

        def give_priority(self) -> None:
            changed.append(([], "priority"))

    monkeypatch.setattr(switch_ports, "without_program", lambda ports: ports[1:2])
    made = SwitchPorts({"s1-eth1": "afxdp", "s1-eth2": "afxdp", "s1-eth3": "packet"})
    become = switch_ports.settled(made, "auto", Recording())  # type: ignore[arg-type]
    assert become.of("afxdp") == []
    assert "s1-eth2" in become.because
    assert changed == [(["s1-eth1", "s1-eth2"], "system"), ([], "priority")]
    with pytest.raises(MachineError):
        switch_ports.settled(made, "afxdp", Recording())  # type: ignore[arg-type]
