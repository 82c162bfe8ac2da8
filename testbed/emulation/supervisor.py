"""The outside of an emulated trial: opens the sandbox, passes its records on, stops it in order.

The supervisor only reads and writes; if it ends for any reason, the sandbox ends with it.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

from testbed import engine
from testbed.emulation.bounds import check
from testbed.emulation.cpu_quota import CpuQuota
from testbed.emulation.processes.channel import (
    EventRecord,
    Failure,
    Message,
    Outcome,
    RecordReader,
    RecordWriter,
    channel,
)
from testbed.emulation.processes.sample_block import SampleBlock
from testbed.emulation.processes.status_table import SETTING_UP_NS, TRAFFIC, TRIAL, StatusTable
from testbed.emulation.processes.trial_process import named
from testbed.emulation.processes.watchdog import Watchdog
from testbed.emulation.recording import Recording
from testbed.emulation.sandbox import Sandbox, Watch
from testbed.emulation.trial import Trial
from testbed.engine import Recorder, TrialPlan
from testbed.errors import EXIT_INTERRUPTED, EXIT_OK, Interrupted, TestbedError, ToolError
from testbed.scenario.complaints import Complaint, refuse_first
from testbed.scenario.model import Scenario
from testbed.scenario.network import Network
from testbed.system import interrupts, places, waiting
from testbed.units import NS_PER_MS, NS_PER_S

END_WITHIN_NS = 30 * NS_PER_S  # once it was told to, or has handed its outcome over
_POLL_NS = 100 * NS_PER_MS
_MORE_PATIENCE_NS = 5 * NS_PER_S  # than the guard's, which can tell more exactly
_KILLED = 128  # and the number of the signal: how the guard reports the end of PID 1
_READ = "read logs/trial.log in the run directory; `dmesg` shows whether memory ran out"


class Emulation:
    """The engine of the real kernel: see `engine.Engine`."""

    def complaints(self, scenario: Scenario, network: Network) -> Iterator[Complaint]:
        """Yield what the kernel has no way to do."""
        return check(scenario, network)

    def programs(self) -> Mapping[str, Path]:
        """Return the BPF programs."""
        return {f"bpf/{name}": places.bpf_object(name) for name in ("node", "sink", "link")}

    def datapath(self, scenario: Scenario) -> str | None:
        """Return the userspace one, which every kernel can carry, unless the scenario asks for the kernel's."""
        return "system" if scenario.topology.switch_ports == "kernel" else "netdev"

    def run(self, plan: TrialPlan, recorder: Recorder) -> engine.Outcome:
        """Run one trial in a sandbox."""
        return emulate(plan, recorder)


def emulate(plan: TrialPlan, recorder: Recorder) -> engine.Outcome:
    """Run one trial in a sandbox and return what came of it.

    Ctrl-C (or another request to stop) ends the traffic and the trial in order; a second one ends it at once.

    Args:
        plan: what to run.
        recorder: takes samples and events as they come.

    Raises:
        InputError: what the kernel has no way to do.
        Interrupted: stopped before there was anything to count.
        TestbedError: what failed inside, as it was raised there.
    """
    refuse_first(check(plan.scenario, plan.network))
    plan.phases.begin("making the sandbox", time.monotonic_ns())
    reader, records = channel()
    table = _table_for(plan)
    watch = _Watch(reader, table, Recording(recorder, plan.network), outlives=plan.restarts)
    quota = CpuQuota()  # opened here: the sandbox has a /sys without control groups
    with interrupts.taken(watch.stop), closing(reader):
        sandbox = Sandbox(
            lambda: Trial(plan, records, table, quota).run(),
            lambda error: RecordWriter(records).send(Failure.of("the sandbox", error)),
            _guarding(table, records),
        )
        quota.close()
        records.close()
        return watch.watch(sandbox)


def _table_for(plan: TrialPlan) -> StatusTable:
    network, beside = plan.network, 4  # PID 1, the balancer, a standby, the sink of TCP
    table = StatusTable(beside + 2 * len(network.nodes) + len(network.clients) + len(plan.scenario.tcp))
    table.row(TRIAL).does("starting", SETTING_UP_NS)
    return table


def _guarding(table: StatusTable, records: socket.socket) -> Watch:
    """Return what the guard does: it looks at the status table, and tells the supervisor why it has ended a trial."""
    watchdog = Watchdog(table)

    def watch() -> Callable[[], None] | None:
        error = watchdog.finding(time.monotonic_ns())
        return None if error is None else partial(RecordWriter(records).send, Failure(error, ends=True))

    return watch


