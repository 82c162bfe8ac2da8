"""Whether what a scenario says of links fits its network: what no entry can see alone."""

from __future__ import annotations

from collections.abc import Iterator

from testbed.scenario import complaints
from testbed.scenario.complaints import Complaint
from testbed.scenario.link_spec import named
from testbed.scenario.model import Scenario
from testbed.scenario.network import Network
from testbed.scenario.tables import described

_MOST_NAMED = 4


def topology_checks(scenario: Scenario) -> Iterator[Complaint]:
    """Yield entries of `topology.links` that name no link, or limit one that cannot be."""
    network = described(scenario.topology)
    yield from _deflection(scenario, network)
    trunks = {link.name for link in network.trunks}
    for pattern, spec in scenario.topology.links.items():
        at, found = ("topology", "links", pattern), [link.name for link in named(network, pattern)]
        if not found:
            yield Complaint(at, f"there is no link {complaints.shown(pattern)}", _near(pattern, network))
        elif spec.rate_bps is not None and (others := [name for name in found if name not in trunks]):
            happened = f"{others[0]} is not a link between switches, and only such links have a rate"
            yield Complaint((*at, "rate"), happened, "the rate of nodes is topology.node_rate")


def _deflection(scenario: Scenario, network: Network) -> Iterator[Complaint]:
    """Yield why full nodes cannot hand packets on: it takes one switch, and links without a delay."""
    if not scenario.buffer.deflect:
        return
    if network.trunks:
        happened = "deflection does not work across several switches"
        yield Complaint(("buffer", "deflect"), happened, "use a family with one switch")
    elif any(spec.delay_ns for spec in scenario.topology.links.values()):
        yield Complaint(("topology", "links"), "not with buffer.deflect: a deflected packet would skip the delay")


def _near(pattern: str, network: Network) -> str:
    names = [link.name for link in named(network, "*")]
    few = ", ".join(names[:_MOST_NAMED])
    return complaints.nearest(pattern, names) or f"there are {few}{', …' if len(names) > _MOST_NAMED else ''}"
