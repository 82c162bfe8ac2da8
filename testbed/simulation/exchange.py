"""What the sites exchange in virtual time, and what is decided by it at the edges of the regions.

    every sync interval:  each site ─ SiteReport ─ delay of the WAN ─▶ each other site
                          each region: SitesHeard ─▶ placement ─ SetSites ─ flow_mod_ns later ─▶ edge
                                       SitesHeard ─▶ travel ─ DemandExpected ─▶ orchestrator, next report

A lost site reports nothing, and its region goes on by the reports of the others.  A cut link of the WAN loses reports.
A policy that knows the plan gets all reports at once, and the demand that is planned for the next interval.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from testbed.policies.placement import PLACEMENT, Place, PlacementPolicy, make_placement
from testbed.policies.travel import TRAVEL, TravelForecast
from testbed.records.events import DemandExpected, Ints, SetSites, SitesHeard
from testbed.scenario.model import Scenario
from testbed.scenario.network import Network
from testbed.scenario.sources import HEADER_BYTES
from testbed.scenario.tables import PLACEMENT_POLICIES
from testbed.simulation.agenda import Agenda
from testbed.simulation.assembly import Assembly
from testbed.simulation.history import History
from testbed.simulation.network_model import NetworkModel
from testbed.simulation.packet_plane import PacketPlane
from testbed.simulation.sites_forwarding import SitesForwarding
from testbed.units import NS_PER_S
from testbed.wire.sealing import SEAL_BYTES
from testbed.wire.site_report import SiteReport, decode, encode

Planned = Callable[[int, int], int]


@dataclass(slots=True)
class Region:
    """A region: its policies, and the last report of each site that has reached it."""

    site: str
    row: int
    placement: PlacementPolicy
    travel: TravelForecast
    history: History
    reports: dict[str, SiteReport] = field(default_factory=dict)
    expected_bps: int = 0


def make_regions(
    scenario: Scenario, network: Network, delay_ns: Ints, histories: Sequence[History]
) -> tuple[Region, ...]:
    """Return the regions of all sites, with fresh policies."""
    return tuple(
        Region(site, row, *region_policies(scenario, network, delay_ns, row), history)
        for row, (site, history) in enumerate(zip(network.sites, histories, strict=True))
    )


def region_policies(
    scenario: Scenario, network: Network, delay_ns: Ints, row: int
) -> tuple[PlacementPolicy, TravelForecast]:
    """Return the policies of the region with number `row`, as a replay makes them, too."""
    sites, spec = network.sites, scenario.placement
    at_start = [node for node in network.nodes if not node.spare]
    capacity = [sum(network.node_rate_bps(node.name) for node in at_start if node.site == site) for site in sites]
    place = Place(sites, row, delay_ns, np.array(capacity, dtype=np.int64))
    horizon_ns = scenario.autoscaler.horizon_ns + scenario.autoscaler.period_ns
    return make_placement(spec, place), TravelForecast(spec, sites, row, horizon_ns)


class Exchange:
    """Reports, and what follows from them.

    Args:
        scenario: says what is shared, and how often.
        regions, clusters: of all sites, in order.
        planned: the planned demand of each region between two times, for a policy that knows the plan.

    Attributes:
        sites: by name.
        sent_bytes: of all reports so far.
    """

    def __init__(
        self,
        scenario: Scenario,
        regions: tuple[Region, ...],
        clusters: tuple[Assembly, ...],
        plane: PacketPlane,
        forwarding: SitesForwarding,
        delay_ns: Ints,
        agenda: Agenda,
        model: NetworkModel,
        planned: Sequence[Planned] = (),
    ) -> None:
        self.sites = tuple(region.site for region in regions)
        self.sent_bytes = 0
        self._spec, self._regions, self._clusters = scenario.placement, regions, clusters
        self._plane, self._forwarding, self._agenda, self._model = plane, forwarding, agenda, model
        self._planned = planned
        instant = PLACEMENT_POLICIES[scenario.placement.policy].reads_plan
        self._delay_ns = np.zeros_like(delay_ns) if instant else delay_ns + model.message_ns
        self._lost: set[str] = set()
        self._arrived = np.zeros(len(regions), dtype=np.int64)  # bytes at each site, when it was looked at last
        self._sent = np.zeros((len(regions), len(regions)), dtype=np.int64)  # likewise, from each region to each site
        self._ended = False
        agenda.after(self._spec.sync_interval_ns, self._sync)

    @property
    def wan_bytes(self) -> int:
        """Return the bytes of planned packets that were sent over the WAN so far."""
        sent = self._forwarding.sent_bytes
        return int(sent.sum() - np.trace(sent))

    def end(self) -> None:
        """Exchange nothing more: the traffic is over."""
        self._ended = True

    def lose(self, site: str) -> None:
        """Let a site report nothing, and no node of it start."""
        self._lost.add(site)
        self._set_lost(site, lost=True)

    def regain(self, site: str) -> None:
        """Let a site report again."""
        self._lost.discard(site)
        self._set_lost(site, lost=False)

    def _set_lost(self, site: str, *, lost: bool) -> None:
        cluster = self._clusters[self.sites.index(site)].cluster
        assert cluster is not None
        cluster.lost = lost

    def cut(self, link: str, *, apart: bool) -> None:
        """Let nothing pass between two sites, or let it pass again."""
        a, b = (self.sites.index(site) for site in link.split("-"))
        self._plane.advance(self._agenda.now_ns)
        self._forwarding.cut[a, b] = self._forwarding.cut[b, a] = apart

    def _sync(self) -> None:
        if self._ended:
            return
        self._plane.advance(self._agenda.now_ns)
        sent = self._forwarding.sent_bytes - self._sent
        self._sent = self._forwarding.sent_bytes.copy()
        rates = sent * 8 * NS_PER_S // self._spec.sync_interval_ns
        self._report(rates.sum(axis=1))
        for region in self._regions:
            self._decide(region, rates[region.row])
        self._agenda.after(self._spec.sync_interval_ns, self._sync)

    # ------------------------------------------------------------------------------------------------------- reports

    def _report(self, demand_bps: Ints) -> None:
        for region, cluster in zip(self._regions, self._clusters, strict=True):
            report = self._taken(region, cluster, int(demand_bps[region.row]))
            if region.site in self._lost:
                continue
            region.reports[region.site] = report
            body = encode(report, self._spec.share)
            for other in self._regions:
                if other is not region:
                    self._send(region, other, body)

    def _taken(self, region: Region, cluster: Assembly, demand_bps: int) -> SiteReport:
        """Return what a site says of itself now."""
        arrived = sum(seen[1] for seen in cluster.plane.looks().values())
        came, self._arrived[region.row] = arrived - int(self._arrived[region.row]), arrived
        return SiteReport(
            site=region.site,
            taken_ns=self._agenda.now_ns,
            capacity_bps=cluster.control.serving_bps,
            load_bps=came * 8 * NS_PER_S // self._spec.sync_interval_ns,
            demand_bps=demand_bps,
            expected_bps=region.expected_bps,
        )

    def _send(self, sender: Region, to: Region, body: bytes) -> None:
        self.sent_bytes += len(body) + SEAL_BYTES + HEADER_BYTES
        if not self._forwarding.cut[sender.row, to.row]:
            self._agenda.after(int(self._delay_ns[sender.row, to.row]), partial(self._hear, to, body))

    def _hear(self, region: Region, body: bytes) -> None:
        report = decode(body)
        region.reports[report.site] = report

    # ----------------------------------------------------------------------------------------------------- decisions

    def _decide(self, region: Region, sent_bps: Ints) -> None:
        heard = self._heard(region, sent_bps)
        for action in region.history.feed(PLACEMENT, region.placement, heard):
            assert isinstance(action, SetSites)
            self._agenda.after(self._model.flow_mod_ns, partial(self._set_sites, region, action))
        for action in region.history.feed(TRAVEL, region.travel, heard):
            assert isinstance(action, DemandExpected)
            region.expected_bps = action.expected_bps
            if region.site not in self._lost:
                self._clusters[region.row].expect(action)

    def _heard(self, region: Region, sent_bps: Ints) -> SitesHeard:
        now_ns = self._agenda.now_ns
        nothing = SiteReport("", now_ns + 1)
        reports = [region.reports.get(site, nothing) for site in self.sites]
        ahead = now_ns + self._spec.sync_interval_ns
        planned = [planned(now_ns, ahead) for planned in self._planned] or [0] * len(self.sites)
        columns = np.array([report[1:] for report in reports], dtype=np.int64).T
        return SitesHeard(
            sites=self.sites,
            age_ns=now_ns - columns[0],
            capacity_bps=columns[1],
            load_bps=columns[2],
            demand_bps=columns[3],
            expected_bps=columns[4],
            sent_bps=sent_bps,
            planned_bps=np.array(planned, dtype=np.int64),
        )

    def _set_sites(self, region: Region, action: SetSites) -> None:
        self._plane.advance(self._agenda.now_ns)
        table = np.array([self.sites.index(site) for site in action.slots], dtype=np.int64)
        lost = np.array([site in action.lost for site in self.sites], dtype=bool)
        self._forwarding.edges.set_sites(region.row, table, lost)
