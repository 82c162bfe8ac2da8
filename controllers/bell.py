"""Wakes a thread that waits in `select`; may be called from any other thread and from signal handlers."""

from __future__ import annotations

import os
from contextlib import suppress


class Bell:
    """A pipe whose reading end is ready once somebody rang."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def fileno(self) -> int:
        """Return the descriptor, for `select`."""
        return self._read

    def ring(self) -> None:
        """Wake the waiting thread."""
        with suppress(BlockingIOError):  # full: it is ringing already
            os.write(self._write, b"!")

    def silence(self) -> None:
        """Take back every ring so far."""
        with suppress(BlockingIOError):
            os.read(self._read, 4096)
