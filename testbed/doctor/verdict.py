"""The predicted verdict of a scenario on this machine, as a finding: the last one of `doctor SCENARIO`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from testbed.doctor.finding import Finding, Status
from testbed.errors import ToolError

if TYPE_CHECKING:
    from testbed.capacity.foresight import Foresight

_STATUS: dict[str, Status] = {"VALID": "ok", "DEGRADED": "limited", "INVALID": "missing"}


def capacity(seen: Foresight) -> Finding:
    """Return the finding: missing where the figures of a run could not be used, or it could not run."""
    status = _STATUS[seen.verdict] if seen.fits else "missing"
    return Finding("capacity", status, seen.words, seen.remedy)


def unmeasured(error: ToolError) -> Finding:
    """Return the finding where a trial of the measurement failed."""
    return Finding("capacity", "limited", f"this machine could not be measured: {error.happened}", error.remedy)
