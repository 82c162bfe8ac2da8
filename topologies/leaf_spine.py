r"""`leaf-spine`: every leaf is linked to every spine; flows are spread over the spines by a hash (ECMP).

        spine1      spine2
        /  |  \    /  |  \       every leaf to every spine
    leaf1  leaf2 … leaf4
     │ │     │       │
    c1 n1    n2 …    n8          n1…nN are also connected to m1, the mesh network

The balancer owns the VIP at leaf1, the border leaf, to which the clients are connected (with `clients: spread`, they
are connected to all leaves in turn).  Nodes are divided over all leaves: those of leaf1 are one switch away from the
balancer's decision, all others three.

Source: M. Al-Fares, A. Loukissas, A. Vahdat, A Scalable, Commodity Data Center Network Architecture (SIGCOMM 2008).
"""

from __future__ import annotations

from typing import Literal, cast

from pydantic import BaseModel, ConfigDict, Field

from testbed.scenario.network import Network
from testbed.scenario.tables import FamilyTraits, options_of
from testbed.scenario.topology import TopologySpec
from testbed.topologies import fabric


class LeafSpineOptions(BaseModel):
    """How many switches there are, and who sends from where."""

    model_config = ConfigDict(extra="forbid", strict=True)
    leaves: int = Field(4, ge=2, le=32, description="number of leaf switches, to which hosts are connected")
    spines: int = Field(2, ge=1, le=16, description="number of spine switches, which connect the leaves")
    clients: Literal["border", "spread"] = Field("border", description="clients on leaf1, or on all leaves in turn")


def describe(spec: TopologySpec) -> Network:
    """Return the network of leaves and spines."""
    options = cast("LeafSpineOptions", options_of(ROWS[0], spec.options))
    leaves = [f"leaf{i}" for i in range(1, options.leaves + 1)]
    spines = [f"spine{i}" for i in range(1, options.spines + 1)]
    trunks = [(leaf, spine) for leaf in leaves for spine in spines]
    clients_on = leaves[:1] if options.clients == "border" else leaves
    return fabric.describe(spec, [*leaves, *spines], trunks, clients_on, leaves)


ROWS = (
    FamilyTraits(
        name="leaf-spine",
        doc="each leaf switch is linked to all spine switches (`options`: `leaves`, `spines`); ECMP selects the spine",
        source="Al-Fares, Loukissas, Vahdat, A Scalable, Commodity Data Center Network Architecture (SIGCOMM 2008)",
        describe=describe,
        keys=("node_rates",),
        defaults={"nodes": 8},
        options=LeafSpineOptions,
    ),
)
