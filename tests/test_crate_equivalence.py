"""Are emulated runs that were made again equivalent?  One run by tolerance, several seeds by their interval."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from testbed.crate.comparing import DIFFERS, OPEN, REPRODUCED, Pair, compared, together
from testbed.results.outcome import EndedRun, ended
from testbed.results.recorded_run import RecordedRun
from tests import synthetic_run

MACHINE = {"kernel": "Linux 6.1.0", "cpu": "A", "usable_cores": 8}


def written(path: Path, seed: int, change: Callable[[dict[str, Any]], Any], **machine: Any) -> EndedRun:
    """Write a run whose summary is changed, and return how it ended."""
    facts = synthetic_run.facts("reactive", seconds=2, seed=seed)
    synthetic_run.write(synthetic_run.make(facts), path, machine={**MACHINE, **machine})
    summary = json.loads((path / "summary.json").read_text())
    summary["buffer"]["loss_ratio"] = 0.10
    change(summary)
    (path / "summary.json").write_text(json.dumps(summary))
    return ended(RecordedRun.open(path))


def pair(folder: Path, seed: int = 1, loss: float = 0.10, verdict: str = "VALID", **machine: Any) -> Pair:
    """Return a run that lost a tenth, and the same made again with another loss and verdict, on another machine."""

    def change(summary: dict[str, Any]) -> None:
        summary["buffer"]["loss_ratio"], summary["verdict"] = loss, verdict
        summary["verdict_reasons"] = [] if verdict == "VALID" else ["cpu_idle: the machine had 1 % left"]

    about = {"path": f"data/{seed}", "engine": "emulation", "version": "1.0"}
    packed = written(folder / f"packed{seed}", seed, lambda _: None)
    return Pair(about, packed, written(folder / f"made{seed}", seed, change, **machine))


@pytest.mark.parametrize(
    ("change", "outcome", "why"),
    [
        ({}, REPRODUCED, "within the tolerance"),
        ({"loss": 0.109}, REPRODUCED, "within the tolerance"),
        ({"loss": 0.12}, DIFFERS, r"buffer.loss_ratio is 0.12, it was 0.1, allowed ± 1.00 %"),
        ({"loss": 0.12}, DIFFERS, "variation between emulated runs: repeat with several seeds"),
        ({"loss": 0.12, "kernel": "Linux 5.15.0"}, DIFFERS, "another kernel (Linux 6.1.0, here Linux 5.15.0)"),
        ({"loss": 0.12, "usable_cores": 2}, DIFFERS, "another number of processors (8, here 2)"),
        (
            {"loss": 0.12, "verdict": "DEGRADED"},
            DIFFERS,
            "the run here is DEGRADED: cpu_idle: the machine had 1 % left",
        ),
        (
            {"verdict": "INVALID"},
            DIFFERS,
            "it is INVALID here, but was VALID; likely cause: the run here is INVALID: cpu",
        ),
    ],
)
def test_one_run_is_compared_by_tolerance(tmp_path: Path, change: dict[str, Any], outcome: str, why: str) -> None:
    found = compared(pair(tmp_path, **change), "1.0")
    assert (found.outcome, found.decides) == (outcome, True)
    assert why in found.why


def test_another_version_is_the_first_cause(tmp_path: Path) -> None:
    assert "likely cause: another version (1.0, here 2.0)" in compared(pair(tmp_path, loss=0.2), "2.0").why


@pytest.mark.parametrize(
    ("losses", "outcome", "why"),
    [
        ([0.102, 0.100, 0.103, 0.099], REPRODUCED, "buffer.loss_ratio differs by 0.1 % ± 0.29 %, allowed ± 1.00 %"),
        ([0.13, 0.131, 0.129, 0.13], DIFFERS, "buffer.loss_ratio differs by 3.00 % ± 0.13 %, allowed ± 1.00 %; likely"),
        ([0.13, 0.09, 0.12, 0.08], OPEN, "buffer.loss_ratio differs by 0.50 % ± 3.79 %, allowed ± 1.00 %"),
    ],
)
def test_several_seeds_are_tested_together(tmp_path: Path, losses: list[float], outcome: str, why: str) -> None:
    pairs = [pair(tmp_path, seed, loss) for seed, loss in enumerate(losses, 1)]
    *single, all_of_them = together([(compared(one, "1.0"), one) for one in pairs], "1.0")
    assert (all_of_them.run, all_of_them.outcome) == ("data/1 and 3 other seeds", outcome)
    assert why in all_of_them.why
    assert [one.decides for one in (*single, all_of_them)] == [False] * 4 + [True]


def test_a_seed_that_is_invalid_decides_for_itself(tmp_path: Path) -> None:
    pairs = [pair(tmp_path, 1), pair(tmp_path, 2), pair(tmp_path, 3, verdict="INVALID")]
    found = together([(compared(one, "1.0"), one) for one in pairs], "1.0")
    assert [(one.outcome, one.decides) for one in found] == [
        (REPRODUCED, False), (REPRODUCED, False), (DIFFERS, True), (REPRODUCED, True),
    ]  # fmt: skip
