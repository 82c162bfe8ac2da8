"""The map of `bench map`: its cells are scenarios that the simulation takes, and what a row says of its costs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from testbed import topologies
from testbed.bench import map as bench_map
from testbed.bench import map_emulated, map_simulated
from testbed.bench.map_cells import cells
from testbed.errors import InputError, ToolError
from testbed.results.confidence import Estimate
from testbed.scenario import loading
from testbed.simulation.bounds import check
from testbed.system import places
from testbed.traffic.plan import make_plan


@pytest.mark.parametrize("name", cells())
def test_every_cell_is_a_scenario_that_the_simulation_takes(name: str) -> None:
    for pair in (bench_map.OURS, *bench_map.RIVALS, *bench_map.ABLATIONS):
        scenario = map_simulated.with_policies(cells()[name], pair, 1)
        assert list(check(scenario, topologies.describe(scenario.topology))) == []


def test_no_rival_predicts_and_the_traffic_is_there() -> None:
    assert not {buffer for _, buffer in bench_map.RIVALS} & {"lstm", "holt", "ewma", "onnx", "oracle"}
    assert loading.load(places.scenarios() / "burst.yaml").scenario.balancer.policy == "ready-first"  # as it was


@pytest.mark.parametrize(
    ("mean", "half_width", "finding"),
    [(-2.0, 1.0, "better"), (-1.0, 0.5, "slightly better"), (-1.0, 1.5, "not significant"), (2.0, 1.0, "worse")],
)
def test_a_finding_needs_an_interval_that_does_not_hold_0(mean: float, half_width: float, finding: str) -> None:
    assert bench_map._finding(Estimate(mean, half_width, 10), 10.0)[0] == finding


def test_the_emulated_cells_are_of_the_map_and_a_set_is_known() -> None:
    assert set(map_emulated.FIVE) <= set(cells())
    assert set(bench_map.EMULATED) <= {bench_map.OURS, *bench_map.RIVALS}
    for wrong in ({"cells": "six"}, {"engine": "paper"}):
        with pytest.raises(InputError):
            bench_map.run(**wrong)


def test_emulated_costs_are_kept_and_a_second_call_measures_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[int] = []

    def emulated(_name: str, scenario: Any, seed: int) -> dict[str, float] | None:
        ran.append(seed)
        valid = not (seed == 2 and len(ran) == 3)  # the first run of the second seed is INVALID
        return {"loss": float(seed), "delay": 0.5, "memory": 0.1} if valid else None

    monkeypatch.setattr(map_emulated, "_emulated", emulated)
    name, pairs = "few flows, unequal", bench_map.EMULATED[:2]
    kept = tmp_path / "costs.json"
    first = map_emulated.EmulatedCosts(kept).of_cell(name, cells()[name], pairs, (1, 2))
    assert [len(found) for found in first.values()] == [1, 1]  # a seed counts for all pairs or for none
    second = map_emulated.EmulatedCosts(kept).of_cell(name, cells()[name], pairs, (1, 2))
    assert [len(found) for found in second.values()] == [2, 2]
    assert ran == [1, 1, 2, 2, 2]
    other = {**cells()[name], "duration": "4s"}
    assert map_emulated.key_of(other, 1) != map_emulated.key_of(cells()[name], 1)


def test_other_weights_may_turn_the_ranking_and_the_table_tells() -> None:
    ours, rival = bench_map.OURS, bench_map.RIVALS[0]
    parts = {
        ours: [{"loss": 1.0, "delay": 0.0, "memory": 2.0}],
        rival: [{"loss": 2.0, "delay": 0.4, "memory": 1.0}],
    }
    row = bench_map._row("x", parts, weights=True)
    assert row["value"] == 3.0
    assert row["rival_value"] == pytest.approx(3.4)
    _, *lines = bench_map.table([row])
    assert {line[1]: line[5] for line in lines} == {
        "as they are": "1 of 2",
        "delay × 1/4": "1 of 2",
        "delay × 4": "1 of 2",
        "memory × 1/4": "1 of 2",
        "memory × 4": "2 of 2",
    }
    assert "rankings" not in bench_map._row("x", parts, weights=False)


def test_one_seed_finds_nothing() -> None:
    assert bench_map._finding(Estimate(-9.0, None, 1), 10.0) == ("one seed", "")


def test_cells_are_simulated_side_by_side_and_come_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = (bench_map.OURS, bench_map.RIVALS[4])
    monkeypatch.setattr(map_simulated.allowance, "cores", lambda: 2)
    (measured,) = map_simulated.costs(["few flows, equal"], pairs, (1, 2))
    for pair in pairs:
        assert [set(one) for one in measured[pair]] == [set(measured[pair][0])] * 2
        scenario = map_simulated.with_policies(cells()["few flows, equal"], pair, 2)
        plan = make_plan(scenario, topologies.describe(scenario.topology), places.scenarios())
        assert measured[pair][1] == map_simulated.simulated_cost(scenario, plan)


def test_a_process_that_fails_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = (("none", "reactive"),)
    with pytest.raises(ToolError, match="measuring few flows, equal, seed 1: "):
        list(map_simulated.costs(["few flows, equal"], wrong, (1,)))


def test_a_map_without_valid_runs_is_no_success(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(map_emulated, "costs", lambda names, pairs, _: ({pair: [] for pair in pairs} for _ in names))
    with pytest.raises(ToolError, match="no seed has a valid run"):
        bench_map.run(engine="emulation", only="recurring")
    assert "recurring, unequal is left out" in capsys.readouterr().err
