"""`single`: one node, the smallest cluster and the baseline of every comparison of sizes.

c1 ─ s1 ─ n1 ── b1
"""

from __future__ import annotations

from testbed.scenario.network import Network
from testbed.scenario.tables import FamilyTraits
from testbed.scenario.topology import TopologySpec
from testbed.topologies import cluster


def describe(spec: TopologySpec) -> Network:
    """Return the one-node network."""
    return cluster.describe(spec)


def _refusal(spec: TopologySpec) -> str:
    return "" if spec.nodes == 1 else f"family single has one node, not {spec.nodes}; use family: cluster"


ROWS = (
    FamilyTraits(
        name="single",
        doc="one node behind the switch: the smallest cluster, and the baseline for scaling comparisons",
        describe=describe,
        defaults={"nodes": 1, "clients": 1},
        refusal=_refusal,
    ),
)
