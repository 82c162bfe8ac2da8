"""Networks of several switches: routes, the pipeline's ports, what validation refuses, and the simulation of hops."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from testbed import topologies
from testbed.controllers import pipeline
from testbed.controllers.switch import PortChanged, far_port, is_far
from testbed.errors import InputError
from testbed.results.accounting import account
from testbed.scenario.loading import load
from testbed.scenario.model import Scenario
from testbed.scenario.routing import longest_delay_ns, path_basis, routes_of
from testbed.scenario.topology import TopologySpec
from testbed.simulation.flow_paths import NO_LINK, FlowPaths
from testbed.simulation.network_model import NetworkModel
from testbed.traffic.plan import make_plan
from testbed.units import NS_PER_MS, NS_PER_US
from tests import simulated_run
from tests.fake_flow_table import FakeSwitch
from tests.test_pipeline import CONFIG, SLOTS, to_vip

TWO = "{family: two-switch, links: {%s}}"
LEAF_SPINE = {"family": "leaf-spine", "nodes": 8, "clients": 2, "node_rate": "40Mbit"}


def network_of(**topology: Any):
    return topologies.describe(TopologySpec.model_validate(topology))


def scenario(topology: dict[str, Any], **traffic: Any) -> Scenario:
    source = {"name": "x", "from": "c1", "shape": "poisson", "rate": "20Mbit", "flows": 64, **traffic}
    base = {"version": 1, "name": "x", "seed": 3, "duration": "1s", "buffer": {"policy": "static-min"}}
    return Scenario.model_validate({**base, "topology": topology, "traffic": [source]})


def test_a_leaf_is_two_hops_from_another_over_every_spine() -> None:
    network = network_of(**LEAF_SPINE)
    routes = routes_of(network)
    assert network.switch == "leaf1"
    assert routes.next_hops["leaf1", "leaf3"] == ("spine1", "spine2")
    assert routes.hops["leaf1", "leaf3"] == 2
    assert routes.next_hops["spine2", "leaf4"] == ("leaf4",)
    assert [network.switch_of(f"n{i}") for i in range(1, 9)] == [f"leaf{1 + i // 2}" for i in range(8)]
    assert len(network.switch_ports) == len(set(network.switch_ports)) == 2 + 8 + 2 * 8


def test_a_tree_has_one_way() -> None:
    network = network_of(family="tree", nodes=4, options={"depth": 2, "fanout": 2})
    routes = routes_of(network)
    assert len(network.data_switches) == 7
    assert all(len(nexts) == 1 for nexts in routes.next_hops.values())
    assert [network.switch_of(f"n{i}") for i in range(1, 5)] == ["s4", "s5", "s6", "s7"]


def test_every_hop_leads_nearer() -> None:
    for family, options in (("leaf-spine", {"leaves": 3, "spines": 3}), ("tree", {"depth": 3}), ("two-switch", None)):
        routes = routes_of(network_of(family=family, nodes=4, options=options))
        for (here, target), nexts in routes.next_hops.items():
            assert nexts
            assert {routes.hops[near, target] for near in nexts} == {routes.hops[here, target] - 1}


def test_switches_divide_flows_each_in_its_own_way() -> None:
    network = network_of(**LEAF_SPINE)
    assert len({path_basis(network, switch, 7) for switch in network.data_switches}) == 6


def test_links_have_what_is_said_of_them() -> None:
    links = {"leaf*-spine*": {"rate": "200Mbit"}, "spine2-leaf3": {"delay": "2ms", "rate": "50Mbit", "queue": "1MB"}}
    network = network_of(**LEAF_SPINE, links=links)
    by_name = {link.name: link for link in network.links}
    assert (by_name["leaf1-spine1"].rate_bps, by_name["leaf1-spine1"].queue_bytes) == (200_000_000, 500_000)
    assert (by_name["leaf3-spine2"].rate_bps, by_name["leaf3-spine2"].queue_bytes) == (50_000_000, 1_000_000)
    assert longest_delay_ns(network, routes_of(network), "c1", "n5") == 2 * NS_PER_MS
    assert longest_delay_ns(network, routes_of(network), "c1", "n7") == 0
    assert {network.node_rate_bps(f"n{i}") for i in range(1, 9)} == {40_000_000}


@pytest.mark.parametrize(
    ("topology", "line", "said"),
    [
        (TWO % "s1-s3: {rate: 1Mbit}", "topology.links.s1-s3", "no link 's1-s3'; did you mean 's1-s2'?"),
        (TWO % '"x*": {rate: 1Mbit}', "topology.links.x*", "no link 'x*'; there are s1-s2"),
        (TWO % "s2-n1: {rate: 1Mbit}", "topology.links.s2-n1.rate", "only such links have a rate"),
        (TWO % "s1-s2: {queue: 1MB}", "topology.links.s1-s2", "queue without a rate"),
        (TWO % "s1-s2: {rte: 1MB}", "topology.links.s1-s2.rte", "did you mean 'rate'?"),
        (TWO % "s1-s2: {}", "topology.links.s1-s2", "neither rate nor delay"),
        (TWO % "s1-s2: {rate: 0bit}", "topology.links.s1-s2.rate", "more than 0"),
        ('{family: leaf-spine, options: {leaves: 1}}', "topology", "options.leaves of leaf-spine"),
        ('{family: leaf-spine, options: {leafs: 3}}', "topology", "its options: leaves, spines, clients"),
        ('{family: tree, options: {depth: 6}}', "topology", "127 switches; 64 at most"),
        ('{family: two-switch, options: {x: 1}}', "topology", "has no options"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_by_name_and_line(tmp_path: Path, topology: str, line: str, said: str) -> None:
    path = tmp_path / "x.yaml"
    traffic = "traffic: [{name: a, from: c1, shape: poisson, rate: 1Mbit}]"
    path.write_text(f"version: 1\nname: x\nduration: 1s\n{traffic}\ntopology: {topology}\n")
    with pytest.raises(InputError) as refused:
        load(path)
    assert f"x.yaml:5: {line}" in str(refused.value)
    assert said in str(refused.value)


def test_deflection_takes_one_switch(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(
        "version: 1\nname: x\nduration: 1s\ntopology: {family: two-switch}\n"
        "buffer: {policy: static-min, deflect: true}\n"
        "traffic: [{name: a, from: c1, shape: poisson, rate: 1Mbit}]\n"
    )
    with pytest.raises(InputError, match="x.yaml:5: buffer.deflect: .* across several switches"):
        load(path)


# ------------------------------------------------------------------------------------------------- the pipeline


def far_config():
    """n1 at the balancer's switch; n2 and n3 behind ports 20 and 21, c2 too."""
    n1, *others = CONFIG.nodes
    far = tuple(replace(node, port=20, more_ports=(21,), hangs_at=far_port(2, 5 + i)) for i, node in enumerate(others))
    c2 = replace(CONFIG.clients[1], port=20, more_ports=(21,), hangs_at=far_port(2, 9))
    return replace(CONFIG, nodes=(n1, *far), clients=(CONFIG.clients[0], c2), path_basis=17)


