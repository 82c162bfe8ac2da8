"""The kill matrix: which process of a trial is sent which signal in which phase, and what has to come of it.

Two rules decide what is right.  Command, guard and PID 1 stand for the whole trial: a request to stop (TERM, INT, HUP,
QUIT) to any of them ends it in order, exit 130.  Every other process is a part of it: what ends a part ends the trial
with exit 4 and a message that names the part and the signal; a part ignores what a terminal sends.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from signal import Signals

from testbed.bench.running_trial import FORWARDER, SUPERVISOR, TRIAL
from testbed.emulation.sandbox import GUARD
from testbed.errors import EXIT_EXPECTATION_FAILED, EXIT_INTERRUPTED, EXIT_INVALID, EXIT_OK, EXIT_TOOL_FAILED

START, SET_UP, READY, TRAFFIC, FAULT, DRAIN, ENDING, WRITING = (
    "start", "set-up", "before traffic", "traffic", "fault", "drain", "ending", "writing",
)  # fmt: skip
COMMAND = SUPERVISOR  # `run` is the supervisor of its trial
SERVER = "ovsdb-server"
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGKILL, signal.SIGABRT)
STOPS = SIGNALS[:4]

_WHOLE = (COMMAND, GUARD, TRIAL)
_DAEMONS = (FORWARDER, SERVER)
_MEMBERS = ("balancer", "standby", "agents", "mesh")
_SENDER = "sender c1"
_ALL = (*_WHOLE, *_DAEMONS, *_MEMBERS, _SENDER)
VICTIMS = {
    START: (COMMAND,),  # the command takes signals, and has not begun anything
    SET_UP: _ALL,
    READY: _ALL,  # everybody is there, no packet has been sent
    TRAFFIC: _ALL,
    FAULT: _ALL,  # a node is silent
    DRAIN: (*_WHOLE, *_DAEMONS, *_MEMBERS),
    ENDING: (*_WHOLE, *_DAEMONS),  # the processes have been stopped
    WRITING: (COMMAND,),  # the sandbox is gone
}
COMPLETED = frozenset({EXIT_OK, EXIT_EXPECTATION_FAILED, EXIT_INVALID})
INTERRUPTED = frozenset({EXIT_INTERRUPTED})
FAILED = frozenset({EXIT_TOOL_FAILED})


@dataclass(frozen=True, slots=True)
class Cell:
    """One place of the matrix."""

    phase: str
    number: Signals
    victim: str

    def __str__(self) -> str:
        """Return its name, by which it can be chosen."""
        return f"{self.phase}/{self.number.name.removeprefix('SIG')}/{self.victim}"


@dataclass(frozen=True, slots=True)
class Expected:
    """What has to come of it.

    Attributes:
        codes: exit codes of the command that are right (negative: ended by that signal).
        message: regular expression of what it has to say when it fails (exit 4).
    """

    codes: frozenset[int]
    message: str = ""


def cells() -> Iterator[Cell]:
    """Yield every place of the matrix."""
    for phase, victims in VICTIMS.items():
        yield from (Cell(phase, number, victim) for victim in victims for number in SIGNALS)


def expected(cell: Cell) -> Expected:
    """Return what is right."""
    found = _expected(cell)
    # Once a trial has handed over what it counted, the end of its processes takes nothing from that.
    late = cell.phase in (ENDING, WRITING) and found.codes != frozenset({-cell.number})
    return Expected(found.codes | COMPLETED, found.message) if late else found


def _expected(cell: Cell) -> Expected:
    if cell.victim in _WHOLE and cell.number in STOPS:
        return Expected(INTERRUPTED)
    if cell.victim == COMMAND:
        return Expected(frozenset({-cell.number}))
    if cell.victim == GUARD:
        return Expected(FAILED, f"the guard of its sandbox was ended by {cell.number.name}")
    if cell.victim == TRIAL:
        return _of_init(cell.number)
    return _of_part(cell)


def _of_init(number: Signals) -> Expected:
    """Return what is right for PID 1 of a namespace, which the kernel lets nothing but SIGKILL end."""
    if number == signal.SIGKILL:
        return Expected(FAILED, "the first process of its sandbox was ended by SIGKILL")
    return Expected(COMPLETED)


def _of_part(cell: Cell) -> Expected:
    if cell.number in STOPS and cell.number != signal.SIGTERM:
        return Expected(COMPLETED)
    early = f"|{cell.victim} ended early" if cell.number == signal.SIGTERM else ""
    return Expected(FAILED, f"{cell.victim} was ended by {cell.number.name}{early}")
