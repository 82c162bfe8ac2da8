"""The map of `bench map`: its cells are scenarios that the simulation takes, and what a row says of its costs."""

from __future__ import annotations

import pytest

from testbed import topologies
from testbed.bench import map as bench_map
from testbed.bench.map_cells import cells
from testbed.results.confidence import Estimate
from testbed.scenario import loading
from testbed.simulation.bounds import check
from testbed.system import places


@pytest.mark.parametrize("name", cells())
def test_every_cell_is_a_scenario_that_the_simulation_takes(name: str) -> None:
    for pair in (bench_map.OURS, *bench_map.RIVALS, *bench_map.ABLATIONS):
        scenario = bench_map._with_policies(cells()[name], pair, 1)
        assert list(check(scenario, topologies.describe(scenario.topology))) == []


def test_no_rival_predicts_and_the_traffic_is_there() -> None:
    assert not {buffer for _, buffer in bench_map.RIVALS} & {"lstm", "holt", "ewma", "onnx", "oracle"}
    assert loading.load(places.scenarios() / "burst.yaml").scenario.balancer.policy == "ready-first"  # as it was


@pytest.mark.parametrize(
    ("mean", "half_width", "finding"),
    [(-2.0, 1.0, "pays"), (-1.0, 0.5, "better"), (-1.0, 1.5, "not significant"), (2.0, 1.0, "worse")],
)
def test_a_finding_needs_an_interval_that_does_not_hold_0(mean: float, half_width: float, finding: str) -> None:
    assert bench_map._finding(Estimate(mean, half_width, 10), 10.0)[0] == finding


def test_one_seed_finds_nothing() -> None:
    assert bench_map._finding(Estimate(-9.0, None, 1), 10.0) == ("one seed", "")
