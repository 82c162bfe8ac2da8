"""What the emulation refuses in a scenario: what the kernel cannot do on any machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from testbed.scenario.complaints import Complaint
from testbed.scenario.engine_checks import refused_choices, refused_faults
from testbed.scenario.model import Scenario
from testbed.scenario.network import Network
from testbed.units import rate_text

# The kernel's token bucket counts bytes a second in 32 bits, and the time to fill it, too.
_SIMULATE = "use --engine simulation"
LONGEST_INTERFACE_NAME = 15  # IFNAMSIZ, with its end
SMALLEST_RATE_BPS, LARGEST_RATE_BPS = 1_000, 34 * 10**9


def _interface_names(network: Network) -> Iterator[Complaint]:
    """Yield the first interface whose name the kernel would not take: hosts are named by the family of the topology."""
    counts = Counter(end for link in network.links for end in (link.a, link.b))
    hosts = {host.name for host in network.hosts}  # their interfaces count from 0, the ports of switches from 1
    names = (f"{end}-eth{count - (end in hosts)}" for end, count in counts.items())  # the last of each is the longest
    for name in names:
        if len(name.encode()) > LONGEST_INTERFACE_NAME:
            happened = (
                f"an interface would be named {name}, but the kernel allows at most {LONGEST_INTERFACE_NAME} bytes"
            )
            yield Complaint(("topology", "family"), happened, f"give its hosts shorter names, or {_SIMULATE}")
            return


def check(scenario: Scenario, network: Network) -> Iterator[Complaint]:
    """Yield what cannot be emulated."""
    yield from refused_choices(scenario, "emulation", _SIMULATE)
    yield from refused_faults(scenario, "emulation", _SIMULATE)
    if scenario.topology.switch_ports == "afxdp":
        yield from _link_faults(scenario)
    yield from _interface_names(network)
    if scenario.mesh.gossips:
        happened = "the emulation does not implement gossip"
        yield Complaint(("mesh", "dissemination"), happened, f"use full, or {_SIMULATE}")
    yield from _links(scenario, network)
    for rate_bps in {link.rate_bps for link in network.links if link.rate_bps}:
        if not SMALLEST_RATE_BPS <= rate_bps <= LARGEST_RATE_BPS:
            within = f"{rate_text(SMALLEST_RATE_BPS)} to {rate_text(LARGEST_RATE_BPS)}"
            happened = f"{rate_text(rate_bps)} is outside the range of the kernel's token bucket, {within}"
            key = "node_rate" if scenario.topology.node_rates is None else "node_rates"
            yield Complaint(("topology", key), happened, f"change it, or {_SIMULATE}")


def _links(scenario: Scenario, network: Network) -> Iterator[Complaint]:
    """Yield what links between switches cannot have, whether the scenario says it of them or their family does."""
    happened = "the rate of a link between switches is not emulated"
    limiting = [pattern for pattern, spec in scenario.topology.links.items() if spec.rate_bps is not None]
    for pattern in limiting:
        yield Complaint(("topology", "links", pattern, "rate"), happened, _SIMULATE)
    limited = [link.name for link in network.trunks if link.rate_bps is not None]
    if limited and not limiting:
        yield Complaint(("topology", "family"), f"{happened}, but {limited[0]} has one", _SIMULATE)


def _link_faults(scenario: Scenario) -> Iterator[Complaint]:
    """Yield the faults that AF_XDP ports exclude."""
    for index, fault in enumerate(scenario.faults):
        if fault.row.takes_link_down:
            happened = "packets that are lost at a link that is down can be counted only at packet sockets"
            yield Complaint(("faults", index, fault.key), happened, "set topology.switch_ports to auto or packet")
