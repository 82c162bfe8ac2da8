"""Builds a described `Network` with Mininet: hosts are namespaces, links veth pairs, switches Open vSwitch or a bridge.

Mininet provides the classes and the lifecycle.  Three things are ours.  Links are created by netlink in one call
instead of by shell commands, and so are addresses and routes.  The mesh is a kernel bridge, so that its messages do not
queue behind a burst in the single thread of the switch.

Addresses.  The VIP is the destination address on the whole path: the switch only rewrites the destination MAC to that
of the chosen node, the node routes the VIP to its backend, and the backend owns it.  Answers go backend → node → switch
→ client.  All neighbours needed by packets of the experiment are permanent entries.  Otherwise an address resolution in
the middle of a burst would cause loss that nobody configured; and the neighbour table of a kernel holds at most 1024
learned entries.
"""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import Callable, Collection, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from mininet.link import Link as MininetLink
from mininet.log import setLogLevel
from mininet.net import Mininet
from mininet.node import Switch as MininetSwitch

from testbed.emulation.network import offloads, shaping
from testbed.emulation.network import route_requests as rt
from testbed.emulation.network.hosts import NamespaceHost
from testbed.emulation.network.route_requests import RouteRequests
from testbed.emulation.network.switch_ports import Switch
from testbed.scenario.network import DATA_PREFIX, VIP_IP, VIP_IP6, VIP_MAC, Host, Link, Network
from testbed.system import kernel

MESH_PREFIX = 16
MESH_SUPERVISOR_IP = "10.1.255.254"
_LOOPBACK = 1  # its index in every namespace

_ETHERNET_BYTES = 14


def mesh_ip(node: Host) -> str:
    """Return the address of `node` on the mesh network."""
    high, low = divmod(node.number, 250)
    return f"10.1.{high}.{low + 1}"


def _inner_ip(node: Host) -> str:
    """Return the node's address on the link to its backend: the backend's gateway."""
    high, low = divmod(node.number, 250)
    return f"10.2.{high}.{low + 1}"


class VethLink(MininetLink):  # type: ignore[misc]
    """A veth pair made by one netlink message, each end born in its namespace."""

    mtu = 1500
    netlink: RouteRequests

    @classmethod
    def of_mtu(cls, mtu: int, netlink: RouteRequests) -> type[VethLink]:
        """Return the class of links that carry so much, made through `netlink` (Mininet makes them without asking)."""
        return type(cls.__name__, (cls,), {"mtu": mtu, "netlink": netlink})

    @classmethod
    def makeIntfPair(  # noqa: N802 (Mininet's name)
        cls,
        intfname1: str,
        intfname2: str,
        addr1: str | None = None,
        addr2: str | None = None,
        node1: Any = None,
        node2: Any = None,
        deleteIntfs: bool = True,  # noqa: N803
    ) -> None:
        """Make the pair (Mininet calls this)."""
        pair = rt.veth(node1.pid, intfname1, addr1, node2.pid, intfname2, addr2, cls.mtu)
        cls.netlink.carry_out(f"making the link {intfname1}-{intfname2}", [pair])


class KernelBridge(MininetSwitch):  # type: ignore[misc]
    """A learning switch in the kernel, with an address of its own for the balancer to listen on."""

    def start(self, controllers: list[Any]) -> None:
        """Make the bridge and plug in every interface."""
        attempted = f"making the bridge {self.name}"
        with RouteRequests() as netlink:
            netlink.carry_out(attempted, [rt.bridge(self.name)])
            bridge = socket.if_nametoindex(self.name)
            ports = [socket.if_nametoindex(name) for name in self.intfNames() if name != "lo"]
            settings = [rt.address(bridge, MESH_SUPERVISOR_IP, MESH_PREFIX), rt.up(bridge)]
            netlink.carry_out(attempted, [*(rt.up(port, bridge) for port in ports), *settings])

    def stop(self, deleteIntfs: bool = True) -> None:  # noqa: N803
        """Do nothing: the bridge ends with the sandbox."""


