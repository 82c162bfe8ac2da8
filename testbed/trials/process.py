"""Trials as processes: each the ``python -m testbed run …`` that its manifest names.

So a trial in a sweep is no different from one by hand, and nothing of one trial lives on in the next.  The process dies
with ours.  Ctrl-C reaches it once, through us: it is in a session of its own, as a terminal would signal both, and a
second signal cuts a trial off instead of ending it.

**Side by side.**  Who calls asks for one trial after the other and gets what came of each.  Simulated trials may begin
before they are asked for (`TrialProcesses.looking_ahead`), as many as there are processors and memory for; what came of
one is kept until it is asked for.  So the caller sees the same as with one at a time, whichever trial was the faster.
An emulated trial has the machine for itself: its figures depend on what else runs.

**Where.**  `TrialProcesses` keeps the order; an `Executor` carries trials out: `ChildProcesses` on this machine,
`remote.Workers` on others.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from testbed.capacity import memory
from testbed.errors import (
    EXIT_EXPECTATION_FAILED,
    EXIT_INTERRUPTED,
    EXIT_INVALID,
    EXIT_OK,
    InputError,
    MachineError,
    TestbedError,
)
from testbed.records.engines import is_real_time
from testbed.scenario.loading import LoadedScenario
from testbed.system import allowance, interrupts, kernel, waiting
from testbed.trials.child import Child, Ended
from testbed.units import NS_PER_MS

# What no later trial would end without, by exit code: the scenario or the machine is to blame.
HOPELESS: dict[int, type[TestbedError]] = {kind.exit_code: kind for kind in (InputError, MachineError)}
# The exit codes of trials that have a result.
WITH_RESULT = (EXIT_OK, EXIT_EXPECTATION_FAILED, EXIT_INVALID, EXIT_INTERRUPTED)

TESTBED = (sys.executable, "-m", "testbed")
_TICK_NS = 500 * NS_PER_MS
# What those that run side by side get after the request to stop, for all to have ended within two seconds.
_CUT_OFF = ((1000 * NS_PER_MS, signal.SIGINT), (1500 * NS_PER_MS, signal.SIGKILL))


@dataclass(frozen=True, slots=True)
class TrialCall:
    """One run to be made.

    Attributes:
        name: of the trial.
        arguments: what follows ``python -m testbed``.
        out: the run directory.
        loaded: the scenario those arguments give.
        module: what is run in place of ``testbed``, on this machine.
    """

    name: str
    arguments: tuple[str, ...]
    out: Path
    loaded: LoadedScenario
    module: str = ""


RunTrial = Callable[[TrialCall], Ended]
Upcoming = Callable[[], TrialCall | None]


class Running(Protocol):
    """A trial that runs."""

    @property
    def call(self) -> TrialCall:
        """Return what it was called with."""

    def send(self, number: signal.Signals) -> None:
        """Ask it to stop; one that has ended takes no notice."""

    def ended(self) -> Ended:
        """Return how it ended, its run directory in its place; asked once, and only when it has."""


class Executor(Protocol):
    """Carries trials out."""

    @property
    def slots(self) -> int:
        """Return how many trials may run at a time."""

    def fits(self, call: TrialCall, running: Sequence[Running]) -> bool:
        """Tell whether there is memory for one more beside those that run."""

    def start(self, call: TrialCall) -> Running:
        """Begin a trial."""

    def wait(self, running: Sequence[Running], within_ns: int) -> list[Running]:
        """Return those that have ended, as soon as there are any, or none after `within_ns`."""


def jobs_for(engine: str, jobs: int | None) -> int:
    """Return how many trials of an engine may run at a time: as many as asked for, else as there are processors.

    Raises:
        InputError: fewer than one, or more than one of an engine whose clock is the machine's.
    """
    if jobs is not None and jobs < 1:
        raise InputError(f"--jobs {jobs}", "expected 1 or more", "leave it out for one trial a processor")
    if not is_real_time(engine):
        return jobs or allowance.cores()
    if jobs not in (None, 1):
        happened = f"trials of the {engine} run one at a time: they would compete for processors, and measure that"
        raise InputError(f"--jobs {jobs}", happened, "leave it out, or use --engine simulation")
    return 1


class TrialProcesses:
    """Runs trials; as a context manager it takes requests to stop and passes them on.

    Args:
        tick: called about twice a second while a trial is waited for.
        jobs: how many run at a time, at most, as processes of this machine.
        executor: carries them out instead.
    """

    def __init__(self, tick: Callable[[], None], jobs: int = 1, executor: Executor | None = None) -> None:
        self._tick = tick
        self._executor: Executor = ChildProcesses(jobs) if executor is None else executor
        self._running: list[Running] = []
        self._ended: dict[Path, Ended] = {}  # what was not asked for yet
        self._upcoming: Upcoming = _none
        self._next: TrialCall | None = None  # of those upcoming; it waits for memory
        self._signals = 0
        self._requests = interrupts.taken(self._stop)

    def __enter__(self) -> TrialProcesses:
        """Take the signals."""
        self._requests.__enter__()
        return self

    def __exit__(self, *details: Any) -> None:
        """Give the signals back."""
        self._requests.__exit__(*details)

    @property
    def ended_ahead(self) -> int:
        """Return how many have ended before they were asked for."""
        return len(self._ended)

    @property
    def running_ahead(self) -> int:
        """Return how many run beside the one that is waited for."""
        return max(0, len(self._running) - 1)

    def stopped(self) -> bool:
        """Return whether a request to stop has come."""
        return self._signals > 0

    def end_current(self) -> None:
        """End what runs, in order; other trials may follow."""
        self._signal(signal.SIGINT)

    @contextmanager
    def looking_ahead(self, upcoming: Upcoming) -> Iterator[None]:
        """Let trials begin before they are asked for, for the length of the block; after it none runs any more.

        Args:
            upcoming: returns the next trial that may begin, each once, and None while there is none.
        """
        self._upcoming = upcoming
        try:
            yield
        finally:
            self._upcoming, self._next = _none, None
            if not self.stopped():
                self._signal(signal.SIGINT)
            self._wait_for_all()
            self._ended.clear()

    def in_order(self, calls: Sequence[TrialCall]) -> Generator[tuple[TrialCall, Ended], None, None]:
        """Yield trials in order, each with how it ended; later ones begin before their turn."""
        left = deque(calls)
        with self.looking_ahead(lambda: left.popleft() if left else None):
            for call in calls:
                if left and left[0] is call:
                    left.popleft()
                yield call, self(call)

    def __call__(self, call: TrialCall) -> Ended:
        """Run a trial to its end, if it has not begun before; once stopped, run none any more."""
        if self.stopped():
            return Ended(EXIT_INTERRUPTED)
        if call.out not in {one.call.out for one in self._running} | self._ended.keys():
            self._next = None if self._next is call else self._next
            self._start(call)
        while call.out not in self._ended:
            self._begin_ahead()
            self._wait(_TICK_NS)
            if self.stopped():
                self._wait_for_all()
        ended = self._ended.pop(call.out)
        return Ended(EXIT_INTERRUPTED, ended.said) if self.stopped() else ended

    def _begin_ahead(self) -> None:
        while len(self._running) < self._executor.slots and not self.stopped():
            self._next = self._next or self._upcoming()
            if self._next is None or not self._executor.fits(self._next, self._running):
                return
            self._start(self._next)
            self._next = None

    def _start(self, call: TrialCall) -> None:
        self._running.append(self._executor.start(call))
        if self.stopped():  # while it was being started
            self._running[-1].send(signal.SIGINT)

    def _wait(self, within_ns: int) -> None:
        """Process those that end, as soon as there are any; call `tick` where there are none."""
        ready = self._executor.wait(self._running, within_ns)
        for one in ready:
            self._running.remove(one)
            self._ended[one.call.out] = one.ended()
        if not ready:
            self._tick()

    def _wait_for_all(self) -> None:
        """Wait until none runs any more; where several may, for so long only."""
        asked_ns = time.monotonic_ns()
        for after_ns, number in _CUT_OFF if self._executor.slots > 1 else ():
            while self._running and (left_ns := asked_ns + after_ns - time.monotonic_ns()) > 0:
                self._wait(min(left_ns, _TICK_NS))
            self._signal(number)
        while self._running:
            self._wait(_TICK_NS)

    def _stop(self) -> None:
        self._signals += 1
        self._signal(signal.SIGINT)

    def _signal(self, number: signal.Signals) -> None:
        for one in self._running:
            one.send(number)


class ChildProcesses:
    """Carries trials out as processes of this machine.

    Attributes:
        slots: how many run at a time, at most.
    """

    def __init__(self, jobs: int = 1) -> None:
        self.slots = jobs
        self._needs = memory.MemoryNeeds()

    def fits(self, call: TrialCall, running: Sequence[Running]) -> bool:
        """Tell whether there is memory for one more beside those that run."""
        taken = [(one.child.pid, one.most_bytes) for one in running if isinstance(one, _RunningChild)]
        return memory.fits(self._needs.most_bytes(call.loaded), taken)

    def start(self, call: TrialCall) -> Running:
        """Begin a trial; it dies with us."""
        tie = partial(kernel.die_with_parent, os.getpid())
        most_bytes = self._needs.most_bytes(call.loaded) if self.slots > 1 else 0
        program = (sys.executable, "-m", call.module) if call.module else TESTBED
        return _RunningChild(call, Child([*program, *call.arguments], tie=tie), most_bytes)

    def wait(self, running: Sequence[Running], within_ns: int) -> list[Running]:
        """Return those that have ended, as soon as there are any, or none after `within_ns`."""
        children = [one for one in running if isinstance(one, _RunningChild)]
        ready = waiting.readable([one.child.descriptor for one in children], within_ns)
        return [one for one in children if one.child.descriptor in ready]


@dataclass(frozen=True, eq=False)
class _RunningChild:
    call: TrialCall
    child: Child
    most_bytes: int  # of memory that it takes at most

    def send(self, number: signal.Signals) -> None:
        self.child.send(number)

    def ended(self) -> Ended:
        return self.child.ended()


def _none() -> None:
    return None
