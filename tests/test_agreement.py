"""The agreement of the engines: what is held against what, and when it counts as the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from testbed.errors import EXIT_EXPECTATION_FAILED, EXIT_OK, InputError
from testbed.report import agreement
from testbed.report.agreement import judge
from testbed.report.agreement_page import render
from testbed.report.compare import Row
from testbed.report.sweep_table import CombinationRow, SweepTable, TrialRow
from testbed.results.conditions import Conditions
from testbed.results.confidence import Estimate, estimate
from testbed.trials import agree

SAME = {"static-min": (0.20, 30.0, 100.0), "reactive": (0.02, 200.0, 900.0)}  # loss, MB·s, p99


def table(figures: dict[str, tuple[float, float, float]], *, seeds: tuple[int, ...] = (1, 2), plan: str = "a") -> Any:
    rows, trials = [], []
    for policy, (loss, memory, p99) in figures.items():
        known = {"loss_ratio": loss, "reserved_mb_s": memory, "p99_ms": p99}
        estimates = {name: estimate([value] * len(seeds)) for name, value in known.items()}
        parameters = {"buffer.policy": policy}
        rows.append(CombinationRow(parameters, seeds, len(seeds), estimates))
        trials += [TrialRow(parameters, Row("r", policy, "hash", "emulation", s, "VALID"), plan, {}) for s in seeds]
    return SweepTable("sweep", "burst", "Why?", ("buffer.policy",), tuple(rows), tuple(trials), (), ())


def verdicts(emulated: Any, simulated: Any) -> dict[str, bool | None]:
    return {f"{j.combination} {j.figure}": j.agrees for j in judge(emulated, simulated)}


def test_what_is_the_same_agrees() -> None:
    found = verdicts(table(SAME), table(SAME))
    assert len(found) == 8
    assert all(found.values())


@pytest.mark.parametrize(("cost", "agrees"), [(2.19, True), (2.21, False), (0.3, False)])
def test_the_cost_is_judged_and_ranked_where_the_runs_have_one(cost: float, agrees: bool) -> None:
    def costing(value: float) -> Any:
        found = table(SAME)
        costs = (value, 1.0)
        rows = [
            replace(row, figures={**row.figures, "cost": estimate([one, one])})
            for row, one in zip(found.combinations, costs, strict=True)
        ]
        return replace(found, combinations=tuple(rows))

    found = verdicts(costing(2.0), costing(cost))
    assert found["static-min cost MB"] is agrees
    assert found["reactive cost MB"] is True
    assert found["all ranking by cost MB"] is (cost > 1)


@pytest.mark.parametrize(
    ("changed", "agrees"),
    [
        ((0.2199, 30.0, 100.0), True),  # 10 % of a large loss
        ((0.2201, 30.0, 100.0), False),
        ((0.20, 31.4, 100.0), True),
        ((0.20, 31.6, 100.0), False),
        ((0.20, 30.0, 109.0), True),
        ((0.20, 30.0, 89.0), False),
    ],
)
def test_the_bounds_are_of_the_emulated_value(changed: tuple[float, float, float], agrees: bool) -> None:
    found = verdicts(table(SAME), table({**SAME, "static-min": changed}))
    assert all(found.values()) == agrees


def test_a_small_loss_may_be_a_point_off() -> None:
    assert all(verdicts(table(SAME), table({**SAME, "reactive": (0.0299, 200.0, 900.0)})).values())
    assert not all(verdicts(table(SAME), table({**SAME, "reactive": (0.0301, 200.0, 900.0)})).values())


def test_a_ranking_is_reversed_only_by_more_than_noise() -> None:
    less, more = (0.020, 30.0, 9.0), (0.025, 31.0, 9.0)
    assert all(verdicts(table({"a": less, "b": more}), table({"a": more, "b": less})).values())
    less, more = (0.10, 30.0, 9.0), (0.20, 60.0, 9.0)
    found = {j.figure: j for j in judge(table({"a": less, "b": more}), table({"a": more, "b": less}))}
    assert found["ranking by loss"].agrees is False
    assert found["ranking by loss"].difference == "a/b"
    assert found["ranking by loss"].emulated == "a < b"


def wide(loss: float, half: float, n: int = 2) -> Any:
    found = table({"a": (loss, 1.0, 1.0)})
    row = found.combinations[0]
    figures = {**row.figures, "loss_ratio": Estimate(loss, half, n)}
    return replace(found, combinations=(replace(row, figures=figures),))


@pytest.mark.parametrize(
    ("emulated", "simulated", "agrees", "word"),
    [
        ((0.2060, 0.5673), (0.2060, 0.5673), None, "undecided"),  # two seeds that say nothing
        ((0.20, 0.001), (0.21, 0.001), True, "agrees"),
        ((0.20, 0.001), (0.30, 0.001), False, "DIFFERS"),
        ((0.20, 0.10), (0.30, 0.10), None, "undecided"),
    ],
)
def test_wide_intervals_decide_nothing(emulated: Any, simulated: Any, agrees: bool | None, word: str) -> None:
    judgements = judge(wide(*emulated), wide(*simulated))
    (loss,) = [one for one in judgements if one.figure == "loss"]
    assert (loss.agrees, loss.cells[-1]) == (agrees, word)
    said = agreement.summary_of(judgements)
    assert ("1 are undecided" in said) == (agrees is None)
    assert "have not been run" not in said


def test_differences_are_taken_seed_by_seed() -> None:
    """Seeds that differ widely from each other and not between the engines decide."""

    def paired(off: float) -> Any:
        found = wide(0.20, 0.9)
        losses = {1: 0.1 + off, 2: 0.3 + off}
        trials = [replace(t, row=replace(t.row, figures={"loss_ratio": losses[t.row.seed]})) for t in found.trials]
        return replace(found, trials=tuple(trials))

    (loss,) = [one for one in judge(paired(0.0), paired(0.001)) if one.figure == "loss"]
    assert loss.agrees is True


def test_what_the_seeds_do_not_tell_apart_is_a_tie() -> None:
    close = table({"a": (0.10, 30.0, 9.0), "b": (0.10, 60.0, 9.0)})
    found = {j.figure: j for j in judge(close, close)}
    assert found["ranking by loss"].emulated == "a ≈ b"
    assert found["ranking by reserved MB·s"].emulated == "a < b"


def test_no_interval_of_a_loss_passes_below_zero() -> None:
    assert "0.00 % to 77.33 %" in wide_text(0.2060, 0.5673)
    assert "20.60 % ± 5.00 %" in wide_text(0.2060, 0.05)


def wide_text(loss: float, half: float) -> str:
    return agreement.text(judge(wide(loss, half), wide(loss, half)))


def test_what_was_not_run_in_both_is_no_agreement() -> None:
    found = verdicts(table(SAME), table(SAME, seeds=(1,)))
    assert found["static-min loss"] is None
    assert "6 have not been run yet" in agreement.summary_of(judge(table(SAME), table(SAME, seeds=(1,))))


def test_other_traffic_under_one_seed_is_refused() -> None:
    with pytest.raises(InputError, match="different traffic under one seed"):
        judge(table(SAME), table(SAME, plan="b"))


def test_another_sweep_is_refused() -> None:
    with pytest.raises(InputError, match="other combinations"):
        judge(table(SAME), table({"static-min": SAME["static-min"]}))


def test_the_page_and_the_text_say_what_differs() -> None:
    pair = table(SAME), table({**SAME, "static-min": (0.3, 30.0, 100.0)})
    judgements = judge(*pair)
    assert "DIFFERS" in agreement.text(judgements)
    page = render(judgements, [pair])
    assert "7 of 8 agree" in page
    assert "DIFFERS" in page


def test_the_sweeps_that_come_with_the_project_are_found() -> None:
    assert [path.name for path in agree.default_sweeps()] == ["agreement-single.yaml", "agreement.yaml"]


@pytest.mark.parametrize("other", [False, True])
def test_two_simulated_sweeps_agree_unless_one_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: bool
) -> None:
    """The command itself, with the simulation in both places: it needs no kernel."""
    scenario = (agree.places.scenarios() / "single.yaml").read_text(encoding="utf-8").replace("10s", "1s")
    (tmp_path / "single.yaml").write_text(scenario, encoding="utf-8")
    path = tmp_path / "sweep.yaml"
    path.write_text("version: 1\nname: s\nscenario: single.yaml\nseeds: 1\n", encoding="utf-8")
    monkeypatch.setattr(agree, "COMPARED", ("simulation", "simulation"))
    if other:
        monkeypatch.setattr(agreement, "BOUNDS", (agreement.Bound("p99_ms", "p99", -1.0, -1.0),))
    result = agree.agree([path], tmp_path / "out", quiet=True)
    assert result.exit_code == (EXIT_EXPECTATION_FAILED if other else EXIT_OK)
    assert {"agreement.html", "agreement.json", "agreement.txt"} <= {p.name for p in (tmp_path / "out").iterdir()}


def with_conditions(found: Any, settings: dict[str, Any], **carried_out: str) -> Any:
    known = Conditions(settings, resolved=True, carried_out=carried_out, surroundings={})
    return replace(found, trials=tuple(replace(trial, conditions=known) for trial in found.trials))


def test_engines_that_were_given_other_settings_or_inputs_are_not_compared() -> None:
    emulated = with_conditions(table(SAME), {"topology": {"link_delay": "0ms"}}, engine="emulation", model="a")
    simulated = with_conditions(table(SAME), {"topology": {"link_delay": "1ms"}}, engine="simulation", model="a")
    with pytest.raises(InputError, match="topology.link_delay differs: 0ms, 1ms"):
        judge(emulated, simulated)
    another = with_conditions(table(SAME), {"topology": {"link_delay": "0ms"}}, engine="simulation", model="b")
    with pytest.raises(InputError, match="model differs: a, b"):
        judge(emulated, another)


def test_another_version_is_said_in_text_page_and_json() -> None:
    emulated = with_conditions(table(SAME), {}, engine="emulation", version="1", **{"bpf/node": "x"})
    simulated = with_conditions(table(SAME), {}, engine="simulation", version="2")
    judgements = judge(emulated, simulated)
    said = "version differs: 1, 2"
    assert f"note: sweep: {said}" in agreement.text(judgements)
    assert said in render(judgements, [(emulated, simulated)])
    assert {record["note"] for record in agreement.to_record(judgements)} == {said}
