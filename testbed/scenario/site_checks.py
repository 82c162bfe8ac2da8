"""Whether what a scenario says of sites fits its topology: what no entry can see alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from testbed import units
from testbed.scenario import complaints
from testbed.scenario.complaints import Complaint
from testbed.scenario.fault import FaultSpec
from testbed.scenario.model import Scenario
from testbed.scenario.placement import PlacementSpec
from testbed.scenario.tables import described

_OF_ONE_CLUSTER = {
    "partition": ("it divides one mesh, and each site has its own", "use wan_cut"),
    "kill": ("each site has a controller, and none is named", "use site_loss"),
}


def site_checks(scenario: Scenario) -> Iterator[Complaint]:
    """Yield faults of sites that there are not, and what several sites cannot have."""
    sites = tuple(scenario.topology.site_sizes)
    if not sites:
        yield from _without_sites(scenario)
        return
    trunks = {link.name for link in described(scenario.topology).trunks}
    for index, fault in enumerate(scenario.faults):
        yield from _fault(fault, index, sites, trunks)
    yield from _overlaps(scenario)
    for index, source in enumerate(scenario.traffic):
        if source in scenario.tcp:
            yield Complaint(("traffic", index, "shape"), "TCP sources have no site", "use only planned packets")
    if scenario.placement.sync_interval_ns > scenario.duration_ns:
        every = units.duration_text(scenario.placement.sync_interval_ns)
        happened = f"{every} is longer than the duration: no site would ever report"
        yield Complaint(("placement", "sync_interval"), happened, "shorten it")


def _without_sites(scenario: Scenario) -> Iterator[Complaint]:
    for index, fault in enumerate(scenario.faults):
        if fault.row.target in ("site", "wan"):
            happened = f"family {scenario.topology.family} has no sites"
            yield Complaint(("faults", index, fault.kind), happened, "use family: multi-site")
    if scenario.placement != PlacementSpec.model_validate({}):  # a resolved scenario names all defaults
        happened = f"family {scenario.topology.family} has no sites to place flows at"
        yield Complaint(("placement",), happened, "remove it, or use family: multi-site")


def _fault(fault: FaultSpec, index: int, sites: tuple[str, ...], trunks: set[str]) -> Iterator[Complaint]:
    at = ("faults", index, fault.kind)
    if fault.site and fault.site not in sites:
        yield Complaint(at, f"there is no site {complaints.shown(fault.site)}", f"the sites are {', '.join(sites)}")
    if fault.row.target == "wan" and fault.target not in trunks:
        a, b = sites[:2]
        yield Complaint(at, f"there is no WAN link {complaints.shown(fault.target)}", f"write it as {a}-{b}")
    if fault.row.act in _OF_ONE_CLUSTER:
        happened, remedy = _OF_ONE_CLUSTER[fault.row.act]
        yield Complaint(at, happened, remedy)


def _overlaps(scenario: Scenario) -> Iterator[Complaint]:
    """Yield faults of a site, its nodes or a WAN link that begin while another one lasts there."""
    site_of = {node.name: node.site for node in described(scenario.topology).nodes}
    over_ns: dict[str, float] = {}  # of sites, WAN links, and nodes that crashed
    for index, fault in sorted(enumerate(scenario.faults), key=lambda entry: (entry[1].at_ns, entry[0])):
        if fault.row.heals == "crash":
            over_ns[fault.node] = fault.at_ns
        busy = next((place for place in _places(fault, site_of) if fault.at_ns < over_ns.get(place, -1)), None)
        if busy is not None:
            remedy = "give a time after it, or end the earlier fault before"
            yield Complaint(("faults", index, fault.kind), f"another fault of {busy} lasts at that time", remedy)
        elif fault.row.target in ("site", "wan") or fault.row.ends_processes:
            over_ns[fault.target] = float("inf") if fault.for_ns is None else fault.at_ns + fault.for_ns


def _places(fault: FaultSpec, site_of: Mapping[str, str]) -> Iterator[str]:
    """Yield the places where no other fault may last when a fault begins."""
    if fault.row.target == "wan":
        yield fault.target
    elif fault.site:
        yield fault.site
        yield from (node for node, site in site_of.items() if site == fault.site)
    elif fault.row.ends_processes or fault.row.order:
        yield site_of.get(fault.node, "")
