"""How the switch receives and sends frames at its ports: AF_XDP sockets, packet sockets, or the datapath of the kernel.

With packet sockets, every iteration of the switch's main loop makes a system call for every port, and allocates buffers
for 32 frames per port.  So the cost of a packet grows with the number of ports.  An AF_XDP socket is a ring in memory
that is shared with the kernel: checking an empty one is a memory read, and its buffers are allocated once.

    port        client to node, p50, of 10,000 packets a second     frames that wait at most     memory a port
    packet      62 us                                               32 MB                        none of its own
    afxdp       34 us                                               2048                         64 MiB

The main thread of the switch serves packet sockets, a second thread serves AF_XDP sockets (`poll_thread`).

AF_XDP is used unless one of these conditions requires packet sockets:

- this Open vSwitch does not support such a port, or has no poll thread that sleeps, or the kernel refuses its program
  (checked after the port is created);
- the memory of all ports together exceeds half of the free memory;
- a fault takes the port's link down, or the link has a rate or a delay: an AF_XDP socket bypasses the classifier that
  records the packets lost by a cut or full link (`failing_link`, `trunk`), and every queueing discipline.

A port of kind ``kernel`` belongs to the datapath of the kernel (module ``openvswitch``), which forwards the packets of
known flows and asks the switch about new ones.  It is used only if a scenario asks for it: many kernels lack the
module, and packets without a matching flow entry are not counted apart from those that a port did not accept.

Source: Open vSwitch 3.1, lib/netdev-afxdp.c (rings of 2048, and four times as many frames of 4096 bytes as both hold);
Linux, net/xdp/xsk.c (copy mode: `__dev_direct_xmit`, without queueing discipline or classifier).
"""

from __future__ import annotations

import shlex
import socket
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mininet.node import OVSSwitch
from pyroute2 import IPRoute
from pyroute2.netlink import genlmsg
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.generic import GenericNetlinkSocket

from testbed.emulation.network import offloads, poll_thread
from testbed.emulation.network import route_requests as rt
from testbed.emulation.network.open_vswitch import OpenVSwitch
from testbed.emulation.network.route_requests import RouteRequests
from testbed.errors import MachineError
from testbed.scenario.model import Scenario
from testbed.scenario.network import Network
from testbed.system import allowance, commands

PortKind = Literal["afxdp", "packet", "kernel"]

AFXDP_TYPE = "afxdp"
AFXDP_BYTES = 4 * (2048 + 2048) * 4096
_SETTINGS = f"type={AFXDP_TYPE} options:xdp-mode=native"
_DATAPATH_FAMILY = "ovs_datapath"
_NATIVE = "xdp"  # how pyroute2 writes XDP_ATTACHED_DRV


@dataclass(frozen=True, slots=True)
class SwitchPorts:
    """What the ports of the switch are.

    Attributes:
        kinds: of each port, by its name.
        because: why some are packet sockets; empty when none is, or the scenario wants it so.
    """

    kinds: Mapping[str, PortKind]
    because: str = ""

    def of(self, kind: PortKind) -> list[str]:
        """Return the ports of a kind."""
        return [port for port, own in self.kinds.items() if own == kind]

    def record(self) -> dict[str, Any]:
        """Return what the manifest says."""
        kinds: tuple[PortKind, ...] = ("afxdp", "packet", "kernel")
        return {**{kind: self.of(kind) for kind in kinds}, "because": self.because}


def choose(scenario: Scenario, network: Network, switch: OpenVSwitch) -> SwitchPorts:
    """Return what the ports are to be, before they are made.

    Raises:
        MachineError: the scenario wants AF_XDP ports, or the kernel's, which this machine does not have.
    """
    ports = network.switch_ports
    wanted = scenario.topology.switch_ports
    if wanted == "kernel":
        _refuse_without_datapath()
        return SwitchPorts(dict.fromkeys(ports, "kernel"))
    refusal = "" if wanted == "packet" else _refusal(switch, len(ports))
    if refusal:
        refuse_if_demanded(wanted, refusal)
    if wanted == "packet" or refusal:
        return all_packet(ports, refusal)
    kept = {*_failing(scenario, network), *_queueing(network)}
    because = "links with a fault, a rate or a delay need packet sockets" if kept else ""
    return SwitchPorts({port: "packet" if port in kept else "afxdp" for port in ports}, because)


def _refuse_without_datapath() -> None:
    """Refuse where the kernel has no datapath of Open vSwitch; asking for it loads the module where there is one.

    Raises:
        MachineError: it has none.
    """
    try:
        with GenericNetlinkSocket() as netlink:
            netlink.bind(_DATAPATH_FAMILY, genlmsg)
    except (NetlinkError, OSError) as error:
        happened = f"this kernel has no module openvswitch ({error})"
        raise MachineError("topology.switch_ports: kernel", happened, "set it to auto") from error