def ports_of(switch: FakeSwitch) -> dict[int, int]:
    return {flow: switch.send(1, **to_vip(flow))[0][0] for flow in range(200)}


def test_flows_of_far_nodes_are_spread_over_the_ports_and_stay() -> None:
    switch = FakeSwitch()
    switch.apply(pipeline.install(far_config(), SLOTS, ()))
    first = ports_of(switch)
    assert set(first.values()) == {11, 20, 21}
    assert ports_of(switch) == first


def test_a_path_that_is_down_is_replaced_by_another_and_the_node_stays() -> None:
    switch = FakeSwitch()
    switch.apply(pipeline.install(far_config(), SLOTS, ()))
    first = ports_of(switch)
    switch.ports_down = {20}
    assert ports_of(switch) == {flow: 21 if port == 20 else port for flow, port in first.items()}
    switch.ports_down = {20, 21}
    assert set(ports_of(switch).values()) == {11}


def test_answers_to_a_far_client_leave_by_one_of_the_ports() -> None:
    switch, config = FakeSwitch(), far_config()
    switch.apply(pipeline.install(config, SLOTS, ()))
    client = config.clients[1]
    answer = {
        "eth_type": 0x0800,
        "ipv4_src": config.vip.ip,
        "ipv4_dst": client.ip,
        "ip_proto": 17,
        "eth_dst": client.mac,
    }
    ((port, sent),) = switch.send(11, **answer, eth_src="02:02:00:00:00:01", udp_src=1, udp_dst=2)
    assert port in (20, 21)
    assert sent["eth_src"] == config.vip.mac


