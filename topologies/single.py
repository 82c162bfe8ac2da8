"""`single`: one node, the cluster's smallest sibling and the baseline every claim of scaling starts from.

c1 ─ s1 ─ n1 ── b1
"""

from __future__ import annotations

from testbed.errors import InputError
from testbed.scenario.model import TopologySpec
from testbed.scenario.network import Network
from testbed.topologies import cluster


def describe(spec: TopologySpec) -> Network:
    """Return the one-node network.

    Raises:
        InputError: when the scenario asks for more than one node.
    """
    if spec.nodes != 1:
        raise InputError("topology.nodes", f"family single has one node, not {spec.nodes}", "use family: cluster")
    return cluster.describe(spec)
