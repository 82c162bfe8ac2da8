"""Forwarding in a network with one balancer: clients ─ journeys ─▶ switch ─ journeys ─▶ buffers.

`Way` is what the plane knows of the network in front of its buffers, whether there is one balancer or one a site
(`sites_forwarding`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from testbed.records.events import Ints
from testbed.records.evidence import TrunkEvidence
from testbed.scenario.model import Scenario
from testbed.scenario.network import Network
from testbed.scenario.tables import BALANCER_POLICIES
from testbed.simulation.deflection import Packets
from testbed.simulation.journeys import Journeys
from testbed.simulation.network_model import NetworkModel
from testbed.simulation.packet_trace import PacketTrace
from testbed.simulation.switch import Switch, Words, flow_hash
from testbed.traffic.plan import PacketPlan


class Way(Protocol):
    """The network in front of the buffers.

    Attributes:
        switches: of the balancers.
        behind_switch_ns: the least time from the decision of a balancer to a buffer.
        shortest_ns, longest_ns: from a client to a buffer, at least and at most.
        longest_step_ns: how much time one step may cover.
    """

    switches: tuple[Switch, ...]
    behind_switch_ns: int
    shortest_ns: int
    longest_ns: int
    longest_step_ns: int

    @property
    def alike(self) -> bool:
        """Return whether all packets take `shortest_ns`, and so none waits anywhere on its way."""
        ...

    @property
    def under_way(self) -> bool:
        """Return whether packets are on their way."""
        ...

    def under_way_rows(self) -> Ints:
        """Return the rows in the plan of those packets."""
        ...

    def bring(self, packets: Packets, until_ns: int) -> tuple[Packets, Ints]:
        """Take in packets at the times they are sent.

        Returns:
            The packets that are at their buffers by `until_ns`, and the nodes of flows that are new there.
        """
        ...

    def trunk_evidence(self) -> tuple[TrunkEvidence, ...]:
        """Return what each link between switches dropped."""
        ...


class Forwarding(Journeys):
    """Journeys with the switch in their middle."""

    def __init__(
        self,
        scenario: Scenario,
        network: Network,
        plan: PacketPlan,
        slots: Ints,
        model: NetworkModel,
        *,
        hash_basis: int,
        path_seed: int,
        trace: PacketTrace | None = None,
    ) -> None:
        cut = any(fault.hits_between for fault in scenario.faults)
        super().__init__(plan, network, model, path_seed, trace, cut=cut)
        hashes = flow_hash(plan.flows, plan.clients, network, hash_basis)
        self.switches: tuple[Switch, ...] = (make_switch(scenario, network, hashes, slots),)
        self._flow = plan.flow

    def bring(self, packets: Packets, until_ns: int) -> tuple[Packets, Ints]:
        """See `Way.bring`."""
        met = self.to_balancer(packets, until_ns)
        node, new_flows = self.switches[0].route(self._flow[met.number], met.t_ns)
        return self.to_buffers(replace(met, node=node), until_ns), new_flows


def make_switch(scenario: Scenario, network: Network, hashes: Words, slots: Ints) -> Switch:
    """Return the switch of a balancer over the nodes of `network`."""
    idle_ns, in_turn = scenario.balancer.affinity_idle_ns, BALANCER_POLICIES[scenario.balancer.policy].in_turn
    return Switch(hashes, slots, len(network.nodes), idle_ns, len(network.first_tier), in_turn=in_turn)
