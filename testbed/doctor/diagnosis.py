"""All findings together, and the refusal of a run that lacks something."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from testbed.doctor import kernel, resources, software
from testbed.doctor.finding import Finding, Status
from testbed.errors import MachineError
from testbed.scenario.model import Scenario
from testbed.system.probes import Started


def diagnose(scenario: Scenario | None = None, out: Path | None = None, probe: Started | None = None) -> list[Finding]:
    """Return what this machine offers and lacks for `scenario`, or for any.  Takes about half a second.

    Args:
        scenario: what is to run.
        out: where its run directory is to go; None: below the current folder.
        probe: what `kernel.probing` began; None: the kernel is tried now.
    """
    root = os.geteuid() == 0
    return [
        _root(root),
        *(kernel.findings(scenario, probe) if root else [_untried()]),
        *software.findings(scenario, switch=not root),
        *resources.findings(scenario, out),
    ]


def worst(findings: Sequence[Finding]) -> Status:
    """Return the most serious status among the findings."""
    order: tuple[Status, ...] = ("missing", "limited", "ok")
    return next((status for status in order if any(finding.status == status for finding in findings)), "ok")


def to_record(findings: Sequence[Finding]) -> dict[str, Any]:
    """Return the whole diagnosis as plain values, for ``--json``."""
    return {"schema": 1, "status": worst(findings), "findings": [finding.to_record() for finding in findings]}


def as_root(arguments: Sequence[str] = ("run", "SCENARIO")) -> str:
    """Return the command that runs the same thing as root with this very Python, whatever sudo does to the PATH."""
    return shlex.join(["sudo", sys.executable, "-m", "testbed", *arguments])


def refuse_without_root(argv: Sequence[str]) -> None:
    """Say which command does the same thing as root.

    Raises:
        MachineError: not root.
    """
    if os.geteuid() != 0:
        words = list(argv) or ["run", "SCENARIO"]
        raise MachineError(words[0], "namespaces and XDP need root", f"use: {as_root(words)}")


def refuse_if_lacking(scenario: Scenario | None, out: Path | None = None, probe: Started | None = None) -> None:
    """End a run of `scenario` (None: of any) early, with everything this machine lacks for it in at most five lines.

    Raises:
        MachineError: names up to four things and how to fix each.
    """
    missing = [finding for finding in diagnose(scenario, out, probe) if finding.status == "missing"]
    if not missing:
        return
    first, *others = missing
    lines = [f"{finding.name}: {finding.detail}; {finding.remedy}" for finding in others[:3]]
    if len(others) > 3:
        lines.append(f"and {len(others) - 3} more: see `python -m testbed doctor`")
    detail = f"this machine lacks {first.name} ({first.detail})"
    raise MachineError(f"running {scenario.name if scenario else 'it'}", detail, "\n".join([first.remedy, *lines]))


def _root(is_root: bool) -> Finding:
    if is_root:
        return Finding("root", "ok", "this is root")
    return Finding("root", "missing", "creating namespaces and loading XDP programs needs root", as_root())


def _untried() -> Finding:
    return Finding("kernel", "limited", "its features can be tested only by root", as_root(["doctor"]))
