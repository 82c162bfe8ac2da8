"""The outcome of claims: holds, does not hold, not decided, each with the figure, its interval, and what would decide.

The figure of a combination is a mean over the seeds with its 95 % interval (Student), of differences or ratios where
the claim compares two combinations under the same seeds.  It *holds* where the whole interval lies within the bounds,
*does not hold* where all of it lies beyond one, and is *not decided* else.  Then the number of seeds that would decide
is the least n with ``t(n-1) s / sqrt(n)`` below the distance of the mean from the bound, if both stay as they are.
A claim that was tested but lacks a figure has *no result*: the runs of a combination are INVALID, failed or lack it.

A count that is to be 0 (`zero`) holds when it is 0 in every run; of N packets sent, a loss of up to p per packet would
still have shown none in one case of twenty (`confidence.at_most_ratio`), and p is stated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import stdev
from typing import Any

from testbed.report.sweep_table import SweepTable, TrialRow
from testbed.report.written import count, figure, short
from testbed.results.confidence import LEVEL, Estimate, estimate, student_t
from testbed.results.recorded_run import RecordedRun
from testbed.scenario.claim import LoadedClaim, TestSpec

HOLDS, FAILS, OPEN, NOT_RUN = "holds", "does not hold", "not decided", "not run"
NO_RESULT = "no result"
OUTCOMES = (HOLDS, FAILS, OPEN, NO_RESULT, NOT_RUN)
_MOST_SEEDS = 1000
SummaryOf = Callable[[TrialRow], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Finding:
    """One test at one combination.

    Attributes:
        test: in words.
        combination: its values.
        value: the figure with its interval, as text.
        mean, low, high: the same as numbers; None where unknown.
        outcome: one of `OUTCOMES` but ``no result``.
        seeds: how many there were.
        needed: how many seeds would decide; None where it is decided, or no number below 1000 would.
    """

    test: str
    combination: str
    value: str
    mean: float | None
    low: float | None
    high: float | None
    outcome: str
    seeds: int
    needed: int | None = None


@dataclass(frozen=True, slots=True)
class ClaimOutcome:
    """What became of a claim."""

    name: str
    statement: str
    expected: str
    note: str
    engine: str
    outcome: str
    findings: tuple[Finding, ...]

    @property
    def as_expected(self) -> bool:
        """Return whether it came out as its authors found it, or too few seeds were run to say otherwise."""
        return self.outcome in (self.expected, OPEN)

    def to_record(self) -> dict[str, Any]:
        """Return the outcome as JSON data."""
        return asdict(self)


def judge(claim: LoadedClaim, table: SweepTable, folder: Path, engine: str) -> ClaimOutcome:
    """Return the outcome of a claim whose sweep lies in `folder`."""

    def summary_of(trial: TrialRow) -> Mapping[str, Any]:
        return RecordedRun.open(folder / trial.row.name).document("summary.json") or {}

    found = tuple(_finding(test, parameters, table, summary_of) for test, parameters in _pairs(claim, table))
    outcome = outcome_of(claim, engine, found)
    return replace(outcome, outcome=NO_RESULT) if outcome.outcome == NOT_RUN else outcome


def outcome_of(claim: LoadedClaim, engine: str, findings: Sequence[Finding]) -> ClaimOutcome:
    """Return the outcome of all tests together: the weakest of them."""
    outcomes = {finding.outcome for finding in findings} or {NOT_RUN}
    outcome = next(word for word in (FAILS, NOT_RUN, OPEN, HOLDS) if word in outcomes)
    spec = claim.spec
    return ClaimOutcome(spec.name, spec.statement, spec.expected, spec.note, engine, outcome, tuple(findings))


def _pairs(claim: LoadedClaim, table: SweepTable) -> list[tuple[TestSpec, Mapping[str, str]]]:
    return [
        (test, row.parameters)
        for test in claim.spec.tests
        for row in table.combinations
        if test.is_about(dict(row.parameters)) and not _is_its_rival(test, row.parameters)
    ]


def _is_its_rival(test: TestSpec, parameters: Mapping[str, str]) -> bool:
    """Return whether a combination is the one that the test compares others with."""
    return bool(test.against) and {**parameters, **test.against} == dict(parameters)


def _finding(test: TestSpec, parameters: Mapping[str, str], table: SweepTable, summary_of: SummaryOf) -> Finding:
    head = (test.words, ", ".join(parameters.values()) or "all")
    ours = _by_seed(parameters, table)
    if test.zero:
        return _zero(head, [summary_of(trial) for trial in ours.values()], test.quantity)
    theirs = _by_seed({**parameters, **test.against}, table) if test.against else {}
    values = [
        value
        for seed, trial in ours.items()
        if (value := _value(test, trial, theirs.get(seed), summary_of)) is not None
    ]
    found = estimate(values)
    if found is None:
        return Finding(*head, "–", None, None, None, NOT_RUN, 0)
    return _judged(head, found, values, test.interval)


def _by_seed(parameters: Mapping[str, str], table: SweepTable) -> dict[int | None, TrialRow]:
    return {trial.row.seed: trial for trial in table.trials if dict(trial.parameters) == dict(parameters)}


def _value(test: TestSpec, ours: TrialRow, theirs: TrialRow | None, summary_of: SummaryOf) -> float | None:
    """Return the figure of one seed, None where a run lacks it or has no partner."""
    value = figure(summary_of(ours), test.quantity)
    if not test.against or value is None:
        return None if value is None else float(value)
    other = None if theirs is None else figure(summary_of(theirs), test.quantity)
    if other is None or (test.over and not other):
        return None
    return float(value / other if test.over else value - other)


def _judged(head: tuple[str, str], found: Estimate, values: Sequence[float], interval: tuple[float, float]) -> Finding:
    least, most = interval
    low, high = found.bounds()
    text = short(found.mean) + ("" if found.half_width is None else f" ± {short(found.half_width)}")
    if found.half_width is None:
        return Finding(*head, text, found.mean, None, None, OPEN, 1, 2)
    beyond = high <= least or low >= most  # what is equal is not below
    outcome = HOLDS if least < low and high < most else FAILS if beyond else OPEN
    needed = seeds_needed(values, interval) if outcome == OPEN else None
    return Finding(*head, text, found.mean, low, high, outcome, found.count, needed)


def seeds_needed(values: Sequence[float], interval: tuple[float, float]) -> int | None:
    """Return how many seeds would decide, if mean and spread stay as they are; None where 1000 would not."""
    mean, spread = sum(values) / len(values), stdev(values)
    distance = min(abs(mean - bound) for bound in interval)
    for n in range(len(values) + 1, _MOST_SEEDS + 1):
        if student_t(n - 1) * spread / math.sqrt(n) < distance:
            return n
    return None


def _zero(head: tuple[str, str], summaries: Sequence[Mapping[str, Any]], quantity: str) -> Finding:
    counts = [figure(summary, quantity) for summary in summaries]
    known = [float(one) for one in counts if one is not None]
    if not known or len(known) < len(counts):
        return Finding(*head, "–", None, None, None, NOT_RUN, 0)
    sent = sum(int(figure(summary, "traffic.sent_packets") or 0) for summary in summaries)
    total = sum(known)
    at_most = 1 - (1 - LEVEL) ** (1 / sent) if sent else 1.0  # `at_most_ratio` of 0, whose sums are too long here
    text = f"{count(total)} of {count(sent)} packets" + (f", at most {short(at_most)} each" if not total else "")
    return Finding(*head, text, total, None, None, FAILS if total else HOLDS, len(known))


# ---------------------------------------------------------------------------------------------------- as text and page

HEADERS = ("claim", "outcome", "expected", "test", "combination", "figure", "seeds", "would decide")


def cells_of(outcomes: Sequence[ClaimOutcome]) -> list[list[str]]:
    """Return a row for each test and combination; a claim that was not run has one."""
    rows = []
    for one in outcomes:
        for k, found in enumerate(one.findings or [Finding("–", "–", "–", None, None, None, NOT_RUN, 0)]):
            head = [one.name, one.outcome, one.expected] if k == 0 else ["", "", ""]
            needed = (
                "" if found.outcome != OPEN else f"{found.needed} seeds" if found.needed else "more than 1000 seeds"
            )
            mark = "" if found.outcome == one.outcome else f" ({found.outcome})"
            rows.append([*head, found.test, found.combination, found.value + mark, str(found.seeds), needed])
    return rows


def summary_of(outcomes: Sequence[ClaimOutcome]) -> str:
    """Return how many came out how, in words."""
    parts = [f"{n} {word}" for word in OUTCOMES if (n := sum(o.outcome == word for o in outcomes))]
    other = [one.name for one in outcomes if not one.as_expected and one.outcome != NOT_RUN]
    return f"{len(outcomes)} claims: {', '.join(parts)}" + (f"; not as expected: {', '.join(other)}" if other else "")


def markdown(outcomes: Sequence[ClaimOutcome]) -> str:
    """Return the outcomes as Markdown."""
    lines = ["# Claims", "", f"{summary_of(outcomes)}.", ""]
    for one in outcomes:
        lines += [f"## {one.name}: {one.outcome}", "", f"{one.statement} ({one.engine}; expected: {one.expected})", ""]
        lines += [f"{one.note}", ""] if one.note else []
        lines += ["| test | combination | figure | outcome | seeds | would decide |", "|---|---|---|---|---|---|"]
        lines += [
            f"| {f.test} | {f.combination} | {f.value} | {f.outcome} | {f.seeds} | {f.needed or ''} |"
            for f in one.findings
        ]
        lines.append("")
    return "\n".join(lines)
