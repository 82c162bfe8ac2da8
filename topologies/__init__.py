"""Topology families: each file describes one, `FAMILIES` names them all."""

from __future__ import annotations

from collections.abc import Callable

from testbed.scenario.model import TopologySpec
from testbed.scenario.network import Network
from testbed.topologies import cascade, cluster, single

FAMILIES: dict[str, Callable[[TopologySpec], Network]] = {
    "cascade": cascade.describe,
    "cluster": cluster.describe,
    "single": single.describe,
}


def describe(spec: TopologySpec) -> Network:
    """Return the network that a scenario's `topology` names."""
    return FAMILIES[spec.family](spec)
