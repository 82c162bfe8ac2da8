"""An emulated trial seen from outside: opens the sandbox, passes its records on, stops it in order.

The supervisor only reads and writes; whatever becomes of it, the sandbox goes with it.
"""

from __future__ import annotations

import select
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, Protocol

from testbed.emulation.cpu_quota import CpuQuota
from testbed.emulation.records import EventRecord, Failure, Message, Outcome, RecordReader, SampleRow, channel
from testbed.emulation.sandbox import Sandbox
from testbed.emulation.trial import STOP, Trial
from testbed.emulation.trial_plan import TrialPlan
from testbed.errors import EXIT_OK, Interrupted, TestbedError, ToolError
from testbed.results.evidence import Evidence
from testbed.units import NS_PER_S

_POLL_S = 0.1


class Listener(Protocol):
    """Who is told of a trial as it goes on."""

    def sample(self, row: SampleRow) -> None:
        """Take in a row of samples."""

    def event(self, t_ns: int, record: dict[str, Any]) -> None:
        """Take in an event."""

    def tick(self) -> None:
        """Do what is to be done several times a second."""


@dataclass(frozen=True, slots=True)
class Emulated:
    """What came of a trial.

    Attributes:
        evidence: counts and times.
        manifest: what the manifest should say of the emulation.
        teardown_s: from the last count to the end of the sandbox.
        interrupted: whether it was stopped early, in order.
    """

    evidence: Evidence
    manifest: dict[str, Any]
    teardown_s: float
    interrupted: bool


def emulate(plan: TrialPlan, listener: Listener, began_ns: int) -> Emulated:
    """Run one trial in a sandbox and return what came of it.

    Ctrl-C (or SIGTERM) once ends the traffic and the trial in order; twice ends the sandbox at once.

    Args:
        plan: what to run.
        listener: told of everything on the way.
        began_ns: when set-up began (CLOCK_MONOTONIC), for `setup_s`.

    Raises:
        Interrupted: stopped before there was anything to count.
        TestbedError: what failed inside, as it was raised there.
    """
    reader, records = channel()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    quota = CpuQuota()  # opened here: the sandbox has a /sys without control groups
    sandbox = Sandbox(lambda: Trial(plan, records, theirs, began_ns, quota).run())
    quota.close()
    records.close()
    theirs.close()
    return _Watch(sandbox, reader, ours, listener).watch()


class _Watch:
    def __init__(self, sandbox: Sandbox, reader: RecordReader, control: socket.socket, listener: Listener) -> None:
        self._sandbox, self._reader, self._control, self._listener = sandbox, reader, control, listener
        self._failure: Failure | None = None
        self._outcome: Outcome | None = None
        self._stops = 0
        self._counted_ns = 0

    def watch(self) -> Emulated:
        try:
            with _signals_to(self._stop):
                status = self._until_end()
        except BaseException:
            self._sandbox.kill()
            raise
        ended_ns = time.monotonic_ns()
        if self._outcome is None:
            raise self._reason(status)
        teardown_s = (ended_ns - self._counted_ns) / NS_PER_S
        return Emulated(self._outcome.evidence, self._outcome.manifest, teardown_s, self._stops > 0)

    def _until_end(self) -> int:
        while True:
            select.select([self._reader], [], [], _POLL_S)
            status = self._sandbox.poll()
            for message in self._reader.read():
                self._take(message)
            self._listener.tick()
            if status is not None:
                return status

    def _take(self, message: Message) -> None:
        if isinstance(message, SampleRow):
            self._listener.sample(message)
        elif isinstance(message, EventRecord):
            self._listener.event(message.t_ns, message.record)
        elif isinstance(message, Failure):
            self._failure = self._failure or message
        else:
            self._outcome, self._counted_ns = message, time.monotonic_ns()

    def _stop(self) -> None:
        self._stops += 1
        if self._stops > 1:
            self._sandbox.kill()
        else:
            self._control.send(STOP)

    def _reason(self, status: int) -> TestbedError:
        """Return why there is no outcome."""
        if self._stops:
            return Interrupted("running the trial", "interrupted before the traffic was over")
        if self._failure is not None:
            error = self._failure.error
            if isinstance(error, TestbedError):
                return error
            return ToolError(f"running {self._failure.member}", repr(error), "read logs/trial.log in the run directory")
        happened = f"it ended with status {status}" if status != EXIT_OK else "it ended without a result"
        return ToolError("running the trial", happened, "read logs/trial.log in the run directory")


@contextmanager
def _signals_to(stop: Callable[[], None]) -> Iterator[None]:
    def handle(_number: int, _frame: FrameType | None) -> None:
        stop()

    before = [(number, signal.signal(number, handle)) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)