class EmulatedNetwork:
    """The running network.

    Attributes:
        network: what was described.
        largest_frame_bytes: what fits through its links.
    """

    def __init__(
        self,
        network: Network,
        largest_frame_bytes: int,
        doing: Callable[[str], None] = lambda _: None,
        afxdp: Collection[str] = (),
        *,
        in_kernel: bool = False,
    ) -> None:
        """Build and start everything but the controller: see `OpenVSwitch.connect_controllers`.

        `doing` is called with what is being built; `afxdp` are the ports of the switch to be made so (`switch_ports`);
        `in_kernel`: the kernel forwards.
        """
        self.network, self._doing, self._afxdp = network, doing, afxdp
        self._datapath = "kernel" if in_kernel else "user"
        setLogLevel("error")
        Mininet.inited = True  # its init() would change limits and sysctls of the whole machine
        _raise_file_limit()
        _quiet_namespace()
        self.largest_frame_bytes = max(VethLink.mtu + _ETHERNET_BYTES, largest_frame_bytes)
        with RouteRequests() as netlink:
            wide = VethLink.of_mtu(self.largest_frame_bytes - _ETHERNET_BYTES, netlink)
            self._net = Mininet(build=False, controller=None, host=NamespaceHost, link=wide, autoSetMacs=False)
            self._add_hosts()
            self._add_switches()
            self._add_links()
        self._net.built = True
        self._switch_offloads_off()  # where a port of the switch gets an XDP program, its peer's are fixed
        doing("starting the network")
        self._net.start()  # the switch makes its ports while the hosts are configured
        for host in network.hosts:
            doing(f"configuring {host.name}")
            self._configure(host)
        for link in network.links:
            self._delay(link)

    def _add_hosts(self) -> None:
        """Make all namespaces at once: the kernel takes some milliseconds for each."""
        self._doing("making the hosts")
        made = [self._net.addHost(host.name, ip=None) for host in self.network.hosts]
        for host in made:
            host.settle()
            with kernel.network_of(host.pid):
                _quiet_namespace()

    def _add_switches(self) -> None:
        for switch in self.network.switches:
            dpid = f"{self.network.datapath_id(switch.name):016x}"  # Mininet would take it from the name
            if switch.kind == "mesh":
                self._net.addSwitch(switch.name, cls=KernelBridge, dpid=dpid)
            else:
                self._net.addSwitch(
                    switch.name,
                    cls=Switch,
                    afxdp=self._afxdp,
                    dpid=dpid,
                    datapath=self._datapath,
                    protocols="OpenFlow13",
                    failMode="secure",
                )

    def _add_links(self) -> None:
        hosts = {host.name: host for host in self.network.hosts}
        for link in self.network.links:
            self._doing(f"making the link {link.a}-{link.b}")
            macs = {}
            for end, key, other in ((link.a, "addr1", link.b), (link.b, "addr2", link.a)):
                if end in hosts:
                    index = int(self.network.interface(end, other).rsplit("eth", 1)[1])
                    macs[key] = hosts[end].mac_of(index)
            self._net.addLink(link.a, link.b, up=None, **macs)  # each is taken up by netlink

    def _switch_offloads_off(self) -> None:
        for host in self.network.hosts:
            with kernel.network_of(self.pid(host.name)):
                offloads.switch_off(self._interfaces(host))
        trunks = [self.network.interface(*ends) for link in self.network.trunks for ends in link.directions]
        if trunks:
            offloads.switch_off(trunks)

    def _interfaces(self, host: Host) -> list[str]:
        return [f"{host.name}-eth{index}" for index in range(len(self.network.links_of(host.name)))]

    def pid(self, host: str) -> int:
        """Return a process in the host's network namespace."""
        return int(self._net[host].pid)

    def _configure(self, host: Host) -> None:
        """Give a host addresses, routes and neighbours, in one go."""
        with kernel.network_of(self.pid(host.name)), RouteRequests() as netlink:
            interfaces = [socket.if_nametoindex(name) for name in self._interfaces(host)]
            if host.role == "node":
                _write_sysctl("net/ipv4/ip_forward", "1")
                _write_sysctl("net/ipv6/conf/all/forwarding", "1")
            settings = [*map(rt.up, (_LOOPBACK, *interfaces)), *self._settings_of(host, interfaces)]
            netlink.carry_out(f"configuring {host.name}", settings)

    def _settings_of(self, host: Host, interfaces: list[int]) -> list[bytes]:
        if host.role == "client":
            return self._settings_of_client(host, *interfaces)
        return (self._settings_of_node if host.role == "node" else self._settings_of_backend)(host, *interfaces)

    def _settings_of_client(self, host: Host, outside: int) -> list[bytes]:
        vips = [rt.neighbour(outside, vip, VIP_MAC) for vip in (VIP_IP, VIP_IP6)]
        return [rt.address(outside, host.ip, DATA_PREFIX), rt.address(outside, host.ip6, 64), *vips]

    def _settings_of_node(self, host: Host, outside: int, inside: int, mesh: int) -> list[bytes]:
        backend = self.network.host(self.network.next_hop(host.name))
        ways = [rt.route(inside, vip) for vip in (f"{VIP_IP}/32", f"{VIP_IP6}/128")]
        return [
            rt.address(outside, host.ip, DATA_PREFIX),
            *_settings_outside(host, outside, self.network.clients),
            rt.address(inside, _inner_ip(host), 32),
            rt.address(mesh, mesh_ip(host), MESH_PREFIX),
            *(rt.neighbour(mesh, ip, mac) for name, ip, mac in self._mesh_stations if name != host.name),
            *ways,
            *(rt.neighbour(inside, vip, backend.mac) for vip in (VIP_IP, VIP_IP6)),
        ]

    @cached_property
    def _mesh_stations(self) -> list[tuple[str, str, str]]:
        """Return name, IP and MAC address of every node on the mesh."""
        return [(node.name, mesh_ip(node), self.mesh_mac(node)) for node in self.network.nodes]

    def mesh_mac(self, node: Host) -> str:
        """Return the address of the node's interface on the mesh: its last."""
        return node.mac_of(len(self.network.links_of(node.name)) - 1)

    def _settings_of_backend(self, host: Host, inside: int) -> list[bytes]:
        node = next(node for node in self.network.nodes if self.network.next_hop(node.name) == host.name)
        inner_ip = _inner_ip(node)
        inner_mac = node.mac_of(int(self.network.interface(node.name, host.name).rsplit("eth", 1)[1]))
        return [
            rt.address(inside, VIP_IP, 32),
            rt.address(inside, VIP_IP6, 128),
            rt.route(inside, f"{inner_ip}/32", scope=rt.SCOPE_LINK),
            rt.route(inside, "default", inner_ip),
            rt.neighbour(inside, inner_ip, inner_mac),
            rt.route(inside, "fd00::/64"),
            *(rt.neighbour(inside, client.ip6, inner_mac) for client in self.network.clients),
        ]

    def _delay(self, link: Link) -> None:
        """Delay what either end of the link sends."""
        if not link.delay_ns:
            return
        hosts = {host.name for host in self.network.hosts}
        for here, there in link.directions:
            interface = self.network.interface(here, there)
            if here in hosts:
                with kernel.network_of(self.pid(here)):
                    shaping.delay(interface, link.delay_ns)
            else:
                shaping.delay(interface, link.delay_ns)


