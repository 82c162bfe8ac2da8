"""Check of the run as a whole: that it was made to its end."""

from __future__ import annotations

from testbed.results.fidelity.check import Bound, Measured, Question, Run
from testbed.units import NS_PER_S

# What was measured until then is right, but a part of the scenario was not carried out: a caveat of every figure.
INTERRUPTIONS = Bound(0, float("inf"))


def _interrupted(run: Run) -> Measured:
    if not run.interrupted:
        return Measured(0)
    ran_s, planned_s = run.evidence.ran_ns / NS_PER_S, run.facts.duration_ns / NS_PER_S
    return Measured(1, cause=f"interrupted after {ran_s:.3g} of {planned_s:.3g} s")


CHECKS = (
    Question(
        "stopped before its end",
        "the figures are of a part of the scenario",
        "run it to its end",
        _interrupted,
        INTERRUPTIONS,
        "",
    ),
)
