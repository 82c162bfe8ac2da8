"""An emulated trial seen from outside: opens the sandbox, passes its records on, stops it in order.

The supervisor only reads and writes; whatever becomes of it, the sandbox goes with it.
"""

from __future__ import annotations

import select
import time
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Protocol

from testbed import interrupts
from testbed.emulation.bounds import check
from testbed.emulation.cpu_quota import CpuQuota
from testbed.emulation.members import named
from testbed.emulation.records import (
    EventRecord,
    Failure,
    Message,
    Outcome,
    RecordReader,
    RecordWriter,
    SampleRow,
    channel,
)
from testbed.emulation.sandbox import Sandbox
from testbed.emulation.trial import Trial
from testbed.emulation.trial_plan import TrialPlan
from testbed.errors import EXIT_OK, Interrupted, TestbedError, ToolError
from testbed.results.evidence import Evidence
from testbed.spec.complaints import refuse_first
from testbed.units import NS_PER_S

_POLL_S = 0.1
_KILLED = 128  # and the number of the signal: how the guard reports the end of PID 1
_READ = "read logs/trial.log in the run directory; `dmesg` tells whether memory ran out"


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

    Ctrl-C (or another request to stop) ends the traffic and the trial in order; a second one ends it at once.

    Args:
        plan: what to run.
        listener: told of everything on the way.
        began_ns: when set-up began (CLOCK_MONOTONIC), for `setup_s`.

    Raises:
        InputError: what the kernel has no way to do.
        Interrupted: stopped before there was anything to count.
        TestbedError: what failed inside, as it was raised there.
    """
    refuse_first(check(plan.scenario, plan.network))
    reader, records = channel()
    watch = _Watch(reader, listener)
    quota = CpuQuota()  # opened here: the sandbox has a /sys without control groups
    with interrupts.taken(watch.stop), closing(reader):
        sandbox = Sandbox(
            lambda: Trial(plan, records, began_ns, quota).run(),
            lambda error: RecordWriter(records).send(Failure.of("the sandbox", error)),
        )
        quota.close()
        records.close()
        return watch.watch(sandbox)


class _Watch:
    def __init__(self, reader: RecordReader, listener: Listener) -> None:
        self._reader, self._listener = reader, listener
        self._sandbox: Sandbox | None = None
        self._failure: Failure | None = None
        self._outcome: Outcome | None = None
        self._stops = 0
        self._counted_ns = 0

    def watch(self, sandbox: Sandbox) -> Emulated:
        self._sandbox = sandbox
        if self._stops:  # while it was being made
            sandbox.stop()
        try:
            status = self._until_end(sandbox)
        except BaseException:
            sandbox.kill()
            raise
        ended_ns = time.monotonic_ns()
        if self._outcome is None:
            raise self._reason(status)
        teardown_s = (ended_ns - self._counted_ns) / NS_PER_S
        return Emulated(self._outcome.evidence, self._outcome.manifest, teardown_s, self._outcome.interrupted)

    def _until_end(self, sandbox: Sandbox) -> int:
        while True:
            select.select([self._reader], [], [], _POLL_S)
            status = sandbox.poll()
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

    def stop(self) -> None:
        """Stop the trial in order; asked again, at once."""
        self._stops += 1
        if self._sandbox is not None:
            (self._sandbox.stop if self._stops == 1 else self._sandbox.kill)()

    def _reason(self, status: int) -> TestbedError:
        """Return why there is no outcome."""
        if self._stops > 1:
            return Interrupted("running the trial", "interrupted twice, and so ended before its results were counted")
        if self._failure is not None:
            return self._failure.error
        return ToolError("running the trial", fate_of_sandbox(status), _READ)


def fate_of_sandbox(status: int) -> str:
    """Return what the status of the guard says: its own end by a signal, else that of the sandbox's first process."""
    if status < 0:
        return f"the guard of its sandbox was ended by {named(-status)}, and everything inside with it"
    if status > _KILLED:
        return f"the first process of its sandbox was ended by {named(status - _KILLED)}, and everything inside with it"
    return f"it ended with status {status}" if status != EXIT_OK else "it ended without a result"
