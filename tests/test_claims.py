"""Claims: what holds, what does not, what is not decided, and what would decide."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from testbed.errors import (
    EXIT_EXPECTATION_FAILED,
    EXIT_INTERRUPTED,
    EXIT_INVALID,
    EXIT_OK,
    EXIT_TOOL_FAILED,
    InputError,
)
from testbed.report import claims as outcomes
from testbed.report.claims import FAILS, HOLDS, NO_RESULT, NOT_RUN, OPEN, seeds_needed
from testbed.report.compare import Row
from testbed.report.sweep_table import CombinationRow, SweepTable, TrialRow
from testbed.results.confidence import student_t
from testbed.scenario.claim import LoadedClaim, TestSpec, load_claim
from testbed.scenario.sweep import load_sweep
from testbed.trials import claims as testing
from testbed.trials.sweep import SweepResult, checked

CLAIM = """\
version: 1
name: less
statement: b loses less than a.
sweep: {scenario: small.yaml, set: {buffer.policy: [static-min, static-max]}, seeds: 2}
quick: {seeds: 2, set: {duration: 1s}}
engines: [simulation]
tests:
  - {quantity: buffer.reserved_mb_s, of: {buffer.policy: static-max}, over: {buffer.policy: static-min}, above: 2}
"""
SCENARIO = """\
version: 1
name: small
duration: 2s
topology: {family: single, node_rate: 40Mbit}
traffic:
  - {name: base, from: c1, shape: constant, rate: 10Mbit}
