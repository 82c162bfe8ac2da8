"""Whether the faults of a scenario have a target, in a state they can change: what no fault can see alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from testbed.scenario import complaints
from testbed.scenario.complaints import Complaint
from testbed.scenario.document import KeyPath
from testbed.scenario.fault import HEALS, FaultSpec
from testbed.scenario.fault_timeline import astray, turns_of
from testbed.scenario.model import Scenario

MAX_TURNS = 100_000


def fault_checks(scenario: Scenario) -> Iterator[Complaint]:
    """Yield faults whose time or target does not exist, or is in no state they can change."""
    nodes = {f"n{number}": None for number in range(1, scenario.topology.all_nodes + 1)}
    adrift = set()  # faults that miss their target: what state it is in is no question
    for index, fault in enumerate(scenario.faults):
        for complaint in _own_checks(fault, ("faults", index), nodes, scenario):
            adrift.add(index)
            yield complaint
    for index, state in astray(scenario.faults):
        kind = scenario.faults[index].kind
        remedy = f"give it after the {HEALS[kind]}" if kind in HEALS else "let it heal before"
        if index not in adrift:
            yield Complaint(("faults", index, kind), state, remedy)
    yield from _kill_checks(scenario)
    turns = sum(turns_of(fault) for fault in scenario.faults)
    if turns > MAX_TURNS:
        yield Complaint(("faults",), f"links flap {turns:,} times; {MAX_TURNS:,} at most", "lengthen their period")


def _own_checks(fault: FaultSpec, at: KeyPath, nodes: Mapping[str, None], scenario: Scenario) -> Iterator[Complaint]:
    """Yield what is wrong with one fault."""
    kind = fault.kind
    if fault.at_ns >= scenario.duration_ns:
        yield Complaint((*at, "at"), "it is not within the duration", "give a time before the end")
    if fault.link is not None and not fault.link.startswith("s1-"):
        name = complaints.shown(fault.link)
        yield Complaint((*at, kind), f"there is no link {name} to a node", "write it as s1-n2")
    elif fault.hits_a_node and fault.node not in nodes:
        yield Complaint((*at, kind), f"there is no node {complaints.shown(fault.node)}", _known(nodes))
    if kind in ("link_down", "flap") and scenario.tcp:
        lost = "which of the packets lost on the link were planned and which TCP's could not be told"
        yield Complaint((*at, kind), lost, f"leave out the source {scenario.tcp[0].name}, or crash the node")
    yield from _partition_checks(fault, (*at, "partition"), nodes)


def _known(nodes: Mapping[str, None]) -> str:
    return "there is n1" if len(nodes) == 1 else f"there are n1 to n{len(nodes)}"


def _kill_checks(scenario: Scenario) -> Iterator[Complaint]:
    """Yield kills that find no controller alive."""
    alive = 2 if scenario.controller.standby else 1
    kills = [(fault.at_ns, index, fault.kill) for index, fault in enumerate(scenario.faults) if fault.kill]
    for _, index, target in sorted(kills):
        if not alive:
            yield Complaint(
                ("faults", index, "kill"), "no controller is left by then", "add controller: {standby: true}"
            )
        alive = 0 if target == "controllers" else max(0, alive - 1)


def _partition_checks(fault: FaultSpec, at: KeyPath, nodes: Mapping[str, None]) -> Iterator[Complaint]:
    groups = fault.partition
    if groups is None:
        return
    named = [node for group in groups for node in group]
    if len(named) != len(nodes) or set(named) != nodes.keys():
        yield Complaint(at, "the groups do not name every node once", _known(nodes))
    elif len(groups) < 2 or not all(groups):
        yield Complaint(at, "it divides nothing", "give two groups or more, none empty")
