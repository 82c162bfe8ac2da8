"""The reference page of the checks behind the verdict, made from their declarations: ``make reference`` writes it.

python -m testbed.results.fidelity.reference > docs/reference/checks.md
"""

from __future__ import annotations

import sys

from testbed.results.fidelity.check import Question
from testbed.results.fidelity.judge import QUESTIONS

_HEAD = """\
<!-- made by `make reference` from the declarations in testbed/results/fidelity; do not edit -->

# Checks of the verdict

The verdict of a run is that of its worst check. A check compares a measured value with two bounds: up to *VALID up to*
it is `VALID`, above that and up to *DEGRADED up to* it is `DEGRADED`, above both `INVALID`. Where the second bound is
`any`, the check alone never makes a run INVALID; where both are equal, it is never DEGRADED. The reason for each bound
stands beside it in `testbed/results/fidelity/`.

`fidelity.json` holds the value, the bounds, the cause and a remedy of each check that was made, and under `not_checked`
the names of those for which the engine takes no measurement.

| check | VALID up to | DEGRADED up to | unit | a value beyond the bounds means |
|---|---|---|---|---|"""


def page() -> str:
    """Return the page, as Markdown."""
    return "\n".join([_HEAD, *map(_line, QUESTIONS), ""])


def _line(question: Question) -> str:
    good, usable = (_written(bound) for bound in (question.bound.good, question.bound.usable))
    unit = question.unit or "0: no, 1: yes"
    return f"| {question.name} | {good} | {usable} | {unit} | {question.meaning} |"


def _written(bound: float | str) -> str:
    return bound if isinstance(bound, str) else "any" if bound == float("inf") else f"{bound:g}"


if __name__ == "__main__":
    sys.stdout.write(page())
