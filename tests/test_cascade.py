"""The second tier: described, never given a flow, and taking what the first cannot hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from testbed import topologies
from testbed.scenario.topology import TopologySpec
from testbed.trials.replay import replay
from tests import written_run
from tests.written_run import constant


def test_the_second_tier_follows_the_first_and_is_built_alike() -> None:
    network = topologies.describe(TopologySpec(family="cascade", nodes=2, second_tier=3))
    assert [(node.name, node.tier) for node in network.nodes] == [(f"n{k}", 1 if k < 3 else 2) for k in range(1, 6)]
    assert [node.name for node in network.first_tier] == ["n1", "n2"]
    flat = topologies.describe(TopologySpec(family="cluster", nodes=5))
    assert network.links == flat.links
    assert [host.mac for host in network.hosts] == [host.mac for host in flat.hosts]


def test_a_cascade_has_one_node_in_the_second_tier_unless_told_otherwise() -> None:
    spec = TopologySpec.model_validate({"family": "cascade", "nodes": 4})
    assert (spec.second_tier, spec.all_nodes) == (1, 5)
    assert TopologySpec.model_validate(spec.model_dump(by_alias=True)) == spec


@pytest.mark.requires("root", "bpf", "ovs", "mininet")
def test_the_second_tier_takes_what_the_first_cannot_and_nothing_else(tmp_path: Path) -> None:
    topology = {**written_run.BASE["topology"], "family": "cascade", "second_tier": 1, "nodes": 2}
    buffer = {**written_run.BASE["buffer"], "deflect": True}
    written = written_run.run(
        tmp_path, "cascade", topology=topology, buffer=buffer, traffic=[constant("50Mbit", flows=40)]
    )
    first, second = [written.nodes[name] for name in ("n1", "n2")], written.nodes["n3"]
    assert written.summary["traffic"]["unaccounted_packets"] == 0
    assert sum(node["arrived_pkts"] for node in first) == written.summary["traffic"]["sent_packets"]
    assert all(node["deflected_in_pkts"] == 0 < node["delivered_pkts"] for node in first)
    assert second["arrived_pkts"] == second["deflected_in_pkts"] == sum(node["deflected_pkts"] for node in first) > 0
    assert second["deflected_pkts"] == 0
    assert second["delivered_pkts"] > 0
    slots = [set(event["slots"]) for event in written.events if "slots" in event]
    assert slots
    assert set.union(*slots) == {"n1", "n2"}
    siblings = {event["sibling"] for event in written.events if event["kind"] == "SiblingSet"}
    assert siblings <= {"n3", ""}
    assert {event["node"] for event in written.events if event["kind"] == "SiblingSet"} == {"n1", "n2"}
    assert replay(written.path) is None
