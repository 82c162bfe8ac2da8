"""Whether the bounds of the autoscaler fit the cluster: what neither of the two can see alone."""

from __future__ import annotations

from collections.abc import Iterator

from testbed.scenario.complaints import Complaint
from testbed.scenario.model import Scenario
from testbed.scenario.tables import TOPOLOGIES


def autoscaler_checks(scenario: Scenario) -> Iterator[Complaint]:
    """Yield bounds that exclude each other, and what a cluster that changes cannot have beside it."""
    spec, topology = scenario.autoscaler, scenario.topology
    if spec.min_nodes > spec.max_nodes:
        happened = f"it is more than autoscaler.max ({spec.max_nodes})"
        yield Complaint(("autoscaler", "min"), happened, "raise max or lower min")
    elif topology.site_sizes:
        yield from _sites(scenario)
    elif spec.scales and not spec.min_nodes <= topology.nodes <= spec.max_nodes:
        within = f"{spec.min_nodes} to {spec.max_nodes}"
        happened = f"{topology.nodes} nodes at the start are not within autoscaler.min and max ({within})"
        yield Complaint(("topology", "nodes"), happened, "change one of the three")
    if scenario.reshapes:
        yield from _companions(scenario)


def _sites(scenario: Scenario) -> Iterator[Complaint]:
    """Yield sites that begin outside of the bounds, which are those of each site."""
    spec = scenario.autoscaler
    for site, (nodes, _) in scenario.topology.site_sizes.items():
        if spec.scales and not spec.min_nodes <= nodes <= spec.max_nodes:
            within = f"{spec.min_nodes} to {spec.max_nodes}"
            happened = f"{site} begins with {nodes} nodes, not within autoscaler.min and max ({within})"
            yield Complaint(("topology", "options", "sites", site), happened, "change one of the three")


def _companions(scenario: Scenario) -> Iterator[Complaint]:
    """Yield what a cluster whose nodes come and go cannot be combined with."""
    if "spare" not in TOPOLOGIES[scenario.topology.family].keys:
        happened = f"nodes of family {scenario.topology.family} can be neither added nor drained"
        yield Complaint(("topology", "family"), happened, "use family: cluster")
    if scenario.topology.node_rates is not None:
        happened = "a node that may be added has no rate in this list"
        yield Complaint(("topology", "node_rates"), happened, "use node_rate, or do not add or drain nodes")
    if scenario.buffer.deflect:
        happened = "deflection does not support nodes that are added or drained"
        yield Complaint(("buffer", "deflect"), happened, "remove it, or do not add or drain nodes")
    for index, source in enumerate(scenario.traffic):
        if source in scenario.tcp:
            happened = "its connections last for the whole run, but would break when their node is drained"
            yield Complaint(("traffic", index, "shape"), happened, "use only sources of planned packets")
