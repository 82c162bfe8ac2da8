"""A cluster in virtual time: its agents, balancer, mesh and orchestrator, put together.

    Assembly(trial, …) ─ first limits and slots ─▶ plane ─▶ connect(plane)

A network in one place has one.  Each of several sites has one, too, made from the part of the trial that is about it
(`site_trial`): it has no part that knows of other sites.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from testbed.engine import TrialPlan
from testbed.policies.autoscaler import Ahead
from testbed.policies.buffer_rules import heeds_peers
from testbed.policies.cohorts import OWN_TICKS
from testbed.policies.lifecycle import LOOK_NS
from testbed.policies.membership import BALANCER
from testbed.policies.orchestrator import Orchestrator
from testbed.policies.pool import make_pool
from testbed.records.events import DemandExpected
from testbed.scenario.apart import nodes_apart
from testbed.scenario.fault import FaultSpec
from testbed.scenario.model import Scenario
from testbed.scenario.network import Network
from testbed.simulation.agenda import Agenda
from testbed.simulation.agents import Agents
from testbed.simulation.cluster import Cluster, ClusterParts
from testbed.simulation.cluster_plane import ClusterPlane
from testbed.simulation.cohorts import make_cohorts
from testbed.simulation.control import Control
from testbed.simulation.history import History
from testbed.simulation.mesh import Mesh
from testbed.simulation.network_model import NetworkModel
from testbed.simulation.peers import Peers
from testbed.simulation.sample_rows import SampleRows
from testbed.traffic.planned_load import ahead_of

_LOOKS = 50  # at a node that drains, in the time after which a silent flow has no node any more


class Assembly:
    """One cluster.

    Args:
        trial: about this cluster alone.
        cohorts: in how many groups the nodes tick; default as `policies.cohorts` has it.
        together: whether it shares its plane with other clusters.  Then nodes that live apart tick at the same time,
            too, if there are many (`OWN_TICKS`), and nodes that drain are observed at the same times everywhere, so
            that the plane advances less often.

    Attributes:
        names: of its nodes.
        limits: first limits of the buffers, shape [n].
        control: its balancer; `control.slots` is the first table.
        row_of: the rows of the nodes among its own.
        plane, agents, peers, mesh, cluster: there once it is connected; peers, mesh and cluster are None where the
            nodes do not speak with each other, and where no node comes, goes or fails.
    """

    plane: ClusterPlane
    agents: Agents
    peers: Peers | None = None
    mesh: Mesh | None = None
    cluster: Cluster | None = None

    def __init__(
        self,
        trial: TrialPlan,
        agenda: Agenda,
        history: History,
        model: NetworkModel,
        cohorts: int | None = None,
        *,
        together: bool = False,
    ) -> None:
        scenario, network = trial.scenario, trial.network
        self._trial, self._agenda, self._history, self._model = trial, agenda, history, model
        self._together = together
        self.names = tuple(node.name for node in network.nodes)
        self.row_of = {name: row for row, name in enumerate(self.names)}
        apart = nodes_apart(scenario, self.names)
        self._cohorts = make_cohorts(scenario.buffer, network, trial.make_forecaster, cohorts, apart)
        if together and len(self.names) > OWN_TICKS:
            for cohort in self._cohorts:
                cohort.phase_ns = 0
        self.limits = np.concatenate([cohort.brain.initial_limit_bytes() for cohort in self._cohorts])
        self.control = Control(scenario, network, trial.seed_of(BALANCER), agenda, history, model)

    def connect(self, plane: ClusterPlane, samples: SampleRows, make_ahead: Callable[[], Ahead] | None = None) -> None:
        """Begin on a plane; `make_ahead` gives the planned load, by default that of all packets."""
        scenario, agenda, model = self._trial.scenario, self._agenda, self._model
        self.plane = plane
        if len(self.names) > 1 and heeds_peers(scenario.buffer):
            self.peers = Peers(self.names, scenario.mesh.sync_interval_ns, model.message_ns, agenda)
        pool, control = make_pool(scenario.buffer, self.names, self.limits.copy()), self.control
        self.agents = Agents(
            self._cohorts, pool, plane, scenario.buffer.sample_interval_ns, agenda, self._history, samples, model,
            notify=control.notified, slots_held=lambda: control.slots_held, peers=self.peers,
        )  # fmt: skip
        control.connect(plane, self.agents.name)
        if scenario.unsteady:
            self._let_nodes_change(self._ahead() if make_ahead is None else make_ahead())

    def end(self) -> None:
        """Order nothing more: the traffic is over."""
        if self.cluster is not None:
            self.cluster.end()

    def expect(self, demand: DemandExpected) -> None:
        """Prepare for a wave that other sites announce: nodes, and the severity that their buffers heed."""
        if self.cluster is not None:
            self.cluster.expect(demand.expected_bps)
        if self.peers is not None:
            self.peers.announce(demand.severity_ratio)

    def absent_ns(self, ran_ns: int) -> dict[str, int]:
        """Return how long, until `ran_ns`, each node was ordered not to run."""
        return {name: 0 if self.cluster is None else self.cluster.absent_ns(name, ran_ns) for name in self.names}

    def _ahead(self) -> Ahead:
        return ahead_of(self._trial.packets, self._trial.scenario.autoscaler.period_ns)

    def _let_nodes_change(self, ahead: Ahead) -> None:
        trial, agenda, history, model = self._trial, self._agenda, self._history, self._model
        scenario, spare = trial.scenario, trial.network.spare_nodes
        reported = self.control.reported
        self.mesh = Mesh(self.names, scenario.mesh, trial.seed_of, agenda, history, model, reported, spare)
        parts = ClusterParts(self.plane, self.agents, self.control, self.mesh, agenda, history, model)
        look_ns = max(LOOK_NS, scenario.balancer.affinity_idle_ns // _LOOKS) if self._together else None
        self.cluster = Cluster(Orchestrator(scenario, trial.network, ahead, look_ns), parts, spare)


def site_trial(trial: TrialPlan, site: str) -> TrialPlan:
    """Return the part of a trial that is about the cluster of one site."""
    scenario, network = site_part(trial.scenario, trial.network, site)
    return dataclasses.replace(trial, scenario=scenario, network=network)


def site_part(scenario: Scenario, network: Network, site: str) -> tuple[Scenario, Network]:
    """Return scenario and network of the cluster of one site, as if there were no other."""
    network = network.at_site(site)
    count, spare = scenario.topology.site_sizes[site]
    nodes = {node.name for node in network.nodes}
    own = tuple(fault for fault in scenario.faults if fault.node in nodes)
    if any(fault.site == site for fault in scenario.faults):  # each node may be killed
        own += tuple(FaultSpec.model_validate({"at": "0s", "crash": node.name}) for node in network.nodes)
    spec = scenario.autoscaler
    bounds = {"min_nodes": min(spec.min_nodes, count), "max_nodes": min(spec.max_nodes, count + spare)}
    update = {
        "topology": scenario.topology.model_copy(update={"nodes": count, "spare": spare}),
        "autoscaler": spec.model_copy(update=bounds),
        "faults": own,
    }
    return scenario.model_copy(update=update), network
