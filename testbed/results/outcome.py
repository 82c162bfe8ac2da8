"""How a run ended; used by everything that counts runs: sweeps, their tables, comparisons.

A run counts if its verdict is VALID or DEGRADED and all its files that a table needs can be read.  After a power cut
any of its files may be empty: such a run counts as failed, and is repeated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testbed.errors import InputError
from testbed.results.recorded_run import RecordedRun

COUNTING = ("VALID", "DEGRADED")
DAMAGED, KILLED = "failed", "killed"


@dataclass(frozen=True, slots=True)
class EndedRun:
    """A run that is finished or still running.

    Attributes:
        run: its directory.
        summary: ``summary.json``, empty where it has none.
        outcome: its verdict when it was completed, else its status; ``killed`` where it has none.
    """

    run: RecordedRun
    summary: Mapping[str, Any]
    outcome: str

    @property
    def counts(self) -> bool:
        """Return whether the run may enter means and baselines."""
        return self.outcome in COUNTING


def ended(run: RecordedRun) -> EndedRun:
    """Return how a run ended.

    Raises:
        InputError: when its facts, its scenario or its summary is damaged.
    """
    summary, status = run.document("summary.json"), run.status
    _ = run.facts
    if run.source("scenario.yaml").exists():
        run.scenario_data()
    if status != "completed":
        return EndedRun(run, summary or {}, status)
    return EndedRun(run, summary or {}, KILLED if summary is None else str(summary["verdict"]))


def ended_if_readable(path: Path) -> EndedRun | None:
    """Return how the run in a directory ended, None when it is damaged or never got as far as its manifest."""
    try:
        return ended(RecordedRun.open(path))
    except InputError:
        return None


def outcome_of(path: Path) -> str:
    """Return in a word how the run in a directory ended: as `EndedRun.outcome`, or ``failed`` when it is damaged."""
    found = ended_if_readable(path)
    if found is not None:
        return found.outcome
    return DAMAGED if (path / "manifest.json").exists() else KILLED