class NodeLink:
    """The node's end of its link to the switch, to be taken down and up."""

    def __init__(self, network: EmulatedNetwork, node: str) -> None:
        """Open a netlink socket in the node's namespace; it stays there."""
        self._host, self._clients = network.network.host(node), network.network.clients
        with kernel.network_of(network.pid(node)):
            self._netlink = RouteRequests()
            self._index = socket.if_nametoindex(network.network.data_interface(node))

    def down(self) -> None:
        """Take it down."""
        self._netlink.carry_out(f"taking the link of {self._host.name} down", [rt.down(self._index)])

    def up(self) -> None:
        """Take it up, and give it back what it lost when it went down."""
        settings = _settings_outside(self._host, self._index, self._clients)
        self._netlink.carry_out(f"taking the link of {self._host.name} up", [rt.up(self._index), *settings])


def _settings_outside(host: Host, outside: int, clients: Sequence[Host]) -> list[bytes]:
    """Return what gives a node's data interface what the kernel takes away when it goes down."""
    known = [rt.neighbour(outside, ip, client.mac) for client in clients for ip in (client.ip, client.ip6)]
    return [rt.address(outside, host.ip6, 64), *known]


def _raise_file_limit() -> None:
    """Take all the descriptors this process may have: each host is held by pipes, and its shell by a terminal."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _quiet_namespace() -> None:
    """Keep the kernel of this namespace from sending or dropping packets of its own accord.

    An interface takes its settings over when it is made: call this before.
    """
    for scope in ("all", "default"):
        _write_sysctl(f"net/ipv6/conf/{scope}/accept_dad", "0")
        _write_sysctl(f"net/ipv6/conf/{scope}/accept_ra", "0")
        _write_sysctl(f"net/ipv6/conf/{scope}/router_solicitations", "0")
        _write_sysctl(f"net/ipv6/conf/{scope}/addr_gen_mode", "1")
        _write_sysctl(f"net/ipv4/conf/{scope}/rp_filter", "0")


def _write_sysctl(name: str, value: str) -> None:
    """Set a sysctl of the current network namespace; a kernel without IPv6 has none of its keys."""
    path = Path("/proc/sys") / name
    if os.path.exists(path):
        path.write_text(value)
