"""What the simulation refuses in a scenario, because it could not model it faithfully."""

from __future__ import annotations

from collections.abc import Iterator

from testbed.errors import InputError
from testbed.scenario.complaints import Complaint
from testbed.scenario.engine_checks import refused_choices, refused_faults
from testbed.scenario.model import Scenario
from testbed.scenario.network import Network
from testbed.scenario.sources import TcpSpec
from testbed.simulation.network_model import service_rates_bps

LARGEST_MESH = 300  # members; the mesh is simulated message by message, each member with the state of all others
_EMULATE = "use --engine emulation"


def check(scenario: Scenario, network: Network) -> Iterator[Complaint]:
    """Yield what cannot be simulated faithfully."""
    for index, source in enumerate(scenario.traffic):
        if isinstance(source, TcpSpec):
            happened = "the simulation has no model of congestion control, which decides what TCP sends"
            yield Complaint(("traffic", index, "shape"), happened, _EMULATE)
    if scenario.record_packets and network.sites:
        yield Complaint(("record_packets",), "packets are not recorded across several sites", "set it to false")
    yield from refused_choices(scenario, "simulation", _EMULATE)
    yield from _faults(scenario, network)
    yield from _network(network)


def _faults(scenario: Scenario, network: Network) -> Iterator[Complaint]:
    nodes = len(network.nodes)
    if scenario.unsteady and nodes > LARGEST_MESH and not scenario.mesh.gossips:
        happened = f"with {nodes} nodes; the mesh, which detects them, is simulated only up to {LARGEST_MESH} nodes"
        yield Complaint(("faults",), happened, "use fewer nodes, or mesh.dissemination: gossip")
    yield from refused_faults(scenario, "simulation", _EMULATE)
    limited = [link.name for link in network.trunks if link.rate_bps]
    for index, fault in enumerate(scenario.faults):
        if fault.hits_between and network.sites:
            yield Complaint(("faults", index, fault.key), f"{fault.link} is a link between sites", "use wan_cut")
        elif fault.hits_between and limited:
            happened = f"a link between switches cannot fail while one of them has a rate ({limited[0]})"
            yield Complaint(("faults", index, fault.key), happened, "remove the rates of topology.links")


def _network(network: Network) -> Iterator[Complaint]:
    if not network.nodes or not network.clients:
        yield Complaint(("topology",), "it has no nodes or no clients", "describe at least one of each")
        return
    try:
        service_rates_bps(network)
    except InputError as error:
        yield Complaint(("topology",), error.happened, error.remedy)
