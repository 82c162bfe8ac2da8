"""The flow entries of switches without the balancer, and how the balancer's switch reaches stations through them.

    destination address ─ one next hop ──▶ its port
                        └ several ──▶ hash of the 5-tuple → reg3 ──▶ PATHS (reg4: the set, reg3: which of it)
                                          PATHS ──▶ a group: that port, or another of the set while it is down

A forwarding switch knows the address of every host and that of the VIP, which leads to the balancer.  ARP requests also
go to the balancer's switch, which answers all of them.  All other packets are dropped.

The entries are written once, before the traffic, after the controllers are set: a switch deletes its flow entries when
it gets its first controller.  The switch itself reacts to a port that goes down; the balancer is notified, because
every switch reports its ports.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from testbed.controllers.config import Station
from testbed.controllers.pipeline import KERNEL_COOKIE
from testbed.controllers.switch import far_port
from testbed.controllers.table_numbers import Table
from testbed.emulation.network.open_vswitch import OpenVSwitch
from testbed.scenario.network import VIP_MAC, Network
from testbed.scenario.routing import Routes, path_basis, routes_of

_BROADCAST = "ff:ff:ff:ff:ff:ff"
_KERNELS = f"cookie={KERNEL_COOKIE:#x},table=0"  # as in the balancer's pipeline: what hosts' kernels send by themselves
_DROPPED_OF_KERNELS = (
    f"{_KERNELS},priority=1,dl_dst=01:00:00:00:00:00/01:00:00:00:00:00,actions=drop",
    f"{_KERNELS},priority=0,arp,actions=drop",
    *(f"{_KERNELS},priority=0,icmp6,icmp_type={kind},actions=drop" for kind in range(133, 138)),
)


def install(network: Network, switch: OpenVSwitch, seed: int) -> None:
    """Write the flows of every switch but the balancer's; `seed` decides which flow takes which way."""
    others = network.data_switches[1:]
    if not others:
        return
    routes, numbers = routes_of(network), switch.port_numbers(list(network.switch_ports))
    for name in others:
        groups, flows = _tables(network, routes, name, numbers, path_basis(network, name, seed))
        switch.add_groups(name, groups)
        switch.add_flows(name, flows)


def stations_of(network: Network, numbers: Mapping[str, int]) -> Callable[[str], Station]:
    """Return what gives the balancer's view of a host, by its name; `numbers` are those of all ports, by interface."""
    routes, own = routes_of(network), network.switch

    def station(name: str) -> Station:
        host, home = network.host(name), network.switch_of(name)
        first, *more = _ports(network, routes, own, name, numbers)
        far = far_port(network.datapath_id(home), numbers[network.interface(home, name)])
        return Station(name, first, host.mac, host.ip, host.ip6, tuple(more), None if home == own else far)

    return station


def _ports(network: Network, routes: Routes, here: str, host: str, numbers: Mapping[str, int]) -> list[int]:
    home = network.switch_of(host)
    towards = (host,) if home == here else routes.next_hops[here, home]
    return [numbers[network.interface(here, near)] for near in towards]


def _tables(
    network: Network, routes: Routes, here: str, numbers: Mapping[str, int], basis: int
) -> tuple[list[str], list[str]]:
    """Return the groups and the flows of a switch."""
    to_balancer = [numbers[network.interface(here, near)] for near in routes.next_hops[here, network.switch]]
    hosts = (*network.clients, *network.nodes)
    ways = [(host.mac, _ports(network, routes, here, host.name, numbers)) for host in hosts] + [(VIP_MAC, to_balancer)]
    sets = list(dict.fromkeys(tuple(ports) for _, ports in ways if len(ports) > 1))
    flows = [f"table=0,priority=1,dl_dst={mac},actions={_towards(ports, sets, basis)}" for mac, ports in ways]
    flows.append(f"table=0,priority=2,arp,dl_dst={_BROADCAST},actions=output:{to_balancer[0]}")
    flows += _DROPPED_OF_KERNELS
    groups, paths = [], []
    for number, path, chain in _paths(sets):
        group = number << 8 | path
        buckets = ",".join(f"bucket=watch_port:{port},actions=output:{port}" for port in chain)
        groups.append(f"group_id={group},type=ff,{buckets}")
        paths.append(f"table={Table.PATHS:d},reg4={number},reg3={path},actions=group:{group}")
    return groups, [*paths, *flows]


def _paths(sets: Sequence[tuple[int, ...]]) -> Iterator[tuple[int, int, tuple[int, ...]]]:
    for number, ports in enumerate(sets, start=1):
        for path in range(len(ports)):
            yield number, path, (*ports[path:], *ports[:path])


def _towards(ports: Sequence[int], sets: Sequence[tuple[int, ...]], basis: int) -> str:
    if len(ports) == 1:
        return f"output:{ports[0]}"
    number = sets.index(tuple(ports)) + 1
    spread = f"multipath(symmetric_l3l4+udp,{basis},modulo_n,{len(ports)},0,NXM_NX_REG3[])"
    return f"load:{number}->NXM_NX_REG4[],{spread},resubmit(,{Table.PATHS:d})"
