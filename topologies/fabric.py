"""A network of several switches: what all families of them have in common.

    c1 … ── switches of the family ── n1 … ── b1 …        n1…nN are also connected to m1, the mesh network

The first switch is that of the balancer, which owns the VIP; the others forward.  The mesh is a separate network, so
that load on the switches does not delay heartbeats.
"""

from __future__ import annotations

from collections.abc import Sequence

from testbed.scenario.network import Host, Link, Network, Switch
from testbed.scenario.topology import TopologySpec

MESH = "m1"


def describe(
    spec: TopologySpec,
    switches: Sequence[str],
    trunks: Sequence[tuple[str, str]],
    clients_on: Sequence[str],
    nodes_on: Sequence[str],
) -> Network:
    """Return the network of these switches.

    Args:
        spec: numbers of hosts, rates and delays.
        switches: by name, the one of the balancer first.
        trunks: the links between two of them.
        clients_on: the switches that clients hang on, in turn.
        nodes_on: the switches that nodes hang on, neighbours on the same one.
    """
    clients = [Host(f"c{i}", "client") for i in range(1, spec.clients + 1)]
    nodes = [Host(f"n{i}", "node") for i in range(1, spec.nodes + 1)]
    backends = [Host(f"b{i}", "backend") for i in range(1, spec.nodes + 1)]
    links = [Link(a, b) for a, b in trunks]
    for index, client in enumerate(clients):
        links.append(Link(client.name, clients_on[index % len(clients_on)], delay_ns=spec.link_delay_ns))
    for index, node in enumerate(nodes):
        links.append(Link(nodes_on[index * len(nodes_on) // len(nodes)], node.name, delay_ns=spec.link_delay_ns))
    served = zip(nodes, backends, spec.rates_bps, strict=True)
    links += [Link(node.name, backend.name, rate_bps) for node, backend, rate_bps in served]
    links += [Link(node.name, MESH) for node in nodes]
    first, *others = switches
    made = (Switch(first), *(Switch(name, "plain") for name in others), Switch(MESH, "mesh"))
    return Network((*clients, *nodes, *backends), made, tuple(links))
