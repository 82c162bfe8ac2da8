"""Wakes a thread that waits in `select`; may be called from any other thread and from signal handlers."""

from __future__ import annotations

import os
from contextlib import suppress


class Bell:
    """A pipe whose reading end becomes readable when `ring` is called."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def fileno(self) -> int:
        """Return the descriptor, for `select`."""
        return self._read

    def ring(self) -> None:
        """Wake the waiting thread."""
        with suppress(BlockingIOError):  # the pipe is full, so it is readable already
            os.write(self._write, b"!")

    def silence(self) -> None:
        """Make the reading end unreadable until the next `ring`."""
        with suppress(BlockingIOError):
            os.read(self._read, 4096)
