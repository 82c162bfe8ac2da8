"""Forwarding between sites: clients ─▶ edge of their region ─ WAN ─▶ switch of a site ─▶ buffers.

    sent ─ access ─▶ edge: which site? ─ queue, delay of the WAN ─▶ balancer: which node? ─ access ─▶ arrives

What was decided at the edge is under way for as long as the WAN takes: a node that fails meanwhile is found by the
switch of its site, but a whole site that fails, and a link of the WAN that is cut, loses what is sent there until the
edge knows.  A cut link loses what would enter it; what is on it arrives.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from testbed.records.events import Ints
from testbed.records.evidence import TrunkEvidence
from testbed.scenario.model import Scenario
from testbed.scenario.network import Link, Network
from testbed.scenario.routing import BASIS_BITS
from testbed.simulation.deflection import Packets
from testbed.simulation.edges import Edges
from testbed.simulation.flow_paths import NO_LINK
from testbed.simulation.forwarding import make_switch
from testbed.simulation.journeys import QueueStage, Stage
from testbed.simulation.network_model import NetworkModel, access_delay_ns
from testbed.simulation.region_counts import region_of_flows
from testbed.simulation.switch import flow_hash
from testbed.traffic.plan import PacketPlan

_EDGE_BASIS = 0x5BD1  # edges hash otherwise than switches, or a site would see only flows that the edge hashed alike
_ZERO: Ints = np.zeros((1, 1), dtype=np.int64)


class SitesForwarding:
    """See `forwarding.Way`.

    Args:
        scenario, network, plan, model: as of the plane.
        slots: first slot table of each site, rows of its own nodes.
        tables: first table of the edge of each region.
        hash_basis: of the switches.

    Attributes:
        edges: of the regions; may be changed at any time the plane has been advanced to.
        sent_bytes: what each region has sent to each site, int64 [r, s].
        cut: which links of the WAN lose everything, [r, s].
    """

    def __init__(
        self,
        scenario: Scenario,
        network: Network,
        plan: PacketPlan,
        slots: list[Ints],
        tables: list[Ints],
        model: NetworkModel,
        *,
        hash_basis: int,
    ) -> None:
        self._sites, self._plan, count = network.sites, plan, len(network.sites)
        region = region_of_flows(network, plan)
        self._region_of = region.astype(np.int16)[plan.flow]
        hashes = flow_hash(plan.flows, plan.clients, network, hash_basis)
        edge_hashes = flow_hash(plan.flows, plan.clients, network, (hash_basis ^ _EDGE_BASIS) & BASIS_BITS)
        self.edges = Edges(edge_hashes, region, tables, scenario.balancer.affinity_idle_ns)
        clusters = [network.at_site(site) for site in self._sites]
        self.switches = tuple(
            make_switch(scenario, cluster, hashes, table) for cluster, table in zip(clusters, slots, strict=True)
        )
        self._first = np.cumsum([0, *(len(cluster.nodes) for cluster in clusters)])
        self.sent_bytes: Ints = np.zeros((count, count), dtype=np.int64)
        self.cut: NDArray[np.bool_] = np.zeros((count, count), dtype=bool)
        self._cut_pkts: Ints = np.zeros((count, count), dtype=np.int64)
        self._make_stages(network, model)

    def _make_stages(self, network: Network, model: NetworkModel) -> None:
        plan, place = self._plan, np.arange(len(self._sites))
        clients = np.array([[access_delay_ns(network, client) + model.switch_ns for client in plan.clients]])
        nodes = np.array([[access_delay_ns(network, node.name)] for node in network.nodes], dtype=np.int64)
        self._access = Stage(plan.flows.client[plan.flow], None, clients.astype(np.int64))
        taken, delay_ns = _wan(network, model)
        limited = any(link.rate_bps for link in network.trunks)
        links: list[Link] = [link for link in network.trunks for _ in link.directions]
        self._queues = [QueueStage(self._region_of, place, _ZERO, taken, links)] if limited else []
        self._wan: list[Stage] = [*self._queues, Stage(self._region_of, place, delay_ns)]
        self._last = Stage(plan.flow, np.arange(len(nodes)), nodes)
        self._trunks = network.trunks
        every = [self._access, *self._wan, self._last]
        self.behind_switch_ns = self._last.shortest_ns
        self.shortest_ns = sum(stage.shortest_ns for stage in every)
        self.longest_ns = sum(stage.longest_ns for stage in every)
        self.longest_step_ns = min(stage.longest_step_ns for stage in every)

    alike = False  # not all packets take the same time

    @property
    def under_way(self) -> bool:
        """See `Way.under_way`."""
        return any(stage.under_way for stage in (self._access, *self._wan, self._last))

    def under_way_rows(self) -> Ints:
        """See `Way.under_way_rows`."""
        return np.concatenate([stage.waiting_rows for stage in (self._access, *self._wan, self._last)])

    def bring(self, packets: Packets, until_ns: int) -> tuple[Packets, Ints]:
        """See `Way.bring`; the clock of edges and switches is `behind_switch_ns` earlier than that of the buffers."""
        here_ns = until_ns - self.behind_switch_ns
        packets = self._at_site(self._access.serve(packets, here_ns))
        packets = self._over_wan(packets, here_ns)
        packets, new_flows = self._at_node(packets)
        return self._last.serve(packets, until_ns), new_flows

    def _over_wan(self, packets: Packets, until_ns: int) -> Packets:
        """Return the packets that are at their sites by then; where none is elsewhere, the WAN is not asked."""
        stays = packets.node == self._region_of[packets.number]
        if stays.all() and not any(stage.under_way for stage in self._wan):
            for queue in self._queues:
                queue.serve(packets.only(~stays), until_ns)
            return packets
        for stage in self._wan:
            packets = stage.serve(packets, until_ns)
        return packets

    def trunk_evidence(self) -> tuple[TrunkEvidence, ...]:
        """See `Way.trunk_evidence`."""
        row = {site: number for number, site in enumerate(self._sites)}
        full = dict.fromkeys((link.name for link in self._trunks), 0)
        for stage in self._queues:
            for link, count in zip(stage.links, stage.dropped_pkts.tolist(), strict=True):
                full[link.name] += count
        cut = self._cut_pkts + self._cut_pkts.T
        return tuple(
            TrunkEvidence(link.name, 0, full[link.name] if link.rate_bps else None, int(cut[row[link.a], row[link.b]]))
            for link in self._trunks
        )

    def _at_site(self, packets: Packets) -> Packets:
        """Choose the site of packets at their edges, and lose what a cut link keeps from it."""
        if not len(packets):
            return packets
        site = self.edges.route(self._plan.flow[packets.number], packets.t_ns + self.behind_switch_ns)
        region, count = self._region_of[packets.number], len(self._sites)
        pairs = region * count + site
        sent = np.bincount(pairs, packets.size_bytes, count * count).astype(np.int64)
        self.sent_bytes += sent.reshape(count, count)
        packets = replace(packets, node=site)
        if not self.cut.any():
            return packets
        lost = self.cut[region, site]
        self._cut_pkts += np.bincount(pairs[lost], minlength=count * count).reshape(count, count)
        return packets.only(~lost)

    def _at_node(self, packets: Packets) -> tuple[Packets, Ints]:
        """Choose the node of packets at the switches of their sites."""
        node, new_flows = np.empty(len(packets), dtype=np.int64), [packets.node[:0]]
        flow, t_ns = self._plan.flow[packets.number], packets.t_ns + self.behind_switch_ns
        for site in np.unique(packets.node).tolist():
            rows = np.flatnonzero(packets.node == site)
            chosen, new = self.switches[site].route(flow[rows], t_ns[rows])
            node[rows] = chosen + self._first[site]
            new_flows.append(new + self._first[site])
        return replace(packets, node=node), np.concatenate(new_flows)


def _wan(network: Network, model: NetworkModel) -> tuple[Ints, Ints]:
    """Return the link that leads from each region to each site, and what it takes: int64 [site, region]."""
    sites = network.sites
    taken = np.full((len(sites), len(sites)), NO_LINK, dtype=np.int64)
    delay_ns = np.zeros((len(sites), len(sites)), dtype=np.int64)
    directed = ((pair, link) for link in network.trunks for pair in link.directions)
    for row, ((here, there), link) in enumerate(directed):
        at = sites.index(there), sites.index(here)
        taken[at], delay_ns[at] = row, link.delay_ns + model.hop_ns
    return taken, delay_ns


def wan_delay_ns(network: Network, model: NetworkModel) -> Ints:
    """Return the delay of the WAN between any two sites, int64 [s, s]."""
    _, delay_ns = _wan(network, model)
    transposed: Ints = delay_ns.T
    return transposed
