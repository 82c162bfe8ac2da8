"""The status table of a trial: the present step of each of its processes, and the time of its last heartbeat.

    processes, PID 1 ── a row each, in shared memory ──▶ guard: which do not respond any more?
                                                     └─▶ supervisor: what is the trial waiting for?

It is created before the sandbox is forked, so that the guard outside can read it: a process at a real-time priority
that never sleeps may prevent PID 1 from running, but not the guard, whose priority is higher.  A process writes its
present step, and how long it may go without a heartbeat (its *patience*).  Each iteration of its loop is a heartbeat
(`pulse`).  A process that is expected to be silent, because a fault has stopped it or because it waits for another
process, has no time limit (`Row.rests`).
"""

from __future__ import annotations

import mmap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from testbed.emulation.processes.pulse import PULSE_WORDS, Pulse
from testbed.units import NS_PER_S

TRIAL = "the trial"  # the name of PID 1
TRAFFIC = "traffic"  # what it does when all is well
PATIENCE_NS = 10 * NS_PER_S
SETTING_UP_NS = 60 * NS_PER_S  # a single step of set-up, on a machine that is busy

_SINCE, _PATIENCE, _PULSE = range(3)  # words of a row
_WORDS = _PULSE + PULSE_WORDS
_NAME_BYTES, _DOING_BYTES = 64, 192
_ROW_BYTES = 8 * _WORDS + _NAME_BYTES + _DOING_BYTES


class Seen(NamedTuple):
    """What a row says.

    Attributes:
        name: the process.
        doing: its present step, and since when (CLOCK_MONOTONIC, ns).
        silent_ns: how long it has given no sign.
    """

    name: str
    doing: str
    since_ns: int
    silent_ns: int


class Row:
    """One process in the status table, written by itself or, while it cannot, by its parent.

    Attributes:
        patience_ns: how long it may be without a sign unless said otherwise.
    """

    def __init__(self, memory: memoryview) -> None:
        self.patience_ns = PATIENCE_NS  # at its work
        self._words = memory[: 8 * _WORDS].cast("q")
        self._name, self._doing = memory[8 * _WORDS :][:_NAME_BYTES], memory[8 * _WORDS + _NAME_BYTES :]

    def name(self, name: str) -> None:
        """Take the row for the process of that name."""
        _write(self._name, name)

    def does(self, what: str, patience_ns: int | None = None) -> None:
        """Say what is being done from now on, and how long it may take between two signs."""
        _write(self._doing, what)
        self._words[_SINCE] = time.monotonic_ns()
        self._words[_PATIENCE] = self.patience_ns if patience_ns is None else patience_ns

    @contextmanager
    def during(self, what: str, patience_ns: int | None = None) -> Iterator[None]:
        """Say what is being done for the length of the block."""
        before = _read(self._doing), self._words[_PATIENCE]
        self.does(what, patience_ns)
        try:
            yield
        finally:
            self.does(*before)

    def sign(self, now_ns: int) -> None:
        """Give a sign; a process with a pulse gives it by that."""
        self._words[_PULSE] = now_ns

    def rests(self, what: str = "") -> None:
        """Say that no sign is to be expected."""
        self.does(what, 0)

    def pulse(self, period_ns: int) -> Pulse:
        """Return the pulse of a loop that waits `period_ns` at most."""
        return Pulse(period_ns, self._words[_PULSE:])

    def seen(self, now_ns: int) -> Seen:
        """Return what the row says."""
        signs = self._words[_SINCE], self._words[_PULSE]
        return Seen(_read(self._name), _read(self._doing), signs[0], now_ns - max(signs))

    def overdue(self, now_ns: int, since_ns: int = 0, more_ns: int = 0) -> bool:
        """Return whether it was silent, from `since_ns` on, for longer than it may be and `more_ns` beside."""
        patience_ns = self._words[_PATIENCE]
        last_ns = max(self._words[_SINCE], self._words[_PULSE], since_ns)
        return bool(patience_ns) and now_ns - last_ns > patience_ns + more_ns


class StatusTable:
    """The rows of a trial."""

    def __init__(self, rows: int) -> None:
        """Make room for as many processes."""
        memory = memoryview(mmap.mmap(-1, rows * _ROW_BYTES))
        self._rows = [Row(memory[k * _ROW_BYTES : (k + 1) * _ROW_BYTES]) for k in range(rows)]
        self._row_of: dict[str, Row] = {}

    def row(self, name: str) -> Row:
        """Return the row of a process, taken when it is first asked for: by its parent, before it is forked."""
        if name not in self._row_of:
            self._row_of[name] = self._rows[len(self._row_of)]
            self._row_of[name].name(name)
        return self._row_of[name]

    def overdue(self, now_ns: int, since_ns: int = 0, more_ns: int = 0) -> Iterator[Seen]:
        """Yield who has been silent for too long, in the order in which they were forked; see `Row.overdue`."""
        return (row.seen(now_ns) for row in self._rows if row.overdue(now_ns, since_ns, more_ns))


def _write(cell: memoryview, text: str) -> None:
    data = text.encode()[: len(cell)]
    cell[:] = data.ljust(len(cell), b"\0")


def _read(cell: memoryview) -> str:
    return bytes(cell).rstrip(b"\0").decode(errors="ignore")