def test_a_port_of_another_switch_is_no_port_of_the_balancers() -> None:
    assert far_port(3, 11) != 11
    assert is_far(far_port(3, 11))
    assert not is_far(11)
    assert PortChanged(far_port(2, 5), up=False).port == far_config().nodes[1].watched_port


# ----------------------------------------------------------------------------------------------- the simulation


def test_hops_delay_a_packet_by_what_the_model_says() -> None:
    quiet = {"rate": "1Mbit", "flows": 1, "shape": "constant"}
    model = NetworkModel(hop_ns=NS_PER_MS)
    delays = {}
    for family in ("single", "two-switch"):
        run = simulated_run.run(scenario({"family": family, "nodes": 1, "clients": 1}, **quiet), model=model)
        (node,) = run.evidence.nodes
        assert account(run.evidence).unaccounted_pkts == 0
        delays[family] = node.delay.largest_ns
    assert delays["two-switch"] - delays["single"] == NS_PER_MS


def test_flows_take_a_spine_each_and_never_two() -> None:
    spec = scenario({**LEAF_SPINE, "options": {"clients": "spread"}}, **{"from": "c2"})
    network = topologies.describe(spec.topology)
    paths = FlowPaths(make_plan(spec, network, Path()), network, 5)
    up, down = paths.to_balancer
    names = np.array([link.name for link in paths.links])
    assert set(names[up[0]].tolist()) == {"leaf2-spine1", "leaf2-spine2"}
    assert set(names[down[0]].tolist()) == {"leaf1-spine1", "leaf1-spine2"}
    assert [name[-1] for name in names[up[0]]] == [name[-1] for name in names[down[0]]]
    assert (paths.to_homes[0][0] == NO_LINK).all(), "nodes of leaf1 are there"


def test_a_longer_way_reorders_nothing_within_a_flow_and_loses_nothing() -> None:
    topology = {**LEAF_SPINE, "links": {"leaf*-spine2": {"delay": "3ms"}}}
    run = simulated_run.run(scenario(topology))
    accounting = account(run.evidence)
    assert accounting.unaccounted_pkts == 0
    assert accounting.delivered_pkts == len(run.plan)
    late = [node.delay.largest_ns > 6 * NS_PER_MS for node in run.evidence.nodes]
    assert late == [False, False, True, True, True, True, True, True]


def test_a_link_of_less_rate_than_its_traffic_queues_and_drops_and_all_is_accounted() -> None:
    topology = {
        "family": "two-switch", "nodes": 3, "clients": 1, "node_rate": "40Mbit",
        "links": {"s1-s2": {"rate": "10Mbit", "queue": "0.1MB"}},
    }  # fmt: skip
    run = simulated_run.run(scenario(topology))
    accounting = account(run.evidence)
    (trunk,) = run.evidence.trunks
    served_bytes = accounting.delivered_bytes
    assert accounting.unaccounted_pkts == 0
    assert trunk.queue_dropped_pkts == accounting.dropped_pkts["link"] > 500
    assert accounting.dropped_pkts["buffer"] == 0
    assert abs(served_bytes * 8 - 10_000_000) < 0.12 * 10_000_000, "what it serves in a second, and its queue"
    queue_ns = 100_000 * 8 * 100
    slowest_ns = max(node.delay.largest_ns for node in run.evidence.nodes)
    assert queue_ns * 0.98 < slowest_ns < queue_ns + 300 * NS_PER_US