"""


def write(folder: Path, text: str = CLAIM, name: str = "claim") -> Path:
    (folder / "small.yaml").write_text(SCENARIO)
    path = folder / f"{name}.yaml"
    path.write_text(text)
    return path


def judged(test: dict[str, Any], values: dict[str, list[float]], sent: int = 1000) -> outcomes.Finding:
    """Judge a test over policies by the losses of their runs, a seed each."""
    rows, trials, summaries = [], [], {}
    for policy, losses in values.items():
        parameters = {"buffer.policy": policy}
        rows.append(CombinationRow(parameters, tuple(range(len(losses))), len(losses), {}))
        for seed, loss in enumerate(losses):
            name = f"{policy}-{seed}"
            summaries[name] = {"buffer": {"loss_ratio": loss}, "traffic": {"sent_packets": sent}}
            trials.append(TrialRow(parameters, Row(name, policy, "hash", "simulation", seed, "VALID"), "a", {}))
    table = SweepTable("s", "s", "", ("buffer.policy",), tuple(rows), tuple(trials), (), ())
    spec = TestSpec.model_validate({"quantity": "buffer.loss_ratio", **test})
    (parameters,) = [row.parameters for row in rows if spec.is_about(dict(row.parameters))]
    return outcomes._finding(spec, parameters, table, lambda trial: summaries[trial.row.name])


OF_B = {"of": {"buffer.policy": "b"}}


@pytest.mark.parametrize(
    ("test", "values", "outcome"),
    [
        ({"below": 0.3}, {"b": [0.10, 0.11, 0.12]}, HOLDS),
        ({"below": 0.05}, {"b": [0.10, 0.11, 0.12]}, FAILS),
        ({"below": 0.115}, {"b": [0.10, 0.11, 0.12]}, OPEN),
        ({"above": 0.05}, {"b": [0.10, 0.11, 0.12]}, HOLDS),
        ({"between": [0.0, 0.2]}, {"b": [0.10, 0.11, 0.12]}, HOLDS),
        ({"between": [0.2, 0.3]}, {"b": [0.10, 0.11, 0.12]}, FAILS),
        ({"minus": {"buffer.policy": "a"}, "below": 0}, {"a": [0.1, 0.2], "b": [0.1, 0.2]}, FAILS),  # equal is not less
        ({"below": 0.3}, {"b": [0.10]}, OPEN),  # one seed has no interval
        ({"minus": {"buffer.policy": "a"}, "below": 0}, {"a": [0.5, 0.1, 0.9], "b": [0.4, 0.0, 0.81]}, HOLDS),
        ({"over": {"buffer.policy": "a"}, "below": 0.5}, {"a": [1.0, 2.0, 4.0], "b": [0.4, 0.8, 1.6]}, HOLDS),
        ({"minus": {"buffer.policy": "a"}, "below": 0}, {"a": [], "b": [0.1, 0.2]}, NOT_RUN),
        ({"zero": True}, {"b": [0, 0]}, HOLDS),
        ({"zero": True}, {"b": [0, 1]}, FAILS),
    ],
)
def test_the_interval_decides(test: dict[str, Any], values: dict[str, list[float]], outcome: str) -> None:
    assert judged({**OF_B, **test}, values).outcome == outcome


def test_none_of_so_many_has_its_bound() -> None:
    found = judged({**OF_B, "zero": True}, {"b": [0, 0, 0]}, sent=1000)
    assert found.value == "0 of 3,000 packets, at most 0.000998 each"  # 1 - 0.05^(1/3000)


def test_the_seeds_that_would_decide_do_decide() -> None:
    values = [0.10, 0.11, 0.12, 0.09]
    found = judged({**OF_B, "below": 0.112}, {"b": values})
    assert found.outcome == OPEN
    n = found.needed
    assert n is not None
    spread, distance = 0.012909944487358056, 0.112 - 0.105
    assert student_t(n - 1) * spread / n**0.5 < distance <= student_t(n - 2) * spread / (n - 1) ** 0.5
    assert seeds_needed([0.1, 0.2, 0.15], (float("-inf"), 0.15)) is None  # the mean lies on the bound


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (("above: 2", "above: 2, below: 3"), "exactly one of below, above"),
        (("static-max}, over", "holt}, over"), "'holt' is not among the values of sweep.set.buffer.policy"),
        (("engines:", "engnes:"), "did you mean 'engines'"),
        (("statement: b loses less than a.\n", ""), "statement"),
    ],
)
def test_a_wrong_claim_is_refused_with_its_line(tmp_path: Path, changed: tuple[str, str], said: str) -> None:
    with pytest.raises(InputError, match=re.escape(said)) as raised:
        load_claim(write(tmp_path, CLAIM.replace(*changed)))
    assert "claim.yaml:" in str(raised.value)


def test_claims_are_run_judged_written_and_resumed(tmp_path: Path) -> None:
    expected_otherwise = CLAIM.replace("name: less", "name: other").replace("tests:", "expected: does not hold\ntests:")
    paths = [write(tmp_path), write(tmp_path, expected_otherwise, "other")]
    out = tmp_path / "out"
    result = testing.claims(paths, out, "simulation", quick=True, quiet=True)
    assert [one.outcome for one in result.outcomes] == [HOLDS, HOLDS]
    assert result.exit_code == EXIT_EXPECTATION_FAILED
    assert "not as expected: other" in (out / "claims.html").read_text()
    assert "## less: holds" in (out / "claims.md").read_text()
    made = {path: path.stat().st_mtime_ns for path in out.rglob("summary.json")}
    again = testing.claims(paths[:1], out, "simulation", quick=True, quiet=True)
    assert again.exit_code == EXIT_OK
    assert {path: path.stat().st_mtime_ns for path in out.rglob("summary.json")} == made
    assert json.loads((out / "claims.json").read_text())[0]["findings"][0]["outcome"] == HOLDS


def test_a_claim_about_another_engine_is_not_run(tmp_path: Path) -> None:
    result = testing.claims([write(tmp_path)], tmp_path / "out", "emulation", quiet=True)
    assert [one.outcome for one in result.outcomes] == [NOT_RUN]


def test_the_claims_that_come_with_the_project_are_sound(tmp_path: Path) -> None:
    paths = testing.default_claims()
    assert len(paths) >= 7
    for path in paths:
        claim: LoadedClaim = load_claim(path)
        assert claim.spec.name == path.stem
        for quick in (True, False):
            file = tmp_path / f"{path.stem}-{quick}.yaml"
            file.write_text(json.dumps(claim.sweep_data(quick=quick)))
            assert len(load_sweep(file).trials) >= 2


def test_a_scenario_that_is_a_link_to_itself_is_refused_in_words(tmp_path: Path) -> None:
    claim = load_claim(write(tmp_path))
    (tmp_path / "small.yaml").unlink()
    (tmp_path / "small.yaml").symlink_to("small.yaml")
    with pytest.raises(InputError, match="there is no file"):
        checked(testing.write_sweep(claim, tmp_path / "out", quick=True))


def without_runs(folder: Path, monkeypatch: pytest.MonkeyPatch, code: int, *claims: str) -> testing.ClaimsResult:
    """Test claims whose sweeps end without a run that counts."""
    paths = [write(folder, text, f"claim{number}") for number, text in enumerate(claims)]
    row = CombinationRow({"buffer.policy": "static-max"}, (), 0, {})
    table = SweepTable("less", "s", "", ("buffer.policy",), (row,), (), (), ())
    monkeypatch.setattr(
        testing.sweep, "sweep", lambda _, path, *__, **___: SweepResult(path, table, code, 0)
    )  # fmt: skip
    return testing.claims(paths, folder / "out", "simulation", quick=True, quiet=True)


@pytest.mark.parametrize(
    ("of_sweep", "code"),
    [
        (EXIT_INVALID, EXIT_INVALID),
        (EXIT_TOOL_FAILED, EXIT_TOOL_FAILED),
        (EXIT_OK, EXIT_EXPECTATION_FAILED),  # all ran, and none has the figure
        (EXIT_EXPECTATION_FAILED, EXIT_EXPECTATION_FAILED),
        (EXIT_INTERRUPTED, EXIT_INTERRUPTED),
    ],
)
def test_a_claim_without_valid_runs_is_no_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, of_sweep: int, code: int
) -> None:
    result = without_runs(tmp_path, monkeypatch, of_sweep, CLAIM)
    assert [one.outcome for one in result.outcomes] == [NO_RESULT]
    assert result.exit_code == code
    assert "1 no result; not as expected: less" in (tmp_path / "out" / "claims.md").read_text()


def test_the_gravest_of_several_claims_is_the_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = CLAIM.replace("name: less", "name: other").replace("engines: [simulation]", "engines: [emulation]")
    result = without_runs(tmp_path, monkeypatch, EXIT_INVALID, CLAIM, elsewhere)
    assert [one.outcome for one in result.outcomes] == [NO_RESULT, NOT_RUN]
    assert result.exit_code == EXIT_INVALID
    assert without_runs(tmp_path, monkeypatch, EXIT_INVALID, elsewhere).exit_code == EXIT_OK
