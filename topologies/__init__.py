"""Topology families: each file describes one and declares it in `ROWS`; `scenario/tables.py` lists the files."""

from __future__ import annotations

from testbed.scenario.network import Network
from testbed.scenario.tables import described
from testbed.scenario.topology import TopologySpec


def describe(spec: TopologySpec) -> Network:
    """Return the network that a scenario's `topology` names."""
    return described(spec)
