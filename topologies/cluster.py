"""`cluster`: clients – s1 – nodes – one backend per node, and the mesh between the nodes.

c1 ─┐      ┌─ n1 ── b1
c2 ─┼─ s1 ─┼─ n2 ── b2       n1…nN are also connected to m1, the mesh network
    │      └─ n3 ── b3
"""

from __future__ import annotations

from testbed.scenario.network import Host, Link, Network, Switch
from testbed.scenario.tables import FamilyTraits
from testbed.scenario.topology import TopologySpec


def describe(spec: TopologySpec) -> Network:
    """Return the cluster of `spec.nodes` nodes, those that may be added later, and `spec.clients` clients."""
    clients = [Host(f"c{i}", "client") for i in range(1, spec.clients + 1)]
    count = spec.nodes + spec.spare
    nodes = [Host(f"n{i}", "node", spare=i > spec.nodes) for i in range(1, count + 1)]
    backends = [Host(f"b{i}", "backend") for i in range(1, count + 1)]
    links = [Link(client.name, "s1", delay_ns=spec.link_delay_ns) for client in clients]
    links += [Link("s1", node.name, delay_ns=spec.link_delay_ns) for node in nodes]
    served = zip(nodes, backends, spec.rates_bps, strict=True)
    links += [Link(node.name, backend.name, rate_bps) for node, backend, rate_bps in served]
    links += [Link(node.name, "m1") for node in nodes]
    return Network((*clients, *nodes, *backends), (Switch("s1"), Switch("m1", "mesh")), tuple(links))


ROWS = (
    FamilyTraits(
        name="cluster",
        doc="nodes side by side behind one switch, a backend each; `node_rates` makes them unequal",
        describe=describe,
        keys=("node_rates", "spare"),
    ),
)
