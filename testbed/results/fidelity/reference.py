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

The verdict of a run is the worst result among its checks. A check compares a measured value with two bounds. If the
value does not exceed the first bound (column *VALID up to*), the result is `VALID`. If it does not exceed the second
bound (column *DEGRADED up to*), the result is `DEGRADED`. Otherwise it is `INVALID`. Where the second bound is
`any`, the check alone never makes a run INVALID; where both are equal, it is never DEGRADED. The source files in
`testbed/results/fidelity/` give the reason for each bound.

`fidelity.json` contains the value, the bounds, the cause and a remedy of each check. Under `not_checked` it lists the
checks that the engine cannot make.

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
