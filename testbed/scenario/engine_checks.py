"""What the rows of the tables say that an engine cannot carry out; each engine asks before it begins."""

from __future__ import annotations

from collections.abc import Iterator

from testbed.scenario.complaints import Complaint
from testbed.scenario.model import Scenario
from testbed.scenario.tables import BALANCER_POLICIES, BUFFER_POLICIES, TOPOLOGIES


def refused_choices(scenario: Scenario, engine: str, remedy: str) -> Iterator[Complaint]:
    """Yield the policies and the family of a scenario that `engine` refuses; `remedy` names another engine."""
    chosen = (
        (("topology", "family"), TOPOLOGIES[scenario.topology.family], "family"),
        (("buffer", "policy"), BUFFER_POLICIES[scenario.buffer.policy], "policy"),
        (("balancer", "policy"), BALANCER_POLICIES[scenario.balancer.policy], "policy"),
    )
    for path, row, what in chosen:
        if engine in row.refused_by:
            yield Complaint(path, row.refused_by[engine], f"{remedy} or another {what}")
