"""`cascade`: a cluster with a second tier of nodes that absorbs what the first tier cannot.

c1 ─┐      ┌─ n1 ── b1   first tier: the balancer assigns flows to these nodes
c2 ─┼─ s1 ─┼─ n2 ── b2
           ├─ n3 ── b3   second tier: only packets that a full node of the first tier hands over
           └─ n4 ── b4

A node of the second tier is built like any other.  The only difference is that no slot of the balancer's table belongs
to it, so its buffer is empty when a full node deflects to it.
"""

from __future__ import annotations

from dataclasses import replace

from testbed.scenario.network import Host, Network
from testbed.scenario.tables import FamilyTraits
from testbed.scenario.topology import TopologySpec
from testbed.topologies import cluster


def describe(spec: TopologySpec) -> Network:
    """Return the cluster of `spec.nodes` nodes, followed by `spec.second_tier` nodes of tier 2."""
    flat = cluster.describe(spec.model_copy(update={"nodes": spec.all_nodes, "second_tier": 0}))
    return replace(flat, hosts=tuple(_in_its_tier(host, spec.nodes) for host in flat.hosts))


def _in_its_tier(host: Host, first_tier: int) -> Host:
    return replace(host, tier=2) if host.role != "client" and host.number > first_tier else host


def _refusal(spec: TopologySpec) -> str:
    return "" if spec.second_tier else "family cascade needs a second_tier of at least 1 node"


ROWS = (
    FamilyTraits(
        name="cascade",
        doc="a cluster and a second tier (`second_tier`) of nodes, which get the packets deflected by the first tier",
        describe=describe,
        defaults={"second_tier": 1},
        keys=("second_tier", "node_rates"),
        refusal=_refusal,
    ),
)
