"""Checks of the run as a whole: it ran to its end, with the processes it started with."""

from __future__ import annotations

from testbed.results.fidelity.check import Bound, Measured, Question, Run
from testbed.units import NS_PER_S

# Measurements until then are correct, but a part of the scenario did not run, so every result has a caveat.
INTERRUPTIONS = Bound(0, float("inf"))
# Each is a fault that the scenario does not contain; packets are accounted for nevertheless.
RESTARTS = Bound(0, float("inf"))
_NAMED = 3


def _interrupted(run: Run) -> Measured:
    if not run.interrupted:
        return Measured(0)
    ran_s, planned_s = run.evidence.ran_ns / NS_PER_S, run.facts.duration_ns / NS_PER_S
    return Measured(1, cause=f"interrupted after {ran_s:.3g} of {planned_s:.3g} s")


def _restarted(run: Run) -> Measured:
    fates = run.evidence.restarted
    more = f" and {len(fates) - _NAMED} more" if len(fates) > _NAMED else ""
    return Measured(len(fates), cause="; ".join(fates[:_NAMED]) + more)


CHECKS = (
    Question(
        "stopped before its end",
        "the results cover only a part of the scenario",
        "let the run finish",
        _interrupted,
        INTERRUPTIONS,
        "",
    ),
    Question(
        "restarted processes",
        "processes of the run ended unexpectedly and were restarted",
        "find out why they ended: read logs/ in the run directory",
        _restarted,
        RESTARTS,
        "processes",
    ),
)
