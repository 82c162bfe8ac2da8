"""JUnit XML of runs and claims: what is a failure, an error and skipped, whatever the names are and however it ends."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml
from typer.testing import CliRunner

from testbed import commands
from testbed.cli import Carried
from testbed.errors import EXIT_EXPECTATION_FAILED, EXIT_INTERRUPTED, EXIT_OK, TestbedError
from testbed.report.claims import FAILS, HOLDS, NO_RESULT, NOT_RUN, OPEN, ClaimOutcome, Finding
from testbed.report.junit import Case, Suite, reported, to_xml
from testbed.report.junit_cases import suite_of_claims
from testbed.results.run_directory import RunDirectory
from testbed.trials import claims as testing
from tests import synthetic_run
from tests.command import TINY
from tests.junit_file import RULES, Shown, breaches, cases_of

ODD = "<&\"'> ]]> \x1b[31m \x00 \udcff \ud800 \ufffe é 😀\n\tend"


def called(*words: str | Path) -> int:
    """Run the command line in this process and return its exit code."""
    done = CliRunner().invoke(commands.app, [str(word) for word in words])
    cause = done.exception.__cause__ if isinstance(done.exception, Carried) else done.exception
    if isinstance(cause, TestbedError):
        return cause.exit_code
    return EXIT_INTERRUPTED if isinstance(cause, KeyboardInterrupt) else done.exit_code


def tiny(folder: Path, **changed: Any) -> Path:
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(TINY), **changed}, sort_keys=False))
    return path


# -------------------------------------------------------------------------------------------------------- the format


def test_whatever_the_names_are_it_is_well_formed_and_they_are_told_apart() -> None:
    cases = [Case(ODD, outcome, ODD, ODD, ODD) for outcome in ("passed", "failure", "error", "skipped")]
    names = [Case(name) for name in ("a", "a (2)", "a", "a", "\x00", "\\x00", "")]
    found = cases_of(to_xml([Suite(ODD, (*cases, *names), {ODD: ODD}), Suite(ODD, ()), Suite(ODD, (Case("a"),))]))
    first = next(iter(found))[0]
    assert first == "<&\"'> ]]> \\x1b[31m \\x00 \\udcff \\ud800 \\ufffe é 😀\n\tend"
    assert {suite for suite, _ in found} == {first, f"{first} (3)"}
    assert [name for suite, name in found if suite == first][4:] == [
        *("a", "a (2)", "a (3)", "a (4)", "\\x00", "\\x00 (2)", "")
    ]
    assert found[first, first] == Shown("passed", f"{first}\n{first}")
    assert found[first, f"{first} (2)"] == Shown("failure", f"{first}\n{first}", first)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda case: case.set("file", "x"), "testcase has no attribute file"),
        (lambda case: case.set("time", "soon"), "time soon"),
        (lambda case: case.attrib.pop("name"), "testcase lacks name"),
        (lambda case: ElementTree.SubElement(case, "properties"), "properties in testcase"),
        (lambda case: ElementTree.SubElement(case, "failure"), "failures of testsuite"),
        (lambda case: ElementTree.SubElement(case, "reason"), "no element reason"),
    ],
)
def test_a_breach_of_the_rules_is_found(change: Any, found: str) -> None:
    root = ElementTree.fromstring(to_xml([Suite("a", (Case("b"),))]))
    assert breaches(root) == []
    change(next(root.iter("testcase")))
    assert found in breaches(root)


def test_the_rules_are_those_of_a_schema_where_each_child_is_an_element() -> None:
    assert {child for rule in RULES.values() for child in rule.children} <= RULES.keys()


def fail(file: Path) -> None:
    with reported(file, "run") as suites:
        suites.append(Suite("s", (Case("c"),)))
        raise ValueError('<&"')


def test_until_the_end_the_report_says_that_there_was_none(tmp_path: Path) -> None:
    file = tmp_path / "new" / "junit.xml"
    with reported(file, "run") as suites:
        assert cases_of(file) == {("run", "end"): Shown("error", "it has not ended", "unfinished")}
        suites.append(Suite("s", (Case("c"),)))
    assert cases_of(file) == {("s", "c"): Shown("passed", "")}
    with pytest.raises(ValueError, match="<&"):
        fail(file)
    assert cases_of(file) == {
        ("s", "c"): Shown("passed", ""),
        ("run", "end"): Shown("error", '<&"', "ValueError"),
    }


def test_a_report_that_cannot_be_written_is_refused_before_anything_is_run(tmp_path: Path) -> None:
    scenario, out = tiny(tmp_path), tmp_path / "run"
    (tmp_path / "file").write_text("")
    for report in (tmp_path / "file" / "junit.xml", out / "junit.xml", out / "deep" / "junit.xml"):
        assert called("simulate", scenario, "--out", out, "--quiet", "--junit", report) in (2, 4)
        assert not out.exists()


# --------------------------------------------------------------------------------------------------------------- runs


def test_an_expectation_that_fails_is_a_failure(tmp_path: Path) -> None:
    scenario = tiny(tmp_path, expect=["delay_ms.p99 < 0", "setup_s > 0", "delay_ms.p99 < 0", "traffic.sent_packets>0"])
    report = tmp_path / "junit.xml"
    words = ("simulate", scenario, "--out", tmp_path / "run", "--quiet", "--junit", report)
    assert called(*words) == EXIT_EXPECTATION_FAILED
    found = cases_of(report)
    assert found["tiny", "verdict"] == Shown("passed", "VALID")
    assert found["tiny", "traffic.sent_packets>0"].outcome == "passed"
    failed = found["tiny", "delay_ms.p99 < 0"]
    assert (failed.outcome, failed.kind) == ("failure", "expectation")
    assert failed.text.startswith("delay_ms.p99 < 0: it is ")
    assert found["tiny", "delay_ms.p99 < 0 (2)"] == failed
    assert "has no setup_s" in found["tiny", "setup_s > 0"].text
    again = tmp_path / "again.xml"
    assert called("compare", tmp_path / "run", "--junit", again) == EXIT_OK
    assert cases_of(again) == found


def test_each_trial_of_several_is_a_suite(tmp_path: Path) -> None:
    words = ("run", tiny(tmp_path), "--engine", "simulation", "--repeat", "2", "--out", tmp_path / "runs", "--quiet")
    assert called(*words, "--junit", tmp_path / "runs" / "junit.xml") == EXIT_OK
    assert [suite for suite, _ in cases_of(tmp_path / "runs" / "junit.xml")] == ["tiny", "tiny (2)"]


def test_an_invalid_run_is_an_error_and_says_nothing_of_its_expectations(tmp_path: Path) -> None:
    made = synthetic_run.make(synthetic_run.facts(seconds=2, expect=("traffic.sent_packets == 0", "setup_s < 9")))
    bad = replace(made, evidence=replace(made.evidence, cpu_idle_ratio=0.0))
    synthetic_run.write(made, tmp_path / '<&"good')
    synthetic_run.write(bad, tmp_path / "bad")
    report = tmp_path / "junit.xml"
    assert called("compare", tmp_path / '<&"good', tmp_path / "bad", "--junit", report) == EXIT_OK
    found = cases_of(report)
    assert found['made-up <&"good', "traffic.sent_packets == 0"].outcome == "failure"
    assert found['made-up <&"good', "setup_s < 9"].outcome == "passed"
    verdict = found["made-up bad", "verdict"]
    assert (verdict.outcome, verdict.kind) == ("error", "INVALID")
    assert verdict.text.startswith("the run is INVALID: ")
    for text in ("traffic.sent_packets == 0", "setup_s < 9"):
        assert found["made-up bad", text] == Shown("skipped", "not judged: the run is INVALID", "skipped")


def test_a_run_that_was_interrupted_is_an_error(tmp_path: Path) -> None:
    facts = synthetic_run.facts(seconds=2, expect=("setup_s < 9",))
    content = {"facts": facts.to_record(), "hashes": {"plan": "sha256:1"}}
    RunDirectory.create(tmp_path / "cut", content).finish("interrupted")
    report = tmp_path / "junit.xml"
    assert called("compare", tmp_path / "cut", "--junit", report) == EXIT_OK
    assert [(shown.outcome, shown.kind) for shown in cases_of(report).values()] == [
        ("error", "interrupted"),
        ("skipped", "skipped"),
    ]


@pytest.mark.parametrize(
    ("error", "said", "code"),
    [(KeyboardInterrupt(), "interrupted", EXIT_INTERRUPTED), (TestbedError("a <&", "b", "c"), "a <&: b; c", 70)],
)
def test_whatever_ends_a_run_is_in_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, said: str, code: int
) -> None:
    def fail(*_arguments: object, **_options: object) -> None:
        raise error

    monkeypatch.setattr("testbed.simulation.engine.simulate", fail)
    report = tmp_path / "junit.xml"
    words = ("simulate", tiny(tmp_path), "--out", tmp_path / "run", "--quiet", "--junit", report)
    assert called(*words) == code
    assert cases_of(report) == {("tiny", "end"): Shown("error", said, type(error).__name__)}


def test_a_scenario_that_is_wrong_is_in_the_report(tmp_path: Path) -> None:
    report = tmp_path / "junit.xml"
    assert called("simulate", tiny(tmp_path, durration="1s"), "--junit", report) == 2
    (shown,) = cases_of(report).values()
    assert shown.outcome == "error"
    assert "duration" in shown.text


# ------------------------------------------------------------------------------------------------------------- claims


def claim(name: str, outcome: str, expected: str = HOLDS) -> ClaimOutcome:
    finding = Finding('loss < 1 & "less"', "a, b", "0.5 ± 0.1", 0.5, 0.4, 0.6, outcome, 3)
    return ClaimOutcome(name, f"{name} is <true>.", expected, "", "simulation", outcome, (finding,))


CLAIMS = (
    (claim("as-found", HOLDS), "passed"),
    (claim("known", FAILS, FAILS), "passed"),
    (claim("known-open", OPEN, OPEN), "passed"),
    (claim("wrong", FAILS), "failure"),
    (claim("better", HOLDS, FAILS), "failure"),
    (claim("open", OPEN), "skipped"),
    (claim("no-result", NO_RESULT), "error"),
    (claim("no-result-either", NO_RESULT, FAILS), "error"),
    (claim("not-run", NOT_RUN), "skipped"),
    (claim("not-run-either", NOT_RUN, FAILS), "skipped"),
)


@pytest.mark.parametrize(("outcome", "shown"), CLAIMS, ids=lambda one: getattr(one, "name", one))
def test_a_claim_fails_where_the_exit_code_says_so(outcome: ClaimOutcome, shown: str) -> None:
    ((_, case),) = cases_of(to_xml([suite_of_claims([outcome], "simulation")])).items()
    assert case.outcome == shown
    assert (shown in ("failure", "error")) == (outcome.outcome != NOT_RUN and not outcome.as_expected)
    for text in (f"{outcome.name} is <true>.", 'loss < 1 & "less" (a, b): 0.5 ± 0.1', f"expected: {outcome.expected}"):
        assert text in case.text


@pytest.mark.parametrize("code", [EXIT_OK, EXIT_EXPECTATION_FAILED, EXIT_INTERRUPTED])
def test_claims_are_reported_however_they_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    outcomes = tuple(outcome for outcome, _ in CLAIMS)
    monkeypatch.setattr(testing, "claims", lambda *_, **__: testing.ClaimsResult(tmp_path, outcomes, code))
    report = tmp_path / "junit.xml"
    assert called("claims", "--quiet", "--engine", "simulation", "--junit", report) == code
    found = cases_of(report)
    assert [found["claims", outcome.name].outcome for outcome in outcomes] == [shown for _, shown in CLAIMS]
    assert (("claims", "end") in found) == (code == EXIT_INTERRUPTED)
