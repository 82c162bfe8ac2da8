"""A finding: one thing that was checked, and how to fix it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

Status = Literal["ok", "limited", "missing"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at.

    Attributes:
        name: what it is, such as ``native_xdp``.
        status: ``missing`` when the scenario at hand (or, without one, any scenario) cannot run, ``limited`` when
            something is lost but runs are possible, ``ok`` otherwise.
        detail: what was found.
        remedy: how to fix it, a command where there is one; empty when ok.
    """

    name: str
    status: Status
    detail: str
    remedy: str = ""

    def to_record(self) -> dict[str, str]:
        """Return the finding as plain values, for ``--json``."""
        return asdict(self)
