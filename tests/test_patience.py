"""Whoever waits for more than two seconds is told what for, by every verb that may take so long."""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from testbed import commands
from testbed.report.sweep_progress import SweepProgress
from testbed.system import patience


class Said(io.StringIO):
    """A stream that knows when something was written of what is waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.noted = threading.Event()

    def write(self, text: str) -> int:
        if "so far)" in text:
            self.noted.set()
        return super().write(text)


def listening(monkeypatch: pytest.MonkeyPatch, first_ns: int) -> Said:
    """Return standard error, and let notes be due after `first_ns`."""
    stream = Said()
    monkeypatch.setattr(sys, "stderr", stream)  # here and in no fixture: pytest puts its own in between
    monkeypatch.setattr(patience, "FIRST_NS", first_ns)
    return stream


@pytest.mark.parametrize(
    ("arguments", "worker", "what"),
    [
        (["report", "r"], "testbed.report.page.write_page", "writing the page of r"),
        (["compare", "r", "q"], "testbed.report.compare.compare", "comparing 2 runs"),
        (["replay", "r"], "testbed.trials.replay.replay", "replaying r"),
        (["validate", "s.yaml"], "testbed.scenario.loading.names_a_sweep", "checking s.yaml"),
        (["evaluate"], "testbed.forecaster.evaluation.evaluate.evaluate", "evaluating: reading the traces"),
        (["sweep", "s.yaml"], "testbed.trials.sweep.checked", "checking the trials of s.yaml"),
        (["agree", "s.yaml"], "testbed.trials.sweep.checked", "checking the trials of s.yaml"),
        (["simulate", str(Path("scenarios/smoke.yaml").resolve())], "testbed.trials.checks.make_plan", "planning"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_verb_that_takes_long_says_what_it_does(
    arguments: list[str], worker: str, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = listening(monkeypatch, 0)

    def takes_long(*_: Any, **__: Any) -> None:
        assert said.noted.wait(20), "nothing was said"
        raise KeyboardInterrupt

    monkeypatch.setattr(worker, takes_long)
    with pytest.raises(BaseException):  # noqa: B017, PT011
        commands.app(arguments, standalone_mode=False)
    assert what in said.getvalue()


def test_nothing_is_said_of_what_is_quick_or_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    said = listening(monkeypatch, 10**12)
    with patience.noted("nothing", quiet=True):
        pass
    with patience.noted("nothing"):
        pass
    assert said.getvalue() == ""


@pytest.mark.parametrize("quiet", [False, True])
def test_a_sweep_into_a_file_says_which_trial_is_running(quiet: bool) -> None:
    now_s, out = [0.0], io.StringIO()
    clock: Callable[[], float] = lambda: now_s[0]  # noqa: E731
    with SweepProgress(Console(file=out, width=80), 3, quiet=quiet, clock_s=clock) as progress:
        progress.running("policy=lstm,seed=1")
        for now_s[0] in (0.5, 1.9, 2.0, 2.5, 31.0, 33.0):
            progress.tick()
    lines = ["running policy=lstm,seed=1 (2 s so far)", "running policy=lstm,seed=1 (33 s so far)"]
    assert out.getvalue().split("\n")[:-1] == ([] if quiet else lines)
