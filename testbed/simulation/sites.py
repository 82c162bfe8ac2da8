"""Several sites in virtual time, put together: a cluster each on a window of one plane, and the exchange between them.

sites: cluster ── window ─┐
       cluster ── window ─┼─ PacketPlane ── SitesForwarding ── edges of the regions
       cluster ── window ─┘                                     ▲
            └── reports ──▶ Exchange ── placement ──────────────┘
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cache

import numpy as np

from testbed.engine import TrialPlan, Writer
from testbed.policies.autoscaler import Ahead
from testbed.policies.membership import BALANCER
from testbed.scenario.model import Scenario
from testbed.scenario.network import Network
from testbed.scenario.routing import BASIS_BITS
from testbed.scenario.tables import AUTOSCALER_POLICIES, PLACEMENT_POLICIES
from testbed.simulation.agenda import Agenda
from testbed.simulation.assembly import Assembly, site_trial
from testbed.simulation.cluster_plane import SiteWindow
from testbed.simulation.exchange import Exchange, make_regions
from testbed.simulation.history import History
from testbed.simulation.network_model import NetworkModel
from testbed.simulation.packet_plane import PacketPlane
from testbed.simulation.region_counts import region_of_flows
from testbed.simulation.sample_rows import SampleRows
from testbed.simulation.sites_forwarding import SitesForwarding, wan_delay_ns
from testbed.traffic.plan import PacketPlan
from testbed.traffic.planned_load import ahead_of


def assembled_sites(
    trial: TrialPlan, writer: Writer, agenda: Agenda, model: NetworkModel, samples: SampleRows
) -> tuple[tuple[Assembly, ...], PacketPlane, Exchange]:
    """Return the clusters of all sites, their plane, and what they exchange."""
    scenario, network, sites = trial.scenario, trial.network, trial.network.sites
    histories = [History(writer, agenda, site) for site in sites]
    clusters = tuple(
        Assembly(site_trial(trial, site), Agenda(agenda), history, model, together=True)
        for site, history in zip(sites, histories, strict=True)
    )
    delay_ns = wan_delay_ns(network, model)
    regions = make_regions(scenario, network, delay_ns, histories)
    forwarding = SitesForwarding(
        scenario, network, trial.packets,
        [cluster.control.slots for cluster in clusters], [region.placement.table for region in regions], model,
        hash_basis=trial.seed_of(BALANCER) & BASIS_BITS,
    )  # fmt: skip
    limits = np.concatenate([cluster.limits for cluster in clusters])
    plane = PacketPlane(scenario, network, trial.packets, limits, forwarding, model)
    planned = PlannedDemand(scenario, network, lambda: trial.packets)
    first = 0
    for row, cluster in enumerate(clusters):
        window = SiteWindow(plane, forwarding.switches[row], slice(first, first + len(cluster.names)))
        cluster.connect(window, samples, lambda row=row: planned.for_scaling(row))  # type: ignore[misc]
        first += len(cluster.names)
    exchange = Exchange(
        scenario, regions, clusters, plane, forwarding, delay_ns, agenda, model, planned.for_placement()
    )
    return clusters, plane, exchange


class PlannedDemand:
    """The planned demand of each region, for the policies that know it; `read` gives the plan when it is needed."""

    def __init__(self, scenario: Scenario, network: Network, read: Callable[[], PacketPlan]) -> None:
        self._scenario, self._network, self._read = scenario, network, read
        self._of_region = cache(self._part)

    def for_scaling(self, region: int) -> Ahead:
        """Return the load ahead for the autoscaler of a site: that of its region."""
        spec = self._scenario.autoscaler
        if not AUTOSCALER_POLICIES[spec.policy].reads_plan:
            return lambda _from_ns, _to_ns: 0
        return ahead_of(self._of_region(region), spec.period_ns)

    def for_placement(self) -> list[Ahead]:
        """Return the demand ahead of each region; nothing for a policy that does not know the plan."""
        spec = self._scenario.placement
        if not PLACEMENT_POLICIES[spec.policy].reads_plan:
            return []
        regions = range(len(self._network.sites))
        return [ahead_of(self._of_region(region), spec.sync_interval_ns) for region in regions]

    def _part(self, region: int) -> PacketPlan:
        packets = self._read()
        chosen = (region_of_flows(self._network, packets) == region)[packets.flow]
        columns = {key: column[chosen] for key, column in packets.packet_columns().items()}
        return dataclasses.replace(packets, **columns)
