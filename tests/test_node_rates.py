"""Nodes of unequal rates: the scenario's key, the network made of it, and who gets to know."""

from __future__ import annotations

import random

import numpy as np
import pytest
from pydantic import ValidationError

import topologies
from testbed.policies.balancer import make_balancer
from testbed.policies.balancer_view import ClusterView
from testbed.scenario.balancer import BalancerSpec
from testbed.scenario.model import Scenario
from testbed.scenario.topology import TopologySpec

_RATES = ["10Mbit", "20Mbit", "40Mbit"]
_TRAFFIC = [{"name": "base", "from": "c1", "shape": "poisson", "rate": "1Mbit"}]


def _topology(**keys: object) -> TopologySpec:
    return TopologySpec.model_validate({"family": "cluster", **keys})


def test_every_node_serves_at_the_rate_that_is_given_for_it() -> None:
    network = topologies.describe(_topology(node_rates=_RATES))
    assert [network.node_rate_bps(node.name) for node in network.nodes] == [10**7, 2 * 10**7, 4 * 10**7]


def test_rates_run_on_into_the_second_tier() -> None:
    spec = _topology(family="cascade", nodes=2, second_tier=1, node_rates=_RATES)
    network = topologies.describe(spec)
    assert [network.node_rate_bps(node.name) for node in network.nodes] == list(spec.rates_bps)


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"nodes": 4, "node_rates": _RATES}, "3 rates for 4 nodes"),
        ({"node_rates": []}, "0 rates for 3 nodes"),
        ({"node_rates": _RATES, "node_rate": "5Mbit"}, "give one of the two"),
        (
            {"family": "single", "node_rates": ["5Mbit"]},
            "node_rates is for family cluster, cascade, two-switch, tree, leaf-spine, not single",
        ),
        ({"node_rates": ["0Mbit", "1Mbit", "1Mbit"]}, "greater than 0"),
        ({"node_rates": [7, "1Mbit", "1Mbit"]}, "unit"),
    ],
)
def test_rates_that_do_not_fit_are_refused(keys: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        _topology(**keys)


@pytest.mark.parametrize("rates", [{"node_rates": _RATES}, {"node_rate": "5Mbit"}, {}])
def test_the_written_form_reads_back_as_the_same_scenario(rates: dict[str, object]) -> None:
    data = {"version": 1, "name": "rates", "duration": "1s", "topology": {"family": "cluster", **rates}}
    scenario = Scenario.model_validate({**data, "traffic": _TRAFFIC})
    again = Scenario.model_validate(scenario.resolved())
    assert again == scenario
    assert again.topology.rates_bps == scenario.topology.rates_bps


def test_a_balancer_that_is_not_given_rates_takes_nodes_for_equal() -> None:
    assert ClusterView(("n1", "n2"), 1).service_bps.tolist() == [1, 1]
    assert ClusterView(("n1", "n2"), 1, (5, 7)).service_bps.tolist() == [5, 7]


def test_a_rule_is_given_the_rates() -> None:
    spec = BalancerSpec(policy="by-rate")
    balancer = make_balancer(spec, ("n1", "n2", "n3"), random.Random(1), rates_bps=(10**7, 2 * 10**7, 4 * 10**7))
    held = np.unique(balancer.slots, return_counts=True)[1]
    assert held.tolist() == [9, 18, 37]
