"""`two-switch`: clients and balancer on one switch, all nodes on another; one link carries everything.

c1 ─┐           ┌─ n1 ── b1
c2 ─┴─ s1 ── s2 ┼─ n2 ── b2       n1…nN are also connected to m1, the mesh network
                └─ n3 ── b3
"""

from __future__ import annotations

from testbed.scenario.network import Network
from testbed.scenario.tables import FamilyTraits
from testbed.scenario.topology import TopologySpec
from testbed.topologies import fabric


def describe(spec: TopologySpec) -> Network:
    """Return the network of two switches."""
    return fabric.describe(spec, ("s1", "s2"), [("s1", "s2")], ["s1"], ["s2"])


ROWS = (
    FamilyTraits(
        name="two-switch",
        doc="clients and balancer on one switch, the nodes on another, one link between them",
        describe=describe,
        keys=("node_rates",),
    ),
)
