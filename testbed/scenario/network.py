"""What a network is made of: hosts, switches and links, described and not built.

A family in ``topologies/`` returns a `Network`; the emulation builds it out of namespaces, the simulation out of
arrays.  Names follow Mininet: clients ``c1…``, nodes ``n1…``, backends ``b1…``, switches ``s1…``, mesh switch ``m1``,
interfaces ``{host}-eth{k}`` in the order of the links.  Addresses derive from the number, so that any capture reads
without a map.

A network may have several switches.  One of them, of kind ``openflow``, owns the VIP: it chooses the node of each
packet.  The others, of kind ``plain``, forward by destination address along shortest paths (`routing`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

Role = Literal["client", "node", "backend"]

VIP_IP = "10.0.0.100"
VIP_IP6 = "fd00::100"
VIP_MAC = "02:00:00:00:00:64"
DATA_PREFIX = 16

_BUCKET_MS = 4
_LARGEST_FRAME_BYTES = 1514
_ROLE_BYTE: dict[str, int] = {"client": 1, "node": 2, "backend": 3}


def bucket_bytes(rate_bps: int) -> int:
    """Return the depth of the token bucket behind a buffer of that rate: 4 ms of it, at least three full frames.

    The reason for this depth is in ``emulation/network/shaping.py``.
    """
    return max(3 * _LARGEST_FRAME_BYTES, rate_bps * _BUCKET_MS // 8 // 1000)


@dataclass(frozen=True, slots=True)
class Host:
    """An end of the network: a namespace in the emulation, a row in the simulation.

    Attributes:
        name: letter and number, such as ``n3``.
        role: ``client``, ``node`` or ``backend``.
        tier: 1 for nodes behind the balancer's switch, 2 for a second tier.
        spare: whether it is out of service at the start of a run.
        site: where it is; of a client, the region it is in.  Empty in a network in one place.
    """

    name: str
    role: Role
    tier: int = 1
    spare: bool = False
    site: str = ""

    @property
    def number(self) -> int:
        """Return the number in the name."""
        return int(re.sub(r"^\D+", "", self.name))

    @property
    def ip(self) -> str:
        """Return the IPv4 address on the data network."""
        high, low = divmod(self.number, 250)
        return f"10.0.{_ROLE_BYTE[self.role] * 16 + high}.{low + 1}"

    @property
    def ip6(self) -> str:
        """Return the IPv6 address on the data network."""
        return f"fd00::{_ROLE_BYTE[self.role]}:{self.number:x}"

    @property
    def mac(self) -> str:
        """Return the address of the first data interface."""
        return self.mac_of(0)

    def mac_of(self, interface: int) -> str:
        """Return the MAC address of ``{name}-eth{interface}``."""
        return f"02:{_ROLE_BYTE[self.role]:02x}:{interface:02x}:00:{self.number >> 8:02x}:{self.number & 255:02x}"


@dataclass(frozen=True, slots=True)
class Switch:
    """A switch: ``openflow`` (the balancer's, which owns the VIP), ``plain`` or ``mesh`` (a learning bridge)."""

    name: str
    kind: Literal["openflow", "plain", "mesh"] = "openflow"


@dataclass(frozen=True, slots=True)
class Link:
    """A full-duplex link between `a` and `b`.

    Attributes:
        rate_bps: rate of the direction a → b, of a link between switches that of each direction; None is not limited.
        delay_ns: one-way propagation delay.
        queue_bytes: what may wait for a link between switches, in each direction; of no meaning without a rate.
    """

    a: str
    b: str
    rate_bps: int | None = None
    delay_ns: int = 0
    queue_bytes: int = 0

    @property
    def name(self) -> str:
        """Return how a scenario names it, such as ``s1-n2``."""
        return f"{self.a}-{self.b}"

    @property
    def directions(self) -> tuple[tuple[str, str], tuple[str, str]]:
        """Return who sends to whom, in either direction."""
        return (self.a, self.b), (self.b, self.a)

    def end_beside(self, end: str) -> str:
        """Return its other end."""
        return self.b if end == self.a else self.a


@dataclass(frozen=True, slots=True)
class Network:
    """A whole network.  Order is meaning: interfaces are numbered in the order of the links."""

    hosts: tuple[Host, ...]
    switches: tuple[Switch, ...]
    links: tuple[Link, ...]
    _by_name: dict[str, Host] = field(init=False, repr=False, compare=False, default_factory=dict)
    _links_of: dict[str, tuple[Link, ...]] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._by_name.update({host.name: host for host in self.hosts})
        at: dict[str, list[Link]] = {}
        for link in self.links:
            for end in dict.fromkeys((link.a, link.b)):
                at.setdefault(end, []).append(link)
        self._links_of.update({end: tuple(links) for end, links in at.items()})

    def host(self, name: str) -> Host:
        """Return the host of that name (KeyError when there is none)."""
        return self._by_name[name]

    def of_role(self, role: Role) -> tuple[Host, ...]:
        """Return the hosts of one role, in order."""
        return tuple(host for host in self.hosts if host.role == role)

    @property
    def clients(self) -> tuple[Host, ...]:
        """Return the clients, in order."""
        return self.of_role("client")

    @property
    def nodes(self) -> tuple[Host, ...]:
        """Return the buffer nodes, in order."""
        return self.of_role("node")

    @property
    def first_tier(self) -> tuple[Host, ...]:
        """Return the nodes the balancer gives flows to, in order."""
        return tuple(node for node in self.nodes if node.tier == 1)

    @property
    def sites(self) -> tuple[str, ...]:
        """Return the sites, in order; none of a network in one place."""
        return tuple(dict.fromkeys(node.site for node in self.nodes if node.site))

    def at_site(self, site: str) -> Network:
        """Return the cluster at a site: its hosts, its switch as that of a balancer, and its mesh."""
        hosts = tuple(host for host in self.hosts if host.site == site)
        there = {host.name for host in hosts}
        switches = (Switch(site), *(switch for switch in self.switches if switch.kind == "mesh"))
        ends = there | {switch.name for switch in switches}
        return Network(hosts, switches, tuple(link for link in self.links if {link.a, link.b} <= ends))

    def links_of(self, name: str) -> tuple[Link, ...]:
        """Return the links at a host or switch, in the order of their interfaces."""
        return self._links_of.get(name, ())

    def interface(self, name: str, peer: str) -> str:
        """Return the interface of `name` on its link to `peer`, such as ``n1-eth0``.

        Switch ports count from 1, as in Mininet; those of hosts from 0.
        """
        base = 0 if name in self._by_name else 1
        for index, link in enumerate(self.links_of(name)):
            if peer in (link.a, link.b):
                return f"{name}-eth{index + base}"
        raise KeyError(f"no link between {name} and {peer}")

    @property
    def spare_nodes(self) -> tuple[str, ...]:
        """Return the nodes that are out of service at the start, in order."""
        return tuple(node.name for node in self.nodes if node.spare)

    @property
    def switch(self) -> str:
        """Return the OpenFlow switch (StopIteration when there is none)."""
        return next(switch.name for switch in self.switches if switch.kind == "openflow")

    @property
    def mesh_switch(self) -> str:
        """Return the switch of the mesh (StopIteration when there is none)."""
        return next(switch.name for switch in self.switches if switch.kind == "mesh")

    def datapath_id(self, switch: str) -> int:
        """Return the number by which a switch makes itself known to the controller, from 1 on."""
        return [one.name for one in self.switches].index(switch) + 1

    @property
    def data_switches(self) -> tuple[str, ...]:
        """Return the switches that carry planned packets, the one of the balancer first."""
        return (self.switch, *(switch.name for switch in self.switches if switch.kind == "plain"))

    @property
    def trunks(self) -> tuple[Link, ...]:
        """Return the links between two of those switches, in order."""
        ends = set(self.data_switches)
        return tuple(link for link in self.links if link.a in ends and link.b in ends)

    def trunk(self, name: str) -> Link:
        """Return the link between switches of that name, either way round (StopIteration when there is none)."""
        return next(link for link in self.trunks if name in ("-".join(ends) for ends in link.directions))

    def switch_of(self, host: str) -> str:
        """Return the switch that a client or node hangs on (KeyError when there is none)."""
        data = {switch.name for switch in self.switches if switch.kind != "mesh"}
        for link in self.links_of(host):
            if (end := link.end_beside(host)) in data:
                return end
        raise KeyError(f"{host} hangs on no switch")

    def data_interface(self, host: str) -> str:
        """Return the interface of a host towards its switch."""
        return self.interface(host, self.switch_of(host))

    def switch_port(self, host: str) -> str:
        """Return the interface of its switch towards a host."""
        return self.interface(self.switch_of(host), host)

    @property
    def switch_ports(self) -> tuple[str, ...]:
        """Return every port of the switches that carry planned packets: to clients, to nodes, between switches."""
        ends = [self.switch_port(host.name) for host in (*self.clients, *self.nodes)]
        return (*ends, *(self.interface(*pair) for link in self.trunks for pair in link.directions))

    def mesh_interface(self, node: str) -> str:
        """Return the interface of a node on the mesh."""
        return self.interface(node, self.mesh_switch)

    def link_name(self, node: str) -> str:
        """Return how a scenario names the link between a node and its switch, such as ``s1-n2``."""
        return f"{self.switch_of(node)}-{node}"

    def node_rate_bps(self, node: str) -> int:
        """Return the rate at which `node` serves its buffer: that of its link to the backend or next tier."""
        for link in self.links_of(node):
            if link.a == node and link.rate_bps is not None:
                return link.rate_bps
        raise KeyError(f"{node} has no rate-limited egress link")

    def next_hop(self, node: str) -> str:
        """Return the host behind `node`'s rate-limited egress link."""
        for link in self.links_of(node):
            if link.a == node and link.rate_bps is not None:
                return link.b
        raise KeyError(f"{node} has no rate-limited egress link")
