"""Which way packets take through several switches: along the fewest links, and over all ways that are as short.

    leaf1 ─┬─ spine1 ─┬─ leaf2      From leaf1 to leaf2 the next hops are spine1 and spine2.  A flow takes one of them,
           └─ spine2 ─┘             by a hash of its 5-tuple, so that its packets stay in order (equal-cost multipath).

Packets of clients go to the switch of the balancer, which chooses a node and writes its address; all other switches
forward by destination address alone.  Toward the balancer the number of links left falls with every hop and away from
it rises, so no packet can circle, whatever loops the graph has.

Source: C. Hopps, Analysis of an Equal-Cost Multi-Path Algorithm (RFC 2992, 2000).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from testbed.scenario.network import Link, Network

_BASIS_STEP = 0x9E37
BASIS_BITS = 0xFFFF


@dataclass(frozen=True)
class Routes:
    """The ways through the switches of a network.

    Attributes:
        next_hops: of each switch towards each other switch, the neighbours on a shortest path, in the order of links.
        hops: how many links are between two switches.
    """

    next_hops: Mapping[tuple[str, str], tuple[str, ...]]
    hops: Mapping[tuple[str, str], int]


def routes_of(network: Network) -> Routes:
    """Return the shortest ways; a pair of switches without a way between them has no entry."""
    beside: dict[str, list[str]] = {switch: [] for switch in network.data_switches}
    for link in network.trunks:
        beside[link.a].append(link.b)
        beside[link.b].append(link.a)
    hops = {(switch, target): count for target in beside for switch, count in _distances(target, beside).items()}
    return Routes(
        {
            (here, target): tuple(near for near in beside[here] if hops.get((near, target)) == count - 1)
            for (here, target), count in hops.items()
            if count
        },
        hops,
    )


def unused_when_down(network: Network, routes: Routes, down: Sequence[str]) -> frozenset[tuple[str, str]]:
    """Return the directions of links between switches that their switch uses no more, of those that are down.

    A switch sends over its other ways that are as short.  Where all of them are down it has no other way, and goes on
    sending to the one that went down last: packets are lost there, and counted there.

    Args:
        network: the network.
        routes: its routes.
        down: names of the links that are down, in the order in which they went down.
    """
    order = {pair: rank for rank, name in enumerate(down) for pair in network.trunk(name).directions}
    homes = {network.switch, *(network.switch_of(host.name) for host in (*network.clients, *network.nodes))}
    used = set()
    for (here, target), nexts in routes.next_hops.items():
        ways = [(here, near) for near in nexts]
        if target in homes and all(way in order for way in ways):
            used.add(max(ways, key=order.__getitem__))
    return frozenset(order) - used


def path_basis(network: Network, switch: str, seed: int) -> int:
    """Return with what a switch begins the hash that chooses among ways that are as short.

    Each switch has its own: with one for all, those behind a switch would see only flows that it hashed alike.
    """
    return (seed + _BASIS_STEP * network.datapath_id(switch)) & BASIS_BITS


def _distances(target: str, beside: Mapping[str, list[str]]) -> dict[str, int]:
    found, front = {target: 0}, [target]
    while front:
        front = [near for near in dict.fromkeys(n for here in front for n in beside[here]) if near not in found]
        found.update(dict.fromkeys(front, max(found.values()) + 1))
    return found


def longest_delay_ns(network: Network, routes: Routes, client: str, node: str) -> int:
    """Return the delay of all links from a client to a node, on the slowest of the ways that a flow may take."""
    here, balancer, there = network.switch_of(client), network.switch, network.switch_of(node)
    ends = ((client, here), (there, node))
    return sum(_link_between(network, *pair).delay_ns for pair in ends) + sum(
        _slowest_ns(network, routes, *pair) for pair in ((here, balancer), (balancer, there))
    )


def _slowest_ns(network: Network, routes: Routes, here: str, target: str) -> int:
    nexts = routes.next_hops.get((here, target), ())
    beyond = (
        _link_between(network, here, near).delay_ns + _slowest_ns(network, routes, near, target) for near in nexts
    )
    return max(beyond, default=0)


def _link_between(network: Network, a: str, b: str) -> Link:
    return next(link for link in network.links if {link.a, link.b} == {a, b})
