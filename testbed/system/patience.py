"""Saying what is waited for: after 2 s, and every 10 s from then on.  A program that waits silently seems to hang."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from testbed.units import NS_PER_S

FIRST_NS, AGAIN_NS = 2 * NS_PER_S, 10 * NS_PER_S


class WaitNotes:
    """For loops: asked often, says seldom.

    Args:
        say: takes a line.
    """

    def __init__(self, say: Callable[[str], object]) -> None:
        self._say = say
        self._due_ns = FIRST_NS

    def at(self, what: str, for_ns: int) -> None:
        """Note what is waited for, and for how long already; 0 starts again."""
        if for_ns < FIRST_NS:
            self._due_ns = FIRST_NS
        if for_ns >= self._due_ns:
            self._due_ns = for_ns + AGAIN_NS
            self._say(line(what, for_ns // NS_PER_S))


def line(what: str, seconds: int) -> str:
    """Return the line that says it."""
    return f"testbed: {what} ({seconds} s so far)"


@contextmanager
def noted(what: str | Callable[[], str], *, quiet: bool = False) -> Iterator[None]:
    """Say on standard error what is being done for the length of the block, if that takes long.

    For work that cannot say so itself.  A thread says it, so no process is to be forked meanwhile.
    """
    over = threading.Event()

    def wait() -> None:
        waited_ns, pause_ns = 0, FIRST_NS
        while not over.wait(pause_ns / NS_PER_S):
            waited_ns, pause_ns = waited_ns + pause_ns, AGAIN_NS
            sys.stderr.write(line(what if isinstance(what, str) else what(), waited_ns // NS_PER_S) + "\n")

    thread = threading.Thread(target=wait, daemon=True)
    if not quiet:
        thread.start()
    try:
        yield
    finally:
        over.set()
        if not quiet:
            thread.join()
