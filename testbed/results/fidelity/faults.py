"""Checks of the faults of the scenario: each was observed, and on time."""

from __future__ import annotations

from testbed.results.fidelity.check import A_QUIETER_MACHINE, Bound, Measured, Question, Run
from testbed.results.fidelity.stalls import STALL_MS
from testbed.units import NS_PER_MS

# If a fault was not observed, the run does not show its effect.
FAULTS_UNSEEN = Bound(0, 0)


def _seen(run: Run) -> Measured | None:
    unseen = run.evidence.faults_unseen
    if unseen is None:
        return None
    return Measured(len(unseen), {"which": ", ".join(unseen)} if unseen else {})


def _on_time(run: Run) -> Measured | None:
    """A fault is ordered from the outside as a stage acts: late by as much as a stage may stand still."""
    ordered = run.evidence.ordered
    if not ordered:
        return Measured(0.0) if run.evidence.faults_unseen is not None else None
    latest = max(ordered, key=lambda fault: fault.began_ns - fault.at_ns)
    seen = {"which": " ".join([latest.kind, *latest.nodes])}
    return Measured((latest.began_ns - latest.at_ns) / NS_PER_MS, seen)


CHECKS = (
    Question(
        "faults not seen to happen",
        "a fault of the scenario, or its end, was commanded and not observed",
        "look at the fault's records in events.jsonl",
        _seen,
        FAULTS_UNSEEN,
        "faults",
    ),
    Question(
        "faults carried out late",
        "a fault began or ended later than the scenario says",
        A_QUIETER_MACHINE,
        _on_time,
        STALL_MS,
        "ms",
    ),
)
