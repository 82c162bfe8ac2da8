"""What of runs, baselines and claims is a case of a JUnit report.

A run is a suite: its verdict, then its expectations.  Of a run that does not count (INVALID, or without an end) the
verdict is an error, and its expectations are skipped: such a run says nothing of them, whatever its figures are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from testbed.report.baseline import FigureResult
from testbed.report.claims import NO_RESULT, NOT_RUN, OPEN, ClaimOutcome
from testbed.report.compare import why_not_counted
from testbed.report.junit import Case, Suite
from testbed.report.terminal import measured
from testbed.results.outcome import EndedRun, ended
from testbed.results.recorded_run import RecordedRun


def suites_of(runs: Sequence[Path]) -> list[Suite]:
    """Return a suite for each run directory, under the name of its scenario, and of the directory where there are more.

    Raises:
        InputError: when a directory is no run, or damaged.
    """
    found = [ended(RecordedRun.open(path)) for path in runs]
    return [_suite(run, f" {run.run.path.name}" if len(runs) > 1 else "") for run in found]


def suite_of_baseline(results: Sequence[FigureResult]) -> Suite:
    """Return figures against a baseline as a suite."""
    several = len({result.run for result in results}) > 1
    return Suite("baseline", tuple(_figure(one, f"{one.run} " if several else "") for one in results))


def suite_of_claims(outcomes: Sequence[ClaimOutcome], engine: str, *, interrupted: bool = False) -> Suite:
    """Return claims as a suite; an interruption is an error in it."""
    end = [Case("end", "error", "interrupted before all claims were tested", "interrupted")] if interrupted else []
    return Suite("claims", (*map(_claim, outcomes), *end), {"engine": engine})


def _suite(run: EndedRun, place: str) -> Suite:
    facts = run.run.facts
    properties = {
        "run": str(run.run.path),
        "engine": facts.engine,
        "seed": str(facts.seed),
        "buffer.policy": facts.buffer_policy,
        "balancer.policy": facts.balancer_policy,
        "verdict": run.outcome,
    }
    return Suite(facts.scenario + place, (_verdict(run), *_expectations(run)), properties)


def _verdict(run: EndedRun) -> Case:
    reasons, time_s = run.summary.get("verdict_reasons") or (), _elapsed_s(run.run.manifest)
    if run.counts:
        return Case("verdict", details="\n".join([run.outcome, *reasons]), time_s=time_s)
    message = f"the run is {run.outcome}: {why_not_counted(run)}"
    return Case("verdict", "error", message, run.outcome, "\n".join(reasons[1:]), time_s)


def _expectations(run: EndedRun) -> Iterator[Case]:
    if not run.counts:
        message = f"not judged: the run is {run.outcome}"
        yield from (Case(text, "skipped", message) for text in run.run.facts.expect)
        return
    for result in run.summary.get("expectations", ()):
        if result["passed"]:
            yield Case(result["text"])
        else:
            yield Case(result["text"], "failure", f"{result['text']}: {measured(result)}", "expectation")


def _elapsed_s(manifest: Mapping[str, Any]) -> float:
    """Return how long a run took, set-up included; 0 where its manifest does not say."""
    try:
        began, end = (datetime.fromisoformat(manifest[f"{moment}_utc"]) for moment in ("started", "ended"))
        return max(0.0, (end - began).total_seconds())
    except (KeyError, TypeError, ValueError, OverflowError):
        return 0.0


def _figure(result: FigureResult, place: str) -> Case:
    name = f"{place}{result.figure}"
    if result.passed is None:
        return Case(name, "skipped", f"not judged: the run is {result.outcome}", details=result.words)
    return Case(name, details=result.words) if result.passed else Case(name, "failure", result.words, "regression")


def _claim(claim: ClaimOutcome) -> Case:
    findings = [f"{one.test} ({one.combination}): {one.value}; {one.outcome}" for one in claim.findings]
    message, details = f"{claim.outcome}; expected: {claim.expected}", "\n".join([claim.statement, *findings])
    if claim.outcome == NOT_RUN or (claim.outcome == OPEN and claim.expected != OPEN):
        return Case(claim.name, "skipped", message, claim.outcome, details)
    if claim.outcome == NO_RESULT:
        return Case(claim.name, "error", message, claim.outcome, details)
    if not claim.as_expected:
        return Case(claim.name, "failure", message, claim.outcome, details)
    return Case(claim.name, details=f"{message}\n{details}")
