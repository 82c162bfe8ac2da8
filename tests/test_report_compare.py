"""The comparison of runs: same traffic or none, INVALID never averaged, the gain by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from testbed.errors import InputError
from testbed.report.compare import Comparison, compare
from testbed.report.compare_page import render
from testbed.results.run_directory import RunDirectory
from tests import synthetic_run


def write(folder: Path, policy: str, seed: int = 1, name: str = "", manifest: Any = None, **evidence: Any) -> Path:
    made = synthetic_run.make(synthetic_run.facts(policy, seconds=4, seed=seed))
    made = replace(made, evidence=replace(made.evidence, **evidence))
    path = folder / (name or f"{policy}-{seed}")
    synthetic_run.write(made, path, **(manifest or {}))
    return path


def row_of(comparison: Comparison, name: str) -> Any:
    return next(row for row in (*comparison.rows, *comparison.means) if row.name == name)


def test_the_gain_is_between_the_floor_and_the_oracle(tmp_path: Path) -> None:
    comparison = compare([write(tmp_path, policy) for policy in ("static-min", "reactive", "lstm", "oracle")])
    assert [row.gain_ratio for row in comparison.rows] == [0.0, 1.0, 1.0, 1.0]
    assert row_of(comparison, "static-min-1").loss_ratio > 0.05
    assert row_of(comparison, "lstm-1").reserved_mb_s > row_of(comparison, "static-min-1").reserved_mb_s
    assert comparison.notes == ()


def test_without_a_baseline_there_is_no_gain(tmp_path: Path) -> None:
    comparison = compare([write(tmp_path, "static-min"), write(tmp_path, "lstm")])
    assert [row.gain_ratio for row in comparison.rows] == [None, None]
    assert "–" in comparison.text()


def test_an_invalid_run_is_shown_marked_and_never_averaged(tmp_path: Path) -> None:
    runs = [write(tmp_path, "lstm", seed) for seed in (1, 2)]
    bad = write(tmp_path, "lstm", 3, cpu_idle_ratio=0.0)
    comparison = compare([*runs, bad])
    (mean,) = comparison.means
    assert (mean.name, mean.runs) == ("mean of 2", 2)
    assert mean.reserved_mb_s == pytest.approx(sum(row.reserved_mb_s or 0 for row in comparison.rows[:2]) / 2)
    assert "INVALID" in comparison.text()
    assert comparison.notes == ("in no mean and no baseline: lstm-3",)


def test_an_invalid_baseline_is_no_baseline(tmp_path: Path) -> None:
    runs = [write(tmp_path, "static-min", cpu_idle_ratio=0.0), write(tmp_path, "lstm"), write(tmp_path, "oracle")]
    assert [row.gain_ratio for row in compare(runs).rows] == [None, None, None]


def test_other_traffic_under_one_seed_is_refused_unless_allowed(tmp_path: Path) -> None:
    runs = [write(tmp_path, "lstm"), write(tmp_path, "reactive", manifest={"hashes": {"plan": "sha256:other"}})]
    with pytest.raises(InputError, match="same seed and different traffic"):
        compare(runs)
    allowed = compare(runs, allow_different=True)
    assert "same seed and different traffic" in allowed.notes[0]


def test_a_run_without_a_plan_hash_proves_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no hash"):
        compare([write(tmp_path, "lstm", manifest={"hashes": {}})])


def test_another_scenario_is_refused_unless_allowed(tmp_path: Path) -> None:
    other = {"facts": {**synthetic_run.facts("lstm").to_record(), "scenario": "another"}}
    runs = [write(tmp_path, "lstm"), write(tmp_path, "lstm", name="other", manifest=other)]
    with pytest.raises(InputError, match="of scenario another"):
        compare(runs)
    assert compare(runs, allow_different=True).scenario == "another, made-up"


def test_settings_that_differ_are_said(tmp_path: Path) -> None:
    wide = {"facts": {**synthetic_run.facts("lstm", seconds=4).to_record(), "cap_bytes": 5}}
    comparison = compare([write(tmp_path, "lstm"), write(tmp_path, "lstm", name="wide", manifest=wide)])
    assert comparison.notes == ("cap_bytes differs: 10000000, 5",)


def test_a_run_without_an_end_is_shown_by_its_status(tmp_path: Path) -> None:
    facts = synthetic_run.facts("lstm", seconds=4)
    content = {"facts": facts.to_record(), "hashes": {"plan": f"sha256:{1:064x}"}}
    RunDirectory.create(tmp_path / "cut", content).finish("interrupted")
    comparison = compare([write(tmp_path, "lstm"), tmp_path / "cut"])
    assert row_of(comparison, "cut").verdict == "interrupted"
    assert not row_of(comparison, "cut").counts
    assert comparison.rows[1].loss_ratio is None


def test_the_text_is_a_table(tmp_path: Path) -> None:
    lines = compare([write(tmp_path, "static-min"), write(tmp_path, "lstm")]).text().splitlines()
    assert lines[0] == "scenario made-up"
    assert lines[1].split("  ")[0] == "run"
    assert "reserved MB·s" in lines[1]
    column = lines[1].index("verdict")
    assert {line[column : column + 5] for line in lines[3:5]} == {"VALID"}


def test_the_page_has_chart_and_tables(tmp_path: Path) -> None:
    page = render(compare([write(tmp_path, "static-min", seed) for seed in (1, 2)]))
    assert "Loss against memory" in page
    assert "mean of 2" in page
    only_bad = render(compare([write(tmp_path, "lstm", cpu_idle_ratio=0.0)]))
    assert "Loss against memory" not in only_bad
    assert "INVALID" in only_bad
