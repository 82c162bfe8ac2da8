"""Trials in the tests of a user: fixtures for pytest.

    pytest_plugins = ["testbed.pytest"]

    def test_no_packet_is_lost(simulated):
        run = simulated("burst.yaml", {"buffer.policy": "static-max"})
        run.expect("buffer.loss_ratio == 0", "delay_ms.p99 < 500")

`simulated` runs in virtual time, `emulated` on the real kernel; without root, a test with `emulated` is
skipped.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from testbed import python
from testbed.records.engines import EMULATION, SIMULATION
from testbed.results.expectations import evaluate, parse_all
from testbed.results.metrics import paths

Trial = Callable[..., "TrialRun"]


class TrialRun(python.Run):
    """A run with assertions on its figures."""

    def expect(self, *conditions: str) -> None:
        """Fail the test when the run is INVALID, or a condition such as ``delay_ms.p99 < 50`` does not hold.

        Raises:
            InputError: a condition has no figure of ``summary.json`` or is none.
        """
        expectations = parse_all(conditions, paths())
        if self.verdict not in ("VALID", "DEGRADED"):
            pytest.fail(f"{self.path} is {self.verdict or self.status}: {'; '.join(self.reasons)}")
        failed = [one for one in (evaluate(each, self.summary) for each in expectations) if not one["passed"]]
        if failed:
            said = (f"{one['text']} (measured {one['value']})" for one in failed)
            pytest.fail(f"{self.path}: {', '.join(said)}")


@pytest.fixture
def simulated(tmp_path: Path) -> Trial:
    """Return what runs a scenario in virtual time: ``simulated(path, {key: value}, seed=7)``."""
    return _maker(tmp_path, SIMULATION)


@pytest.fixture
def emulated(tmp_path: Path) -> Trial:
    """Return what runs a scenario on the real kernel; the test is skipped without root."""
    if os.geteuid() != 0:
        pytest.skip("an emulated trial needs root")
    return _maker(tmp_path, EMULATION)


def _maker(folder: Path, engine: str) -> Trial:
    count = 0

    def make(path: str | Path, settings: Mapping[str, Any] | None = None, seed: int | None = None) -> TrialRun:
        nonlocal count
        count += 1
        return TrialRun(python.run(python.load(path, settings, seed), engine=engine, out=folder / f"run-{count}").path)

    return make