class _Watch:
    def __init__(self, reader: RecordReader, table: StatusTable, recording: Recording, outlives: bool) -> None:
        self._reader, self._recording = reader, recording
        self._outlives = outlives  # the trial the failure of one of its processes, unless it ends itself
        self._row, self._watchdog = table.row(TRIAL), Watchdog(table, _MORE_PATIENCE_NS)
        self._sandbox: Sandbox | None = None
        self._failure: Failure | None = None
        self._outcome: Outcome | None = None
        self._stops = 0
        self._over_ns: int | None = None  # when it should begin to end: it was told to, or there was nothing more to do
        self._flowing_ns = time.monotonic_ns()  # when traffic flowed last
        self._left_doing = ""

    def watch(self, sandbox: Sandbox) -> engine.Outcome:
        self._sandbox = sandbox
        if self._stops:  # while it was being made
            sandbox.stop()
        try:
            status = self._until_end(sandbox)
        except BaseException:
            sandbox.kill()
            raise
        ended_ns = time.monotonic_ns()
        if self._outcome is None or self._stops > 1:
            raise self._reason(status)
        teardown_s = (ended_ns - (self._over_ns or ended_ns)) / NS_PER_S
        interrupted = self._stops > 0 or self._outcome.interrupted
        evidence = replace(self._outcome.evidence, teardown_s=teardown_s)
        return engine.Outcome(evidence, interrupted, self._outcome.manifest, self._outcome.packets)

    def _until_end(self, sandbox: Sandbox) -> int:
        while True:
            waiting.readable([self._reader.fileno(), sandbox.fileno()], _POLL_NS)
            status = sandbox.poll()
            while self._take_all() and status is not None:
                pass  # nobody writes any more: what is there is all
            self._recording.tick()
            if status is not None:
                return status
            self._look(sandbox, time.monotonic_ns())

    def _take_all(self) -> int:
        """Process the messages that are there; return how many."""
        messages = list(self._reader.read())
        for message in messages:
            self._take(message)
        return len(messages)

    def _take(self, message: Message) -> None:
        if isinstance(message, SampleBlock):
            self._recording.samples(message)
        elif isinstance(message, EventRecord):
            self._recording.event(message.t_ns, message.line)
        elif isinstance(message, Failure):
            self._failure = message if self._failure is None or message.ends or self._outlives else self._failure
            self._over_ns = self._over_ns if self._outlives and not message.ends else time.monotonic_ns()
        else:
            self._outcome, self._over_ns = message, time.monotonic_ns()

    def _look(self, sandbox: Sandbox, now_ns: int) -> None:
        """Say what the trial waits for, and end it when that takes too long."""
        doing = self._row.seen(now_ns).doing
        self._flowing_ns = now_ns if doing == TRAFFIC else self._flowing_ns
        self._recording.waiting(doing, now_ns - self._flowing_ns)
        finding = self._watchdog.finding(now_ns)
        if finding is not None:
            self._failure = Failure(finding, ends=True)
            sandbox.kill()
        elif self._over_ns is not None and now_ns - self._over_ns > END_WITHIN_NS:
            self._left_doing = doing
            sandbox.kill()

    def stop(self) -> None:
        """Stop the trial in order; asked again, at once."""
        self._stops += 1
        self._over_ns = self._over_ns or time.monotonic_ns()
        if self._sandbox is not None:
            (self._sandbox.stop if self._stops == 1 else self._sandbox.kill)()

    def _reason(self, status: int) -> TestbedError:
        """Return why there is no outcome."""
        if self._stops > 1:
            return Interrupted("running the trial", "interrupted twice, so it ended before its results were complete")
        if status == EXIT_INTERRUPTED and self._failure is None:
            return Interrupted("running the trial", "interrupted before its processes could handle the request to stop")
        if self._failure is not None and not self._was_ended_by_others(status):
            return self._failure.error
        if self._left_doing:
            happened = f"interrupted, and killed because it did not end within {END_WITHIN_NS // NS_PER_S} s: it was"
            return Interrupted("running the trial", f"{happened} {self._left_doing}")
        return ToolError("running the trial", fate_of_sandbox(status), _READ)

    def _was_ended_by_others(self, status: int) -> bool:
        """Return whether guard or PID 1 was killed; what its processes say as that ends them is no cause."""
        by_us = self._left_doing or (self._failure is not None and self._failure.ends)
        return not by_us and _ended_by_a_signal(status)


def _ended_by_a_signal(status: int) -> bool:
    """Return whether guard or PID 1 was killed.  `EXIT_INTERRUPTED` is no sign of that: SIGINT kills no PID 1."""
    return status < 0 or (status > _KILLED and status != EXIT_INTERRUPTED)


def fate_of_sandbox(status: int) -> str:
    """Return what the status of the guard says: its own end by a signal, else that of the sandbox's first process."""
    if status < 0:
        return f"the guard of its sandbox was ended by {named(-status)}, and everything inside with it"
    if _ended_by_a_signal(status):
        return f"the first process of its sandbox was ended by {named(status - _KILLED)}, and everything inside with it"
    return f"it ended with status {status}" if status != EXIT_OK else "it ended without a result"