def _failing(scenario: Scenario, network: Network) -> Iterator[str]:
    """Yield the ports of links that a fault takes down."""
    for fault in scenario.faults:
        if fault.row.takes_link_down and fault.node:
            yield network.switch_port(fault.node)
        elif fault.row.takes_link_down:
            yield from (network.interface(*ends) for ends in network.trunk(fault.place).directions)


def _queueing(network: Network) -> Iterator[str]:
    """Yield the ports whose link has a queueing discipline."""
    trunks = [(*ends, bool(link.rate_bps or link.delay_ns)) for link in network.trunks for ends in link.directions]
    yield from (network.interface(here, there) for here, there, queues in trunks if queues)
    for host in (*network.clients, *network.nodes):
        switch = network.switch_of(host.name)
        if any(link.delay_ns for link in network.links_of(host.name) if link.end_beside(host.name) == switch):
            yield network.interface(switch, host.name)


def all_packet(ports: Collection[str], because: str) -> SwitchPorts:
    """Return packet sockets for all ports."""
    return SwitchPorts(dict.fromkeys(ports, "packet"), because)


def refuse_if_demanded(wanted: str, refusal: str) -> None:
    """Refuse a scenario that wants AF_XDP ports and nothing else.

    Raises:
        MachineError: it does.
    """
    if wanted == "afxdp":
        raise MachineError("topology.switch_ports: afxdp", refusal, "set it to auto or packet")


def _refusal(switch: OpenVSwitch, ports: int) -> str:
    """Return why the switch cannot have AF_XDP ports, empty when it may."""
    if AFXDP_TYPE not in switch.interface_types():
        return f"this Open vSwitch has no ports of type {AFXDP_TYPE}"
    if not poll_thread.sleeps(switch.version()):
        oldest = ".".join(map(str, poll_thread.OLDEST_SWITCH))
        return f"AF_XDP ports need Open vSwitch {oldest} or later: the poll thread of older ones occupies a core"
    available = allowance.free_bytes()
    if ports * AFXDP_BYTES > available // 2:
        return f"{ports} ports take {AFXDP_BYTES >> 20} MiB each, more than half of the {available >> 20} MiB available"
    return ""


def without_program(ports: Collection[str]) -> list[str]:
    """Return which ports (of this network namespace) have no XDP program of native mode."""
    with IPRoute() as netlink:
        links = {link.get_attr("IFLA_IFNAME"): link for link in netlink.get_links()}
    return [port for port in ports if port not in links or _xdp_mode(links[port]) != _NATIVE]


def _xdp_mode(link: Any) -> str | None:
    xdp = link.get_attr("IFLA_XDP")
    return xdp.get_attr("IFLA_XDP_ATTACHED") if xdp else None


def settled(ports: SwitchPorts, wanted: str, switch: OpenVSwitch) -> SwitchPorts:
    """Return what the ports have become: packet sockets where the kernel refused a port its program.

    Raises:
        MachineError: it did, and the scenario wants AF_XDP ports and nothing else.
    """
    switch.carried_out()
    refused = without_program(ports.of("afxdp"))
    if refused:
        refusal = f"the kernel refused a native XDP program at {refused[0]}: read logs/ovs-vswitchd.log"
        refuse_if_demanded(wanted, refusal)
        switch.set_types(ports.of("afxdp"), "system")
        ports = all_packet(ports.kinds, refusal)
    switch.give_priority()
    for port in ports.of("afxdp"):
        offloads.switch_gro_off(port)  # attaching a program switched it on
    return ports


class Switch(OVSSwitch):  # type: ignore[misc]
    """Mininet's switch, whose ports may be AF_XDP sockets."""

    def __init__(self, name: str, afxdp: Collection[str] = (), **parameters: Any) -> None:
        """Make the switch; `afxdp` are the ports that are."""
        self._afxdp = afxdp
        super().__init__(name, **parameters)

    def vsctl(self, *words: Any, **_: Any) -> None:
        """Run ``ovs-vsctl`` (Mininet calls this), and leave the switch to carry it out: `OpenVSwitch.carried_out`.

        Mininet would type it into a shell, whose terminal takes lines of 4096 characters: 45 ports.
        """
        argv = shlex.split(" ".join(str(word).strip() for word in words))
        commands.run("making the switch", ["ovs-vsctl", "--no-wait", *argv])

    def start(self, controllers: list[Any]) -> None:
        """Make the bridge with its ports, and take these up."""
        super().start(controllers)
        with RouteRequests() as netlink:
            ports = [rt.up(socket.if_nametoindex(name)) for name in self.intfNames()]
            netlink.carry_out(f"taking the ports of {self.name} up", ports)

    @classmethod
    def batchStartup(cls, switches: list[Any], run: Any = None) -> list[Any]:  # noqa: N802 (Mininet's names)
        """Do nothing: each switch was started by itself."""
        return switches

    def intfOpts(self, intf: Any) -> str:  # noqa: N802 (Mininet's name)
        """Return the settings of a port (Mininet calls this)."""
        return f"{super().intfOpts(intf)} {_SETTINGS if str(intf) in self._afxdp else ''}".rstrip()
