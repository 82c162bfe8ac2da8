"""One check: a measured value, two bounds, an explanation and a remedy.

A file of this folder contains a family of checks: the bounds as constants, each with its reason; for each check a
function that measures the value; and `CHECKS`, with names, bounds and explanations.  `judge` runs all of them,
`reference` writes the page ``docs/reference/checks.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np

from testbed.records.evidence import Evidence
from testbed.records.facts import RunFacts
from testbed.records.samples import NodeSamples

Verdict = Literal["VALID", "DEGRADED", "INVALID"]

A_QUIETER_MACHINE = "end other work on this machine, or lower the rates of the scenario"


class Bound(NamedTuple):
    """Largest value that is still good, and largest that is still usable; in the unit of the check."""

    good: float
    usable: float

    def verdict(self, value: float) -> Verdict:
        """Return what the value says of the run."""
        return "VALID" if value <= self.good else "DEGRADED" if value <= self.usable else "INVALID"


class BoundOfRun(NamedTuple):
    """A bound that depends on the scenario, and both of its values in words.

    Attributes:
        of: returns the bound of a run.
        good, usable: the two values, for the documents.
    """

    of: Callable[[Run], Bound]
    good: str
    usable: str


class Run(NamedTuple):
    """What the checks of one run are made from.

    Attributes:
        evidence: what the engine handed over.
        facts: the scenario's rates, interval and packet size.
        samples: the samples of each node.
        interrupted: whether the run was stopped before its end.
    """

    evidence: Evidence
    facts: RunFacts
    samples: Mapping[str, NodeSamples]
    interrupted: bool = False


@dataclass(frozen=True, slots=True)
class Measured:
    """What one check found.

    Attributes:
        value: the measured value that decides.
        evidence: what else was measured for it, plain values; None is left out of the reason.
        cause: what happened, where, for how long and when, as far as the check knows; empty when it knows no more
            than its name says.
    """

    value: float
    evidence: Mapping[str, Any] = field(default_factory=dict)
    cause: str = ""


class Question(NamedTuple):
    """A check to be made.

    Attributes:
        name: what is checked, in words a report can print.
        meaning: what a value past the bounds means for the run; of a maximum, also from which size on it is seen.
        remedy: what to do then.
        measure: finds the value; None when the engine did not measure what is needed.
        bound: what the value is compared with.
        unit: of value and bound; empty for one that is 0 (no) or 1 (yes).
    """

    name: str
    meaning: str
    remedy: str
    measure: Callable[[Run], Measured | None]
    bound: Bound | BoundOfRun
    unit: str

    def ask(self, run: Run) -> Check | None:
        """Return the check of a run, None when it cannot be made."""
        found = self.measure(run)
        if found is None:
            return None
        bound = self.bound if isinstance(self.bound, Bound) else self.bound.of(run)
        return Check(
            name=self.name, verdict=bound.verdict(found.value), value=found.value, good=bound.good,
            usable=None if bound.usable == float("inf") else bound.usable, unit=self.unit, evidence=found.evidence,
            meaning=self.meaning, cause=found.cause, remedy=self.remedy,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Check:
    """One check.

    Attributes:
        name: what was checked, in words a report can print.
        verdict: what this check alone would say.
        value: the measured value that decides.
        good, usable: the bounds; None for no limit.
        unit: of value and bounds.
        evidence: what else was measured for it, plain values.
        meaning: what a value past the bounds means for the run.
        cause: what happened, where and when; empty when the name says it all.
        remedy: what to do when it is past the bounds.
    """

    name: str
    verdict: Verdict
    value: float
    good: float
    usable: float | None
    unit: str
    evidence: Mapping[str, Any]
    meaning: str = ""
    cause: str = ""
    remedy: str = ""

    @property
    def reason(self) -> str:
        """Return one line: value, bounds, what else was seen; then cause and remedy."""
        unit = f" {self.unit}" if self.unit else ""
        more = ", ".join(f"{key} {short(value)}" for key, value in self.evidence.items() if value is not None)
        within = f"{self._bounds}; {more}" if more else self._bounds
        cause, remedy = (f": {self.cause}" if self.cause else ""), (f"; {self.remedy}" if self.remedy else "")
        return f"{self.name}: {short(self.value)}{unit} ({within}){cause}{remedy}"

    @property
    def _bounds(self) -> str:
        usable = f", DEGRADED up to {short(self.usable)}" if self._usable_ends else ""
        return f"VALID up to {short(self.good)}{usable}"

    @property
    def _usable_ends(self) -> bool:
        return self.usable is not None and self.usable > self.good


def short(value: Any) -> str:
    """Return a value as a reader wants it: four digits of a float."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def joined(parts: list[np.ndarray]) -> np.ndarray:
    """Return arrays one after the other; an empty one when there is none."""
    return np.concatenate([*parts, np.zeros(0)])


def measured(attribute: str) -> Callable[[Run], Measured | None]:
    """Return the measurement of a field of the evidence that is compared with the bound as it is."""

    def measure(run: Run) -> Measured | None:
        value = getattr(run.evidence, attribute)
        return None if value is None else Measured(value)

    return measure
