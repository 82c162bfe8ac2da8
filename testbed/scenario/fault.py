"""A fault as the scenario writes it: when, what breaks or heals, and the keys that belong to it.

The kinds are the rows of ``fault_kinds.py``, and each is a key of its own.  That its target exists is checked in
``fault_checks.py``; what happens when is unrolled in ``fault_timeline.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field, create_model, model_validator

from testbed import units
from testbed.scenario.base import Duration, Number, Spec
from testbed.scenario.fault_kinds import FAULT_KINDS, FaultKind


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

    @model_validator(mode="after")
    def _one_kind_with_its_keys(self) -> _Fault:
        given = [kind for kind in FAULT_KINDS if getattr(self, kind) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of {', '.join(FAULT_KINDS)}")
        allowed = {*self.row.needs, *(("for",) if self.row.lasts else ())}
        for key, value in {"for": self.for_ns, "period": self.period_ns, "ratio": self.ratio}.items():
            if value is None and key in self.row.needs:
                raise ValueError(f"{self.kind} needs {key}; add {key}: {self.row.needs[key]}")
            if value is not None and key not in allowed:
                raise ValueError(f"{self.kind} does not take {key}; remove it")
        return self

    @property
    def kind(self) -> str:
        """Return what breaks."""
        return next(kind for kind in FAULT_KINDS if getattr(self, kind) is not None)

    @property
    def row(self) -> FaultKind:
        """Return what is known of its kind."""
        return FAULT_KINDS[self.kind]

    @property
    def target(self) -> Any:
        """Return what the key of its kind says: a name, groups, or a number."""
        return getattr(self, self.kind)

    @property
    def link(self) -> str | None:
        """Return the link it hits, named by its two ends, the node last; None for a fault of something else."""
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
            return str(self.target).rpartition("-")[2]
        return self.target if self.row.target == "node" else ""


if TYPE_CHECKING:
    FaultSpec = _Fault
else:
    FaultSpec = create_model(
        "FaultSpec",
        __base__=_Fault,
        __doc__=_Fault.__doc__,
        __module__=__name__,
        **{row.name: (row.value | None, Field(None, description=row.doc)) for row in FAULT_KINDS.values()},
    )
