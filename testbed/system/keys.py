"""Single keys from a terminal, without waiting for Enter."""

from __future__ import annotations

import os
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from testbed.system.waiting import readable
from testbed.units import NS_PER_S

Next = Callable[[float], str]
"""Waits so many seconds at most and returns the key that was hit, empty when there was none."""


@contextmanager
def keys() -> Iterator[Next]:
    """Yield what waits for a key, the terminal as it was afterwards; Ctrl-C stays an interrupt.

    Without a terminal at standard input no key comes, and the wait is a wait.
    """
    if not sys.stdin.isatty():
        yield _waited
        return
    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    tty.setcbreak(terminal)
    try:
        yield lambda seconds: _key(terminal, seconds)
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def _waited(seconds: float) -> str:
    readable([], int(seconds * NS_PER_S))
    return ""


def _key(terminal: int, seconds: float) -> str:
    ready = readable([terminal], int(seconds * NS_PER_S))
    return os.read(terminal, 1).decode(errors="replace") if ready else ""
