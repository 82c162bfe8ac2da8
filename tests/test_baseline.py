"""A stored baseline: what is a regression and what is none, by the side that is worse and the tolerance."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from testbed import commands
from testbed.errors import EXIT_EXPECTATION_FAILED, EXIT_INVALID, EXIT_OK, EXIT_TOOL_FAILED, InputError
from testbed.report import baseline
from testbed.results import baseline_file
from testbed.results.baseline_file import BaselineFigure, Tolerance
from testbed.results.run_directory import RunDirectory
from tests import synthetic_run
from tests.junit_file import cases_of


def write(folder: Path, policy: str, seed: int = 1, name: str = "", manifest: Any = None, **evidence: Any) -> Path:
    made = synthetic_run.make(synthetic_run.facts(policy, seconds=4, seed=seed))
    made = replace(made, evidence=replace(made.evidence, **evidence))
    path = folder / (name or policy)
    synthetic_run.write(made, path, **(manifest or {}))
    return path


def compare(*words: str | Path) -> tuple[int, str]:
    """Run `compare` and return exit code and output; a refusal is raised."""
    done = CliRunner().invoke(commands.app, ["compare", *(str(word) for word in words)])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """Return the baseline of a run of `lstm`, which loses little."""
    file = tmp_path / "kept" / "lstm.json"
    assert compare(write(tmp_path, "lstm"), "--baseline", file, "--write")[0] == EXIT_OK
    return file


def changed(file: Path, **figures: Any) -> Path:
    """Change figures of a baseline, such as ``buffer__loss_ratio={"value": 1}``, or take them out (None)."""
    record = json.loads(file.read_text())
    for key, value in figures.items():
        record["figures"].pop(key.replace("__", "."), None)
        if value is not None:
            record["figures"][key.replace("__", ".")] = value
    file.write_text(json.dumps(record))
    return file


def test_a_run_is_no_regression_against_itself(tmp_path: Path, stored: Path) -> None:
    code, said = compare(tmp_path / "lstm", "--baseline", stored)
    assert (code, said.count("ok  ")) == (EXIT_OK, 4)
    record = json.loads(stored.read_text())
    assert (record["scenario"], record["engine"], record["seed"]) == ("made-up", "emulation", 1)
    assert set(record["figures"]) == {"buffer.loss_ratio", "delay_ms.p99", "buffer.reserved_mb_s", "objective.cost"}
    assert record["figures"]["buffer.loss_ratio"]["tolerance"] == {"ratio": 0.1, "absolute": 0.01}


def test_a_regression_names_figure_baseline_and_bound(tmp_path: Path, stored: Path) -> None:
    worse, report = write(tmp_path, "static-min"), tmp_path / "junit.xml"
    code, said = compare(worse, "--baseline", stored, "--junit", report)
    assert code == EXIT_EXPECTATION_FAILED
    kept = json.loads(stored.read_text())["figures"]["buffer.loss_ratio"]["value"]
    loss = json.loads((worse / "summary.json").read_text())["buffer"]["loss_ratio"]
    bound = kept + max(0.01, 0.1 * kept)
    words = f"buffer.loss_ratio is {loss:.6g}, the baseline {kept:.6g}, allowed at most {bound:.6g}"
    assert f"REGRESSION  {words}" in said.splitlines()
    assert re.search(r"^ok +buffer.reserved_mb_s is ", said, re.MULTILINE)  # less memory is better
    found = cases_of(report)
    assert found["baseline", "buffer.loss_ratio"] == ("failure", words, "regression")
    assert found["baseline", "buffer.reserved_mb_s"].outcome == found["made-up", "verdict"].outcome == "passed"


def test_a_run_may_be_the_baseline(tmp_path: Path) -> None:
    better, worse = write(tmp_path, "lstm"), write(tmp_path, "static-min")
    assert compare(better, worse, "--baseline", better)[0] == EXIT_EXPECTATION_FAILED
    code, said = compare(worse, "--baseline", better, "--figure", "buffer.reserved_mb_s=0")
    assert code == EXIT_OK
    assert "loss_ratio is" not in said
    code, said = compare(worse, better, "--baseline", worse, "--json")
    assert code == EXIT_EXPECTATION_FAILED  # what expands reserves more
    results = json.loads(said[said.index("{") :])["baseline"]["results"]
    assert "buffer.reserved_mb_s" in [one["figure"] for one in results if not one["passed"]]
    assert {one["run"] for one in results} == {str(worse), str(better)}


@pytest.mark.parametrize(
    ("kept", "tolerance", "bounds"),
    [
        (80.0, Tolerance(), (80.0, 80.0)),
        (80.0, Tolerance(ratio=0.1), (88.0, 72.0)),
        (80.0, Tolerance(0.1, 10.0), (90.0, 70.0)),
        (0.0, Tolerance(ratio=0.5), (0.0, 0.0)),
        (-80.0, Tolerance(ratio=0.1), (-72.0, -88.0)),
    ],
)
def test_the_bound_lies_on_the_worse_side(kept: float, tolerance: Tolerance, bounds: tuple[float, float]) -> None:
    figure = BaselineFigure(kept, tolerance)
    assert (figure.bound(lower_is_better=True), figure.bound(lower_is_better=False)) == bounds


def test_of_a_figure_that_is_better_when_higher_less_is_worse(tmp_path: Path, stored: Path) -> None:
    goodput = json.loads((tmp_path / "lstm/summary.json").read_text())["traffic"]["goodput_bps"]
    for kept, code in ((goodput / 2, EXIT_OK), (goodput, EXIT_OK), (goodput + 1, EXIT_EXPECTATION_FAILED)):
        changed(stored, traffic__goodput_bps={"value": kept})
        assert compare(tmp_path / "lstm", "--baseline", stored)[0] == code
    assert "allowed at least" in compare(tmp_path / "lstm", "--baseline", stored)[1]


def test_a_figure_that_the_run_lacks_is_a_regression(tmp_path: Path, stored: Path) -> None:
    changed(stored, failover__detected_ms__max={"value": 100, "tolerance": {"ratio": 1}})
    code, said = compare(tmp_path / "lstm", "--baseline", stored)
    assert code == EXIT_EXPECTATION_FAILED
    assert "failover.detected_ms.max is absent, the baseline 100, allowed at most 200" in said


def test_a_run_that_does_not_count_is_not_judged(tmp_path: Path, stored: Path) -> None:
    bad, report = write(tmp_path, "static-min", cpu_idle_ratio=0.0), tmp_path / "junit.xml"
    code, said = compare(bad, "--baseline", stored, "--junit", report)
    assert code == EXIT_INVALID
    assert "REGRESSION" not in said
    assert {case.outcome for (suite, _), case in cases_of(report).items() if suite == "baseline"} == {"skipped"}
    facts = synthetic_run.facts("lstm", seconds=4)
    content = {"facts": facts.to_record(), "hashes": {"plan": f"sha256:{1:064x}"}}
    RunDirectory.create(tmp_path / "cut", content).finish("interrupted")
    assert compare(tmp_path / "cut", "--baseline", stored)[0] == EXIT_TOOL_FAILED


@pytest.mark.parametrize(
    ("text", "tolerance"),
    [
        ("delay_ms.p99", Tolerance(ratio=0.1)),
        ("delay_ms.p99=5%", Tolerance(ratio=0.05)),
        ("delay_ms.p99=2.5", Tolerance(absolute=2.5)),
        ("delay_ms.p99=0", Tolerance()),
    ],
)
def test_a_figure_is_named_with_its_tolerance(tmp_path: Path, text: str, tolerance: Tolerance) -> None:
    file = baseline.store(tmp_path / "b.json", [write(tmp_path, "lstm")], [text])
    assert {name: one.tolerance for name, one in baseline_file.read(file).figures.items()} == {
        "delay_ms.p99": tolerance
    }


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("lstm", "--figure", "delay_ms.p9", "--write"), "did you mean `delay_ms.p99`"),
        (("lstm", "--figure", "traffic.sent_packets", "--write"), "neither more nor less of it is better"),
        (("lstm", "--figure", "delay_ms.p99=-1", "--write"), "'-1' is no tolerance"),
        (("lstm", "--figure", "delay_ms.p99=", "--write"), "'' is no tolerance"),
        (("lstm", "--figure", "delay_ms.p99=nan", "--write"), "is no tolerance"),
        (("lstm", "--figure", "failover.detected_ms.max", "--write"), "its summary has no failover.detected_ms.max"),
        (("lstm", "--figure", "delay_ms.p99"), "has its own figures and tolerances"),
        (("lstm", "static-min", "--write"), "2 runs were named"),
        (("bad", "--write"), "it is INVALID"),
        (("other-seed",), "seed of .* is 2, that of the baseline 1"),
        (("other-traffic",), "different traffic"),
    ],
)
def test_what_cannot_be_compared_or_stored_is_refused(
    tmp_path: Path, stored: Path, words: tuple[str, ...], said: str
) -> None:
    write(tmp_path, "static-min")
    write(tmp_path, "lstm", name="bad", cpu_idle_ratio=0.0)
    write(tmp_path, "lstm", seed=2, name="other-seed")
    write(tmp_path, "lstm", name="other-traffic", manifest={"hashes": {"plan": "sha256:other"}})
    before = stored.read_bytes()
    runs = [tmp_path / word if (tmp_path / word).exists() else word for word in words]
    with pytest.raises(InputError, match=said):
        compare(*runs, "--baseline", stored)
    assert stored.read_bytes() == before


def test_what_is_different_is_allowed_on_request_and_said(tmp_path: Path, stored: Path) -> None:
    other = write(tmp_path, "lstm", seed=2, name="other")
    code, said = compare(other, "--baseline", stored, "--allow-different")
    assert code in (EXIT_OK, EXIT_EXPECTATION_FAILED)
    assert f"note: seed of {other} is 2, that of the baseline 1" in said


def test_options_of_a_baseline_need_one(tmp_path: Path) -> None:
    run = write(tmp_path, "lstm")
    for words in (("--write",), ("--figure", "delay_ms.p99")):
        with pytest.raises(InputError, match="name it with --baseline"):
            compare(run, *words)
    with pytest.raises(InputError, match="it is a directory"):
        compare(run, "--baseline", run, "--write")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "it is not valid JSON"),
        ("{}", "not of schema 1"),
        ('{"schema": 1}', "scenario: field required"),
        (
            '{"schema": 1, "scenario": "a", "engine": "b", "seed": 1, "plan": null, "figures": {"x": {"value": 1}}}',
            "'x'",
        ),
        (
            '{"schema": 1, "scenario": "a", "engine": "b", "seed": 1, "plan": null, '
            '"figures": {"delay_ms.p99": {"value": 1, "tolerance": {"ratio": -1}}}}',
            "ratio: input should be greater",
        ),
    ],
)
def test_a_damaged_baseline_is_refused(tmp_path: Path, content: str, said: str) -> None:
    file = tmp_path / "b.json"
    file.write_text(content)
    with pytest.raises(InputError, match=said):
        baseline_file.read(file)
    with pytest.raises(InputError, match="--baseline FILE --write"):
        baseline_file.read(tmp_path / "none.json")
