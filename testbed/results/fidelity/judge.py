"""The verdict: all checks, and the worst of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from testbed.records.evidence import Evidence
from testbed.records.facts import RunFacts
from testbed.records.samples import NodeSamples
from testbed.results.fidelity import agents, changes, faults, link, machine, packets, senders, stalls, way, whole
from testbed.results.fidelity.check import Check, Question, Run, Verdict

SEVERITY: dict[Verdict, int] = {"VALID": 0, "DEGRADED": 1, "INVALID": 2}
_FAMILIES = (whole, senders, packets, faults, link, agents, way, stalls, changes, machine)
QUESTIONS: tuple[Question, ...] = tuple(question for family in _FAMILIES for question in family.CHECKS)


@dataclass(frozen=True, slots=True)
class Fidelity:
    """The verdict of a run and what it stands on.

    Attributes:
        verdict: VALID, DEGRADED or INVALID.
        reasons: one line for each check that is not VALID, worst first.
        checks: all checks made.
        not_checked: names of checks the engine gave no measurement for.
    """

    verdict: Verdict
    reasons: tuple[str, ...]
    checks: tuple[Check, ...]
    not_checked: tuple[str, ...] = ()

    def to_record(self) -> dict[str, Any]:
        """Return the JSON form, written to ``fidelity.json``."""
        return {
            "schema": 1,
            "verdict": self.verdict,
            "reasons": list(self.reasons),
            "checks": [dataclasses.asdict(check) for check in self.checks],
            "not_checked": list(self.not_checked),
        }


def judge(
    evidence: Evidence, rows: Mapping[str, NodeSamples], facts: RunFacts, *, interrupted: bool = False
) -> Fidelity:
    """Return the verdict of a run.

    Args:
        evidence: what the engine handed over.
        rows: the samples of each node.
        facts: the scenario's rates, interval and packet size.
        interrupted: whether the run was stopped before its end.
    """
    run = Run(evidence, facts, rows, interrupted)
    made = {question.name: question.ask(run) for question in QUESTIONS}
    checks = tuple(check for check in made.values() if check is not None)
    bad = sorted((c for c in checks if c.verdict != "VALID"), key=lambda c: -SEVERITY[c.verdict])
    verdict = bad[0].verdict if bad else "VALID"
    absent = tuple(name for name, check in made.items() if check is None)
    return Fidelity(verdict, tuple(check.reason for check in bad), checks, absent)


def check_names() -> Iterator[str]:
    """Yield the names of all checks, in the order they are made."""
    yield from (question.name for question in QUESTIONS)
