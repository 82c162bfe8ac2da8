"""The policies of a recorded run, made anew: those of one cluster, or of each of several sites.

The name of a policy of a site begins with that of the site, such as ``europe/balancer``.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Protocol

from testbed.errors import InputError
from testbed.policies.autoscaler import AUTOSCALER, Ahead, make_autoscaler
from testbed.policies.balancer import make_balancer
from testbed.policies.brain import NodeBrain
from testbed.policies.cohorts import BRAIN, make_brain, rows_of
from testbed.policies.deflection import DEFLECTION, DeflectionPolicy
from testbed.policies.forecast import MakeForecaster
from testbed.policies.lifecycle import LIFECYCLE
from testbed.policies.orchestrator import make_lifecycle
from testbed.policies.placement import PLACEMENT
from testbed.policies.pool import Pool, make_pool
from testbed.policies.readiness import longest_pause_ns
from testbed.policies.travel import TRAVEL
from testbed.records.events import Action, Event, NodeJoined, PeersAssessed, TrafficSampled
from testbed.records.written import OF_SITE
from testbed.scenario.model import Scenario
from testbed.scenario.network import Network
from testbed.scenario.tables import AUTOSCALER_POLICIES
from testbed.simulation.assembly import site_part
from testbed.simulation.engine import BALANCER, POOL
from testbed.simulation.exchange import region_policies
from testbed.simulation.network_model import NetworkModel
from testbed.simulation.sites import PlannedDemand
from testbed.simulation.sites_forwarding import wan_delay_ns
from testbed.traffic.plan import PacketPlan
from testbed.traffic.planned_load import ahead_of


class _Replayed(Protocol):
    def handle(self, event: Any, now_ns: int) -> list[Any]: ...


class ClusterPolicies:
    """The policies of one cluster, made when they are first fed."""

    def __init__(
        self, scenario: Scenario, network: Network, make_forecaster: MakeForecaster, ahead: Ahead, seed: int
    ) -> None:
        self._scenario, self._network, self._make_forecaster = scenario, network, make_forecaster
        self._pause_ns = longest_pause_ns(scenario.buffer.sample_interval_ns)
        self._nodes = tuple(node.name for node in network.nodes)
        self._seed, self._capacity = seed, (network.node_rate_bps(self._nodes[0]), ahead)
        self._made: dict[str, _Replayed] = {}

    def feed(self, name: str, event: Event | Action, now_ns: int) -> list[Action | Event]:
        """Return what a policy answers; the brain of a node that restarted is a new one."""
        if isinstance(event, NodeJoined) and name.startswith(BRAIN):
            self._made.pop(name, None)
            return []
        policy = self._made.get(name)
        if policy is None:
            policy = self._made[name] = self._make(name, event)
        return policy.handle(event, now_ns)

    def _make(self, name: str, event: Event | Action) -> _Replayed:
        if name == POOL:
            return self._pool()
        if name == BALANCER:
            first_tier = tuple(node.name for node in self._network.first_tier)
            rates_bps = [self._network.node_rate_bps(node) for node in first_tier]
            rng, spare = random.Random(self._seed), self._network.spare_nodes
            return make_balancer(self._scenario.balancer, first_tier, rng, self._pause_ns, rates_bps, spare)
        if name == LIFECYCLE:
            return make_lifecycle(self._scenario, self._network)
        if name == AUTOSCALER:
            return make_autoscaler(self._scenario.autoscaler, *self._capacity)
        if name == DEFLECTION:
            return DeflectionPolicy(self._network.nodes, self._pause_ns)
        if name.partition(":")[0] == BRAIN and isinstance(event, (PeersAssessed, TrafficSampled)):
            return self._brain(rows_of(name, self._nodes))
        raise InputError(
            "replaying", f"a record of {name} that cannot be the first one", "replay it with the version that wrote it"
        )

    def _brain(self, rows: slice) -> NodeBrain:
        return make_brain(rows, self._scenario.buffer, self._network, self._make_forecaster)

    def _pool(self) -> Pool:
        grants = self._brain(slice(None)).initial_limit_bytes()
        return make_pool(self._scenario.buffer, self._nodes, grants)


class Policies(Protocol):
    """The policies of a run."""

    def feed(self, name: str, event: Event | Action, now_ns: int) -> list[Action | Event]:
        """Return what a policy answers."""
        ...


def policies_of(
    scenario: Scenario, network: Network, make_forecaster: MakeForecaster, read: Callable[[], PacketPlan], seed: int
) -> Policies:
    """Return the policies of a scenario; `read` gives the plan, for those that know it."""
    if network.sites:
        return _SitesPolicies(scenario, network, make_forecaster, read, seed)
    return ClusterPolicies(scenario, network, make_forecaster, _ahead(scenario, read), seed)


def _ahead(scenario: Scenario, read: Callable[[], PacketPlan]) -> Ahead:
    """Return the planned load, read only for an autoscaler that knows it."""
    if not AUTOSCALER_POLICIES[scenario.autoscaler.policy].reads_plan:
        return lambda _from_ns, _to_ns: 0
    return ahead_of(read(), scenario.autoscaler.period_ns)


class _SitesPolicies:
    """Those of all clusters, and of the regions."""

    def __init__(
        self,
        scenario: Scenario,
        network: Network,
        make_forecaster: MakeForecaster,
        read: Callable[[], PacketPlan],
        seed: int,
    ) -> None:
        planned, delay_ns = PlannedDemand(scenario, network, read), wan_delay_ns(network, NetworkModel())
        self._clusters, self._regions = dict[str, ClusterPolicies](), dict[str, _Replayed]()
        for row, site in enumerate(network.sites):
            part = site_part(scenario, network, site)
            self._clusters[site] = ClusterPolicies(*part, make_forecaster, planned.for_scaling(row), seed)
            placement, travel = region_policies(scenario, network, delay_ns, row)
            self._regions |= {f"{site}{OF_SITE}{PLACEMENT}": placement, f"{site}{OF_SITE}{TRAVEL}": travel}

    def feed(self, name: str, event: Event | Action, now_ns: int) -> list[Action | Event]:
        """Return what a policy answers."""
        site, _, own_name = name.partition(OF_SITE)
        if name in self._regions:
            return self._regions[name].handle(event, now_ns)
        if site not in self._clusters:
            raise InputError("replaying", f"a record of {name}, no policy of a site", "give a complete run directory")
        return self._clusters[site].feed(own_name, event, now_ns)
