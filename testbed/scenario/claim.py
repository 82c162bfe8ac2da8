"""A claim: a statement in words, the sweep that tests it, and what its figures must be for it to hold.

    version: 1
    name: failover
    statement: Flows of a node that fails are served again within 100 ms.
    expected: holds                    # what its authors found; a claim that does not hold is kept as such
    sweep: {scenario: ../failover.yaml, set: {…}, seeds: 5}      # keys of a sweep
    quick: {seeds: 3, set: {duration: 5s}}                       # instead, in the quick subset
    engines: [emulation, simulation]   # where it is expected to hold
    tests:
      - {quantity: failover.recovered_ms.max, below: 100}
      - {quantity: buffer.loss_ratio, of: {buffer.policy: lstm}, minus: {buffer.policy: reactive}, below: 0}

A test takes a figure of ``summary.json`` of every combination that `of` describes; with `minus` its difference from,
with `over` its ratio to the combination that differs in those values, seed by seed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from testbed.scenario import complaints, document, loading
from testbed.scenario.base import Spec
from testbed.scenario.complaints import Complaint
from testbed.scenario.sweep import value_text

Version = Literal[1]
_Listed = BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value)


class TestSpec(Spec):
    """What one figure must be: exactly one of `below`, `above`, `between` and `zero`."""

    __test__ = False  # for pytest: the name starts with "Test"

    quantity: str = Field(min_length=1, description="a figure of summary.json")
    of: dict[str, Any] = Field(default_factory=dict, description="the combinations it is about; a list is any of them")
    minus: dict[str, Any] | None = Field(None, description="values of the combination it is compared with")
    over: dict[str, Any] | None = Field(None, description="the same, as a ratio")
    below: float | None = Field(None, description="the upper bound")
    above: float | None = Field(None, description="the lower bound")
    between: Annotated[tuple[float, float] | None, _Listed] = Field(None, description="both")
    zero: bool = Field(False, description="a count that is to be 0 in every run")

    @model_validator(mode="after")
    def _one_comparison(self) -> TestSpec:
        given = [self.below is not None, self.above is not None, self.between is not None, self.zero]
        if sum(given) != 1:
            raise ValueError("expected exactly one of below, above, between and zero")
        if self.minus is not None and self.over is not None:
            raise ValueError("expected minus or over, not both")
        if self.zero and (self.minus or self.over):
            raise ValueError("zero counts what happened in single runs; leave out minus and over")
        return self

    @property
    def against(self) -> dict[str, str]:
        """Return the values of the combination it is compared with, as text; empty for none."""
        return {key: value_text(value) for key, value in (self.minus or self.over or {}).items()}

    @property
    def interval(self) -> tuple[float, float]:
        """Return between which values the figure must lie."""
        if self.between is not None:
            return self.between
        return (
            float("-inf") if self.above is None else self.above,
            float("inf") if self.below is None else self.below,
        )

    @property
    def words(self) -> str:
        """Return what is tested, in words."""
        against = ", ".join(self.against.values())
        what = self.quantity + (
            f" minus that of {against}" if self.minus else f" over that of {against}" if self.over else ""
        )
        if self.zero:
            return f"{what} is 0 in every run"
        if self.between is not None:
            return f"{what} between {self.between[0]:g} and {self.between[1]:g}"
        return f"{what} below {self.below:g}" if self.below is not None else f"{what} above {self.above:g}"

    def is_about(self, parameters: dict[str, str]) -> bool:
        """Return whether a combination is one that it tests."""
        return all(parameters.get(key) in _texts(value) for key, value in self.of.items())


class QuickSpec(Spec):
    """What the quick subset has instead."""

    seeds: int = Field(2, ge=2, le=100, description="how many seeds")
    settings: dict[str, Any] = Field(default_factory=dict, alias="set", description="keys of `set`, replaced")


class ClaimSpec(Spec):
    """A claim as the file has it."""

    version: Version
    name: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,63}$")
    statement: str = Field(min_length=1, max_length=600)
    expected: Literal["holds", "does not hold", "not decided"] = "holds"
    note: str = Field("", max_length=2000, description="why it does not hold, and where")
    sweep: dict[str, Any] = Field(min_length=1, description="scenario, set, seeds: as in a sweep file")
    quick: QuickSpec = Field(default_factory=QuickSpec)
    engines: Annotated[tuple[str, ...], _Listed] = Field(("emulation", "simulation"), min_length=1)
    tests: Annotated[tuple[TestSpec, ...], _Listed] = Field(min_length=1, max_length=20)


def _texts(value: Any) -> list[str]:
    return [value_text(one) for one in value] if isinstance(value, (list, tuple)) else [value_text(value)]


@dataclass(frozen=True, slots=True)
class LoadedClaim:
    """A claim and where it came from."""

    spec: ClaimSpec
    path: Path

    def sweep_data(self, *, quick: bool) -> dict[str, Any]:
        """Return the sweep as data of a sweep file; the path of its scenario is absolute."""
        data = {"version": 1, "name": self.spec.name, **self.spec.sweep}
        data["scenario"] = os.path.abspath(self.path.parent / str(data.get("scenario", "")))
        if quick:
            data["seeds"] = self.spec.quick.seeds
            data["set"] = {**data.get("set", {}), **self.spec.quick.settings}
        return data


def load_claim(path: Path) -> LoadedClaim:
    """Read and check a claim.

    Raises:
        InputError: names file and line.
    """
    parsed = document.parse(document.read_bytes(path), str(path))
    spec = loading.as_model(parsed, ClaimSpec)
    loading.refuse(list(_cross_checks(spec)), parsed)
    return LoadedClaim(spec, path)


def _cross_checks(spec: ClaimSpec) -> Iterator[Complaint]:
    varied = {key: _texts(value) for key, value in (spec.sweep.get("set") or {}).items() if isinstance(value, list)}
    for k, test in enumerate(spec.tests):
        for part, values in (("of", test.of), ("minus", test.minus or {}), ("over", test.over or {})):
            for key, value in values.items():
                unknown = [text for text in _texts(value) if text not in varied.get(key, ())]
                if unknown:
                    happened = f"{complaints.shown(unknown[0])} is not among the values of sweep.set.{key}"
                    yield Complaint(
                        ("tests", k, part, key), happened, f"choose one of {', '.join(varied.get(key, ['none']))}"
                    )
