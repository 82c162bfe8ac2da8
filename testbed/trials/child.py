"""A process that makes one run: in a session of its own, its standard error kept for its exit."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended: its exit code (negative: the signal that ended it), and the error it gave if any."""

    exit_code: int
    said: str = ""


class Child:
    """A process that runs.

    Attributes:
        pid: its number.
        descriptor: can be read once it has ended (pidfd_open(2)).

    Args:
        argv: the command.
        folder: where it runs; None: here.
        tie: called in it before the command; only where there is no other thread.
    """

    def __init__(self, argv: Sequence[str], folder: Path | None = None, tie: Callable[[], None] | None = None) -> None:
        self._said = open(os.memfd_create("said"), "w+b")  # noqa: SIM115 - no folder need be one that can be written to
        try:
            self._process = subprocess.Popen(
                argv,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._said,
                start_new_session=True,
                preexec_fn=tie,  # noqa: PLW1509 - see `tie`
            )
            self.pid = self._process.pid
            self.descriptor = os.pidfd_open(self.pid)
        except BaseException:
            self._said.close()
            raise

    def send(self, number: signal.Signals) -> None:
        """Send a signal; one that has ended gets none."""
        self._process.send_signal(number)

    def ended(self) -> Ended:
        """Return how it ended; it has."""
        code = self._process.wait()
        os.close(self.descriptor)
        with self._said:
            self._said.seek(0)
            text = self._said.read().decode(errors="replace").strip().removeprefix("testbed: ")
        if code < 0 and not text:
            text = f"its process was ended by signal {-code} ({signal.strsignal(-code)})"
        return Ended(code, text)
