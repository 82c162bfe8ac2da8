"""What became of the packets of each region: delays, and which site served how much of them."""

from __future__ import annotations

import numpy as np

from testbed.records.events import Ints
from testbed.records.evidence import RegionEvidence
from testbed.records.histogram import Histogram
from testbed.scenario.network import Network
from testbed.simulation.delays import DelayCounts
from testbed.traffic.plan import PacketPlan


def region_of_flows(network: Network, plan: PacketPlan) -> Ints:
    """Return the row of the region of each flow, int64 [f]; regions have the order of the sites."""
    sites = network.sites
    of_client = np.array([sites.index(network.host(client).site) for client in plan.clients], dtype=np.int64)
    found: Ints = of_client[plan.flows.client]
    return found


class RegionCounts:
    """Counts of all regions of a network with sites."""

    def __init__(self, network: Network, plan: PacketPlan) -> None:
        self._sites, self._plan = network.sites, plan
        self._site_of: Ints = np.array([self._sites.index(node.site) for node in network.nodes], dtype=np.int64)
        self._region_of = region_of_flows(network, plan)
        self._delays = DelayCounts(len(self._sites))
        self._bytes = np.zeros((len(self._sites), len(self._sites)), dtype=np.int64)

    def add(self, node: Ints, delay_ns: Ints, number: Ints) -> None:
        """Take in packets that were delivered behind `node`, by their numbers in the plan."""
        region, count = self._region_of[self._plan.flow[number]], len(self._sites)
        self._delays.add(region, delay_ns)
        pairs = region * count + self._site_of[node]
        self._bytes += (
            np.bincount(pairs, self._plan.size_bytes[number], count * count).astype(np.int64).reshape(count, -1)
        )

    def evidence(self, sent: int) -> tuple[RegionEvidence, ...]:
        """Return the counts, given that the plan was sent up to row `sent`."""
        sent_pkts = np.bincount(self._region_of[self._plan.flow[:sent]], minlength=len(self._sites)).tolist()
        delays = [self._delays.histogram(row) for row in range(len(self._sites))]
        rows = zip(self._sites, sent_pkts, delays, self._bytes.tolist(), strict=True)
        return tuple(_evidence(region, sent, delay, by_site) for region, sent, delay, by_site in rows)


def _evidence(region: str, sent_pkts: int, delay: Histogram, by_site: list[int]) -> RegionEvidence:
    return RegionEvidence(region, sent_pkts, int(delay.total), tuple(by_site), delay)
