"""What the rows of the tables say that an engine cannot carry out; each engine asks before it begins."""

from __future__ import annotations

from collections.abc import Iterator

from testbed.records.engines import EMULATION, ENGINES
from testbed.scenario.complaints import Complaint
from testbed.scenario.document import KeyPath
from testbed.scenario.model import Scenario
from testbed.scenario.sources import OwnShapeSpec
from testbed.scenario.tables import BALANCER_POLICIES, BUFFER_POLICIES, TOPOLOGIES, TRAFFIC_SHAPES, Traits


def usual_engine(scenario: Scenario) -> str:
    """Return the engine that a scenario is meant for: the first that has its topology."""
    refused_by = TOPOLOGIES[scenario.topology.family].refused_by
    return next((name for name in ENGINES if name not in refused_by), EMULATION)


def refused_choices(scenario: Scenario, engine: str, remedy: str) -> Iterator[Complaint]:
    """Yield the policies and the family of a scenario that `engine` refuses; `remedy` names another engine."""
    chosen: tuple[tuple[KeyPath, Traits, str], ...] = (
        (("topology", "family"), TOPOLOGIES[scenario.topology.family], "family"),
        (("buffer", "policy"), BUFFER_POLICIES[scenario.buffer.policy], "policy"),
        (("balancer", "policy"), BALANCER_POLICIES[scenario.balancer.policy], "policy"),
    )
    shapes = (
        (("traffic", index, "shape"), TRAFFIC_SHAPES[source.shape], "shape")
        for index, source in enumerate(scenario.traffic)
        if isinstance(source, OwnShapeSpec)
    )
    for path, row, what in (*chosen, *shapes):
        if engine in row.refused_by:
            yield Complaint(path, row.refused_by[engine], f"{remedy} or another {what}")


def refused_faults(scenario: Scenario, engine: str, remedy: str) -> Iterator[Complaint]:
    """Yield the faults of a scenario that `engine` refuses."""
    for index, fault in enumerate(scenario.faults):
        if engine in fault.row.refused_by:
            yield Complaint(("faults", index, fault.key), fault.row.refused_by[engine], remedy)
        if scenario.buffer.deflect and engine in fault.row.refused_deflecting:
            happened = f"with buffer.deflect: {fault.row.refused_deflecting[engine]}"
            yield Complaint(("faults", index, fault.key), happened, remedy)
