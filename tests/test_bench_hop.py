"""What `bench hop` makes of the delays that the nodes measured."""

from __future__ import annotations

import numpy as np
import pytest

from testbed import topologies
from testbed.bench.hop import rows_of
from testbed.errors import ToolError
from testbed.records.histogram import Histogram
from testbed.records.stages import Stage
from testbed.scenario.topology import TopologySpec
from testbed.simulation.network_model import NetworkModel

NETWORK = topologies.describe(TopologySpec.model_validate({"family": "leaf-spine", "nodes": 8}))


def way(node: str, us: int, count: int = 10) -> Stage:
    """Return a stage whose packets all took `us`."""
    edges = np.array([0, us * 1000 - 1, us * 1000 + 1, 10**9])
    return Stage("way", node, (), Histogram(edges, np.array([0, count, 0])))


def test_a_hop_is_the_difference_of_far_and_near_nodes_by_two() -> None:
    stages = [way(f"n{i}", 60 if i <= 2 else 140) for i in range(1, 9)]
    near, far, hop = rows_of([*stages, Stage("send", "c1")], NETWORK, "VALID")
    assert (near["value"], far["value"]) == (pytest.approx(60, abs=1), pytest.approx(140, abs=1))
    assert hop["value"] == pytest.approx(40, abs=1)
    assert hop["rival_value"] == NetworkModel().hop_ns / 1000
    assert "VALID" in hop["note"]


def test_nodes_at_one_distance_say_nothing_of_hops() -> None:
    with pytest.raises(ToolError, match="at the same distance"):
        rows_of([way("n1", 60), way("n2", 60)], NETWORK, "VALID")
