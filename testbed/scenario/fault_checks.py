"""Whether the faults of a scenario have a target, in a state they can change: what no fault can see alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from testbed.scenario import complaints
from testbed.scenario.complaints import Complaint
from testbed.scenario.document import KeyPath
from testbed.scenario.fault import FaultSpec
from testbed.scenario.fault_timeline import astray, turns_of
from testbed.scenario.model import Scenario
from testbed.scenario.network import Network
from testbed.scenario.tables import described

MAX_TURNS = 100_000


def fault_checks(scenario: Scenario) -> Iterator[Complaint]:
    """Yield faults whose time or target does not exist, or is in no state they can change."""
    if not scenario.faults:
        return
    network = described(scenario.topology)
    nodes = [node.name for node in network.nodes]
    most = scenario.autoscaler.max_nodes
    adrift = set()  # faults that miss their target: what state it is in is no question
    for index, fault in enumerate(scenario.faults):
        at: KeyPath = ("faults", index)
        for complaint in (*_own_checks(fault, at, scenario), *_target_checks(fault, at, network, nodes, most)):
            adrift.add(index)
            yield complaint
    absent = [node.name for node in network.nodes if node.spare]
    for index, state in astray(scenario.faults, absent):
        row = scenario.faults[index].row
        remedy = f"give a time after the {row.heals}" if row.heals else "end the earlier fault before"
        if index not in adrift:
            yield Complaint(("faults", index, row.key), state, remedy)
    yield from _kill_checks(scenario)
    yield from _last_node_checks(scenario, nodes, absent)
    turns = sum(turns_of(fault) for fault in scenario.faults)
    if turns > MAX_TURNS:
        yield Complaint(("faults",), f"links flap {turns:,} times; the maximum is {MAX_TURNS:,}", "use a longer period")


def _own_checks(fault: FaultSpec, at: KeyPath, scenario: Scenario) -> Iterator[Complaint]:
    """Yield what is wrong with one fault beside its target."""
    if fault.at_ns >= scenario.duration_ns:
        yield Complaint((*at, "at"), "it is after the end of the run", "give a time before the end")


def _target_checks(
    fault: FaultSpec, at: KeyPath, network: Network, nodes: Sequence[str], most_nodes: int
) -> Iterator[Complaint]:
    """Yield what is wrong with the target of one fault."""
    row = fault.row
    if fault.hits_between:
        if not (row.between or row.between_of):
            happened = f"{fault.link} is a link between switches, but {row.key} applies to links of nodes only"
            yield Complaint((*at, row.key), happened, f"such as {network.link_name(nodes[0])}")
    elif fault.link and set(fault.link.split("-")) <= set(network.data_switches):
        near = complaints.nearest(fault.link, [link.name for link in network.trunks])
        happened = f"no link between switches is named {complaints.shown(fault.link)}"
        yield Complaint((*at, row.key), happened, near or f"such as {network.link_name(nodes[0])}")
    elif fault.link and not _may_be_link(fault.link, fault.node, network, nodes):
        name, written = complaints.shown(fault.link), network.link_name(nodes[min(1, len(nodes) - 1)])
        yield Complaint((*at, row.key), f"there is no link {name} to a node", f"write it as {written}")
    elif row.target in ("node", "link") and fault.node not in nodes:
        remedy = f"autoscaler.max is {most_nodes}" if fault.kind == "add" else _known(nodes)
        yield Complaint((*at, row.key), f"there is no node {complaints.shown(fault.node)}", remedy)
    if row.target == "groups":
        yield from _group_checks(fault.groups, (*at, row.key), nodes)


def _may_be_link(link: str, node: str, network: Network, nodes: Sequence[str]) -> bool:
    """Return whether it is the link of a node, or would be if there were such a node."""
    return link == network.link_name(node) if node in nodes else link.rpartition("-")[0] in network.data_switches


def _known(nodes: Sequence[str]) -> str:
    return f"there is {nodes[0]}" if len(nodes) == 1 else f"there are {nodes[0]} to {nodes[-1]}"


def _kill_checks(scenario: Scenario) -> Iterator[Complaint]:
    """Yield kills that find no controller alive."""
    alive = 2 if scenario.controller.standby else 1
    aimed = [(index, fault) for index, fault in enumerate(scenario.faults) if fault.row.target == "controllers"]
    for _, index, kind, target in sorted((fault.at_ns, index, fault.kind, fault.target) for index, fault in aimed):
        if not alive:
            yield Complaint(
                ("faults", index, kind), "no controller is left at that time", "add controller: {standby: true}"
            )
        alive = 0 if target == "controllers" else max(0, alive - 1)


def _last_node_checks(scenario: Scenario, nodes: Sequence[str], absent: Sequence[str]) -> Iterator[Complaint]:
    """Yield drains that would leave no node in service."""
    serving = set(nodes) - set(absent)
    given = [(fault.at_ns, index, fault) for index, fault in enumerate(scenario.faults) if fault.row.order]
    for _, index, fault in sorted(given, key=lambda entry: entry[:2]):
        kind, node = fault.kind, fault.node
        serving ^= {node} & (serving if kind == "drain" else set(nodes) - serving)
        if not serving:
            yield Complaint(("faults", index, kind), "no node would be in service", "add another node earlier")
            return


def _group_checks(groups: Sequence[Sequence[str]], at: KeyPath, nodes: Sequence[str]) -> Iterator[Complaint]:
    named = [node for group in groups for node in group]
    if len(named) != len(nodes) or set(named) != set(nodes):
        yield Complaint(at, "the groups do not contain every node exactly once", _known(nodes))
    elif len(groups) < 2 or not all(groups):
        yield Complaint(at, "it does not divide the nodes", "give at least two groups, none empty")
