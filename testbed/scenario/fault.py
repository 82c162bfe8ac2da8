"""A fault as the scenario writes it: when, what breaks or heals, and the keys that belong to it.

The kinds are the rows of ``fault_kinds.py``, and each is a key of its own.  That its target exists is checked in
``fault_checks.py``; what happens when is unrolled in ``fault_timeline.py``.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from pydantic import Field, PrivateAttr, create_model, model_validator

from testbed import units
from testbed.scenario.base import Duration, Number, Spec
from testbed.scenario.fault_kinds import FAULT_KINDS, FaultKind

KEYS = tuple(row.name for row in FAULT_KINDS.values() if not row.between_of)
"""The keys of a scenario that say what breaks."""


class _Fault(Spec):
    """Something that breaks, or heals, at a time: exactly one of the keys says what."""

    at_ns: Duration = Field(
        alias="at", ge=0, description="start time of the fault, measured from the start of the traffic"
    )
    for_ns: Duration | None = Field(
        None,
        alias="for",
        gt=0,
        description="duration of the fault; without `for` it lasts until another entry ends it, or "
        "until the end of the run",
    )
    period_ns: Duration | None = Field(
        None,
        alias="period",
        ge=2 * units.NS_PER_MS,
        description="only for `flap`: period; the link is down in the first half and up in the second half",
    )
    ratio: Number | None = Field(
        None, gt=0.0, le=1.0, description="only for `loss`: fraction of packets that is dropped"
    )
    _between: bool = PrivateAttr(False)  # whether its link is one between switches, which the scenario finds out

    @model_validator(mode="after")
    def _one_kind_with_its_keys(self) -> _Fault:
        given = [key for key in KEYS if getattr(self, key) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of {', '.join(KEYS)}")
        allowed = {*self.row.needs, *(("for",) if self.row.lasts else ())}
        for key, value in {"for": self.for_ns, "period": self.period_ns, "ratio": self.ratio}.items():
            if value is None and key in self.row.needs:
                raise ValueError(f"{self.kind} needs {key}; add {key}: {self.row.needs[key]}")
            if value is not None and key not in allowed:
                raise ValueError(f"{self.kind} does not take {key}; remove it")
        return self

    def aim(self, between: Collection[str]) -> None:
        """Find out whether its link is one between switches; `between` are the names of those, either way round."""
        self._between = self.link in between

    @property
    def key(self) -> str:
        """Return the key that says what breaks."""
        return next(key for key in KEYS if getattr(self, key) is not None)

    @property
    def kind(self) -> str:
        """Return what breaks."""
        return self.row.name

    @property
    def row(self) -> FaultKind:
        """Return what is known of its kind."""
        row = FAULT_KINDS[self.key]
        return FAULT_KINDS[row.between] if self._between and row.between else row

    @property
    def target(self) -> Any:
        """Return what its key says: a name, groups, or a number."""
        return getattr(self, self.key)

    @property
    def hits_between(self) -> bool:
        """Return whether it is aimed at a link between switches."""
        return self._between

    @property
    def link(self) -> str | None:
        """Return the link it hits, named by its two ends, a node last; None for a fault of something else."""
        return self.target if self.row.target == "link" else None

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        """Return the groups that it divides; empty for a fault of something else."""
        return self.target if self.row.target == "groups" else ()

    @property
    def site(self) -> str:
        """Return the site it hits; empty for a fault of something else."""
        return self.target if self.row.target == "site" else ""

    @property
    def node(self) -> str:
        """Return the node it hits; empty for a fault of something else."""
        if self.row.target == "link":
            return "" if self._between else str(self.target).rpartition("-")[2]
        return self.target if self.row.target == "node" else ""

    @property
    def place(self) -> str:
        """Return what it hits, under one name: a node, or a link between switches; empty for anything else."""
        return self.node or ("-".join(sorted(str(self.link).split("-"))) if self._between else "")


if TYPE_CHECKING:
    FaultSpec = _Fault
else:
    FaultSpec = create_model(
        "FaultSpec",
        __base__=_Fault,
        __doc__=_Fault.__doc__,
        __module__=__name__,
        **{key: (FAULT_KINDS[key].value | None, Field(None, description=FAULT_KINDS[key].doc)) for key in KEYS},
    )
