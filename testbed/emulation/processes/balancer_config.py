"""The configuration of a trial's balancer: addresses and ports of the network, the policy, and keys."""

from __future__ import annotations

from collections.abc import Callable

from testbed.controllers.config import BalancerConfig, Vip
from testbed.controllers.liveness import MeshAccess
from testbed.emulation.network.forwarding import stations_of
from testbed.emulation.network.open_vswitch import OpenVSwitch
from testbed.engine import TrialPlan
from testbed.policies.readiness import longest_pause_ns
from testbed.scenario.network import VIP_IP, VIP_IP6, VIP_MAC
from testbed.scenario.routing import path_basis
from testbed.wire.sealing import Keyring


def balancer_config(
    plan: TrialPlan,
    switch: OpenVSwitch,
    members: tuple[str, ...],
    listen_port: int,
    now_ns: Callable[[], int],
    ring: Keyring,
) -> BalancerConfig:
    """Return the configuration of a trial's balancer; `members` are those of the mesh, `now_ns` is the run's clock."""
    network = plan.network
    station = stations_of(network, switch.port_numbers(list(network.switch_ports)))
    return BalancerConfig(
        dpid=network.datapath_id(network.switch),
        listen_port=listen_port,
        vip=Vip(VIP_IP, VIP_MAC, VIP_IP6),
        clients=tuple(station(client.name) for client in network.clients),
        nodes=tuple(station(node.name) for node in network.first_tier),
        rates_bps=tuple(network.node_rate_bps(node.name) for node in network.first_tier),
        second_tier=tuple(station(node.name) for node in network.nodes if node.tier > 1),
        deflecting=network.nodes if plan.scenario.buffer.deflect else (),
        pause_ns=longest_pause_ns(plan.scenario.buffer.sample_interval_ns),
        absent=network.spare_nodes,
        mesh=MeshAccess(members, plan.scenario.mesh, network.spare_nodes),
        spec=plan.scenario.balancer,
        framework=plan.scenario.controller.framework,
        seed=plan.seed_of("balancer"),
        path_basis=path_basis(network, network.switch, plan.seed_of("paths")),
        now_ns=now_ns,
        since_ns=now_ns(),
        ring=ring,
    )
