"""A trial as a process of its own: the ``python -m testbed run …`` that its manifest names.

So a trial in a sweep is no different from one by hand, and nothing of one trial lives on in the next.  The process dies
with ours.  Ctrl-C reaches it once, through us: it is in a session of its own, as a terminal would signal both, and a
second signal cuts a trial off instead of ending it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from testbed.errors import EXIT_INTERRUPTED
from testbed.scenario.loading import LoadedScenario
from testbed.system import interrupts, kernel, waiting
from testbed.units import NS_PER_MS

_TICK_NS = 500 * NS_PER_MS


@dataclass(frozen=True, slots=True)
class TrialCall:
    """One run to be made.

    Attributes:
        name: of the trial.
        arguments: what follows ``python -m testbed``.
        out: the run directory.
        loaded: the scenario those arguments give.
    """

    name: str
    arguments: tuple[str, ...]
    out: Path
    loaded: LoadedScenario


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended: its exit code, and the error it gave if any."""

    exit_code: int
    said: str = ""


RunTrial = Callable[[TrialCall], Ended]


class TrialProcesses:
    """Runs trials, one after the other; as a context manager it takes requests to stop and passes them on.

    Args:
        tick: called about twice a second while a trial runs.
    """

    def __init__(self, tick: Callable[[], None]) -> None:
        self._tick = tick
        self._child: subprocess.Popen[bytes] | None = None
        self._signals = 0
        self._requests = interrupts.taken(self._stop)

    def __enter__(self) -> TrialProcesses:
        """Take the signals."""
        self._requests.__enter__()
        return self

    def __exit__(self, *details: Any) -> None:
        """Give the signals back."""
        self._requests.__exit__(*details)

    def _stop(self) -> None:
        self._signals += 1
        if self._child is not None:
            self._child.send_signal(signal.SIGINT)

    def stopped(self) -> bool:
        """Tell whether a request to stop has come."""
        return self._signals > 0

    def end_current(self) -> None:
        """End the trial that runs, if one does, in order; others may follow."""
        if self._child is not None:
            self._child.send_signal(signal.SIGINT)

    def __call__(self, call: TrialCall) -> Ended:
        """Run a trial to its end; once stopped, run none any more."""
        if self.stopped():
            return Ended(EXIT_INTERRUPTED)
        with open(os.memfd_create("said"), "w+b") as said:  # no folder need be one that can be written to
            self._child = subprocess.Popen(
                [sys.executable, "-m", "testbed", *call.arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
                start_new_session=True,
                preexec_fn=partial(kernel.die_with_parent, os.getpid()),  # noqa: PLW1509 - there is no other thread
            )
            if self.stopped():  # while it was being started
                self._child.send_signal(signal.SIGINT)
            try:
                code = self._wait(self._child)
            finally:
                self._child = None
            said.seek(0)
            text = said.read().decode(errors="replace").strip().removeprefix("testbed: ")
        return Ended(EXIT_INTERRUPTED if self.stopped() else code, text)

    def _wait(self, child: subprocess.Popen[bytes]) -> int:
        descriptor = os.pidfd_open(child.pid)
        try:
            while not waiting.readable([descriptor], _TICK_NS):
                self._tick()
        finally:
            os.close(descriptor)
        return child.wait()
