"""Requests to stop: which signals they are, and who takes them.

Ctrl-C (SIGINT), `kill` and service managers (SIGTERM), a terminal that is closed (SIGHUP) and the quit key (SIGQUIT)
all mean the same here: stop in order and keep what there is.  The first is a request, a second interrupts at once.
A process started with SIGHUP ignored (nohup) continues to ignore it.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager

STOP_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT") if hasattr(signal, name)
)


def heeded() -> list[signal.Signals]:
    """Return the stop signals that this process does not ignore on purpose."""
    hangup = getattr(signal, "SIGHUP", None)
    ignored = {hangup} if hangup is not None and signal.getsignal(hangup) == signal.SIG_IGN else set()
    return [number for number in STOP_SIGNALS if number not in ignored]


@contextmanager
def taken(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` for each request to stop, for the length of the block; signals are the main thread's alone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(*_: object) -> None:
        stop()

    before = [(number, signal.signal(number, handle)) for number in heeded()]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)


@contextmanager
def held_back(numbers: Iterable[signal.Signals] = STOP_SIGNALS) -> Iterator[None]:
    """Let requests to stop wait for the length of the block: across a fork, until the child has handlers of its own."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def released() -> None:
    """Let requests to stop come again, in a child that was forked while they were held back."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)


def left_to_others() -> None:
    """Ignore what a terminal sends, for a process of a trial: who stands for all of it stops it in order by SIGTERM."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.SIG_IGN)


def interrupt() -> None:
    """Raise KeyboardInterrupt."""
    raise KeyboardInterrupt


class Stopping:
    """Takes requests to stop for the length of the block: `asked` says whether one came; a second one interrupts.

    So does the first, if nobody calls `heard` for `patience_s` after it: who is to stop in order may be in the middle
    of something that does not end.  Signals are the main thread's alone; elsewhere nothing is asked.
    """

    def __init__(self, patience_s: float = 1.5) -> None:
        self.asked = False
        self._patience_s = patience_s
        self._block = ExitStack()

    def heard(self) -> bool:
        """Return whether one came; the caller is then responsible for stopping."""
        if self.asked:
            signal.setitimer(signal.ITIMER_REAL, 0)
        return self.asked

    def __enter__(self) -> Stopping:
        if threading.current_thread() is threading.main_thread():
            self._block.callback(signal.signal, signal.SIGALRM, signal.signal(signal.SIGALRM, lambda *_: interrupt()))
            self._block.callback(signal.setitimer, signal.ITIMER_REAL, 0)
            self._block.enter_context(taken(self._ask))
        return self

    def __exit__(self, *details: object) -> None:
        self._block.__exit__(*details)  # type: ignore[arg-type]

    def _ask(self) -> None:
        if self.asked:
            interrupt()
        self.asked = True
        signal.setitimer(signal.ITIMER_REAL, self._patience_s)
