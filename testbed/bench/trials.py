"""Emulated trials for benchmarks: a figure stands on runs that may be believed, and says how many may not.

A run whose verdict is INVALID enters no figure; it is counted with its first reason, and the table tells.  Run
directories are read and removed at once, since a benchmark may need dozens.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from testbed import output
from testbed.errors import EXIT_INTERRUPTED, ToolError
from testbed.results.failover import FaultLines
from testbed.results.recorded_run import RecordedRun
from testbed.scenario.loading import load
from testbed.trials.run import RunOptions
from testbed.trials.run import run as run_trial

ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class BenchTrial:
    """A run that may be believed.

    Attributes:
        summary: ``summary.json``.
        lines: the events that tell of faults and of the balancer's acknowledged changes.
    """

    summary: dict[str, Any]
    lines: list[Mapping[str, Any]]


class BenchTrials:
    """Runs scenarios given as data, one after the other.

    Attributes:
        kept: how many runs were believed.
        left_out: the reason of each that was not.
    """

    def __init__(self, folder: Path) -> None:
        """Work in `folder`."""
        self._folder, self._console = folder, output.console(stderr=True)
        self.kept = 0
        self.left_out: list[str] = []

    def run(self, scenario: Mapping[str, Any], seed: int, said: str) -> BenchTrial | None:
        """Run one scenario and return what came of it, None when it may not be believed.

        Args:
            scenario: as the YAML has it, without version and seed.
            seed: of the run.
            said: shown on standard error while it runs.

        Raises:
            KeyboardInterrupt: it was interrupted.
        """
        self._console.print(f"  {said}", highlight=False)
        source, out = self._folder / "trial.yaml", self._folder / "run"
        source.write_text(yaml.safe_dump({"version": 1, **scenario}), encoding="utf-8")
        result = run_trial(load(source, seed=seed), RunOptions(out=out, live=False, quiet=True))
        lines = FaultLines()
        for _ in lines.passing(RecordedRun.open(out).events()):
            pass
        shutil.rmtree(out)
        if result.exit_code == EXIT_INTERRUPTED:
            raise KeyboardInterrupt
        return self._judged(result.summary, lines.lines)

    def believed(self, scenario: Mapping[str, Any], seed: int, said: str) -> BenchTrial:
        """Run one scenario until a run of it may be believed; otherwise as `run`.

        Raises:
            ToolError: `ATTEMPTS` of them may not.
        """
        for _ in range(ATTEMPTS):
            trial = self.run(scenario, seed, said)
            if trial is not None:
                return trial
        happened = f"INVALID {ATTEMPTS} times, {self.left_out[-1]}"
        raise ToolError(f"measuring {said}", happened, "stop other work on this machine")

    def _judged(self, summary: dict[str, Any], lines: list[Mapping[str, Any]]) -> BenchTrial | None:
        if summary["verdict"] == "INVALID":
            reason = summary["verdict_reasons"][0]
            self._console.print(f"  left out: INVALID, {reason}", highlight=False)
            self.left_out.append(reason)
            return None
        self.kept += 1
        return BenchTrial(summary, lines)

    @property
    def note(self) -> str:
        """Return on how many runs the figures stand."""
        out = len(self.left_out)
        return f"{self.kept} runs" + (f", {out} more INVALID and left out" if out else "")
