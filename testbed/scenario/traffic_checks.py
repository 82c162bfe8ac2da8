"""Whether the traffic sources of a scenario fit its topology and each other: what no source can see alone.

A flow is a UDP source port of its client, and no client uses a port twice (``traffic/plan.py``).
"""

from __future__ import annotations

from collections.abc import Iterator

from testbed.scenario import complaints
from testbed.scenario.complaints import Complaint
from testbed.scenario.document import KeyPath
from testbed.scenario.model import Scenario
from testbed.scenario.sources import SourceSpec
from testbed.scenario.tables import described

FIRST_SRC_PORT = 10_000
LAST_SRC_PORT = 65_535


def traffic_checks(scenario: Scenario) -> Iterator[Complaint]:
    """Yield clients that there are not, names used twice, and more flows than a client has ports."""
    clients = [client.name for client in described(scenario.topology).clients]
    known = clients[0] if len(clients) == 1 else f"{clients[0]} to {clients[-1]}"
    there, first_use = set(clients), dict[str, int]()
    for index, source in enumerate(scenario.traffic):
        at: KeyPath = ("traffic", index)
        if source.client not in there:
            name = complaints.shown(source.client)
            yield Complaint((*at, "from"), f"there is no client {name}", f"the topology has {known}")
        if source.name in first_use:
            earlier = f"traffic.{first_use[source.name]}"
            yield Complaint((*at, "name"), f"'{source.name}' is also the name of {earlier}", "use unique names")
        first_use.setdefault(source.name, index)
    yield from _port_checks(scenario)


def _port_checks(scenario: Scenario) -> Iterator[Complaint]:
    ports, flows = LAST_SRC_PORT - FIRST_SRC_PORT + 1, dict[str, int]()
    for index, source in enumerate(scenario.traffic):
        if not isinstance(source, SourceSpec):
            continue
        before = flows.get(source.client, 0)
        flows[source.client] = before + source.flows
        if before <= ports < flows[source.client]:
            happened = f"with it {source.client} has {flows[source.client]:,} flows, but {ports:,} source ports"
            yield Complaint(("traffic", index, "flows"), happened, "use fewer flows or more clients")
