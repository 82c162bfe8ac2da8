"""Expectations of a scenario: ``path op number`` over the summary.

The path is checked against the figures a summary can hold before a run starts, so that a misspelt expectation costs a
second and not a trial.  A figure that is known but absent from a particular summary (no failover happened) fails the
expectation and says so: what was expected was not seen.
"""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from testbed.errors import InputError

_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_FORM = re.compile(r"^\s*([a-z0-9_.]+)\s*(==|!=|<=|>=|<|>)\s*([-+]?[0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?)\s*$")


@dataclass(frozen=True, slots=True)
class Expectation:
    """One expectation.

    Attributes:
        text: as the scenario wrote it.
        path: dotted path into the summary.
        comparison: one of ``== != < <= > >=``.
        number: what the figure is compared with.
    """

    text: str
    path: str
    comparison: str
    number: float

    @classmethod
    def parse(cls, text: str) -> Expectation:
        """Return the expectation a line of the scenario states.

        Raises:
            InputError: when the line has another form.
        """
        match = _FORM.match(text)
        if match is None:
            form = f"expected `path op number`, where op is one of {' '.join(_OPERATORS)}"
            raise InputError(f"expect: {text!r}", form, "write for example `traffic.unaccounted_packets == 0`")
        path, comparison, number = match.groups()
        return cls(text.strip(), path, comparison, float(number))

    def holds(self, value: float) -> bool:
        """Return whether the figure is as expected."""
        return _OPERATORS[self.comparison](value, self.number)


def parse_all(texts: Sequence[str], known_paths: Sequence[str]) -> tuple[Expectation, ...]:
    """Return the expectations of a scenario, their paths checked.

    Args:
        texts: the lines of the scenario.
        known_paths: the figures a summary can hold (`metrics.paths`).

    Raises:
        InputError: when a line has another form or names no figure; it suggests the nearest one.
    """
    expectations = tuple(Expectation.parse(text) for text in texts)
    for expectation in expectations:
        if expectation.path not in known_paths:
            near = difflib.get_close_matches(expectation.path, known_paths, n=1, cutoff=0.0)
            remedy = f"did you mean `{near[0]}`?" if near else ""
            raise InputError(f"expect: {expectation.text!r}", f"the summary has no `{expectation.path}`", remedy)
    return expectations


def evaluate(expectation: Expectation, summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``{"text", "value", "passed"}``, with a ``"reason"`` and the value null when the figure is absent."""
    value = _figure(summary, expectation.path)
    if value is None:
        reason = f"the summary of this run has no {expectation.path}"
        return {"text": expectation.text, "value": None, "passed": False, "reason": reason}
    return {"text": expectation.text, "value": value, "passed": expectation.holds(value)}


def _figure(summary: Mapping[str, Any], path: str) -> float | None:
    found: Any = summary
    for key in path.split("."):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found if isinstance(found, (int, float)) and not isinstance(found, bool) else None
