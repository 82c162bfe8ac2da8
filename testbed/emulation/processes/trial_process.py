"""A process of a trial: forked from one process that has loaded everything, so that it starts fast and shares memory.

A process sends one byte when it is ready, receives the start time, works, and ends on SIGTERM or when it is done.  Its
report is read after its end; it is stored in an anonymous file, so that a report of any size can be written without a
reader.  An error that the process cannot handle is sent through the records channel; then the trial fails with an error
that names the process.
"""

from __future__ import annotations

import gc
import os
import pickle
import signal
import socket
import struct
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from testbed.emulation.processes.channel import Failure, RecordWriter
from testbed.emulation.processes.status_table import SETTING_UP_NS, Row
from testbed.errors import EXIT_INTERRUPTED, EXIT_OK, EXIT_TOOL_FAILED, ToolError
from testbed.system import interrupts, kernel, waiting
from testbed.units import NS_PER_S

READY_WITHIN_NS = 60 * NS_PER_S  # since the last process became ready
END_WITHIN_S = 10.0
AT_WORK = "running"
_READY, LISTENING = b"r", b"l"  # sent by a process: everything is prepared; other processes can connect
_FEW = 4

Body = Callable[["TrialConnection", RecordWriter], None]


class TrialConnection:
    """The connection of a process to the trial."""

    def __init__(self, end: socket.socket, report: int, row: Row) -> None:
        """Send through `end`. The trial reads the file `report` after the process has ended, and `row` at any time."""
        self._end, self._report, self._row = end, report, row
        self.stopped_early = False  # set by a source that did not send everything

    def ready(self) -> int:
        """Report that everything is prepared, wait for the start, return the start time t0 (CLOCK_MONOTONIC, ns)."""
        self._row.rests("waiting for the start")
        self._end.send(_READY)
        t0_ns = int(struct.unpack("q", self._end.recv(8))[0])
        self._row.does(AT_WORK)
        return t0_ns

    def say_ready(self) -> None:
        """Report that everything is prepared, without waiting for the start."""
        self._row.does(AT_WORK)
        self._end.send(_READY)

    def say_listening(self) -> None:
        """Report that other processes can connect, before everything is prepared."""
        self._end.send(LISTENING)

    def sign(self) -> None:
        """Send a heartbeat, for a loop without a pulse."""
        self._row.sign(time.monotonic_ns())

    def report(self, record: dict[str, Any]) -> None:
        """Write a record that the trial reads after this process has ended."""
        self._row.does("reporting", SETTING_UP_NS)
        with open(self._report, "wb", closefd=False) as file:
            pickle.dump(record, file)


class Stopped:
    """Turns SIGTERM into a flag that a loop can test: true from the first SIGTERM on."""

    def __init__(self, then: Callable[[], None] = lambda: None) -> None:
        """Handle the signal; the handler also calls `then`."""
        self._stopped, self._then = False, then
        signal.signal(signal.SIGTERM, self._stop)

    def _stop(self, *_: object) -> None:
        self._stopped = True
        self._then()

    def __bool__(self) -> bool:
        return self._stopped


class TrialProcess:
    """A forked process of the trial, seen from its parent."""

    def __init__(self, name: str, body: Body, records: socket.socket, row: Row) -> None:
        """Fork and run `body` with a connection to the trial and its own record writer; `row` is its status row."""
        self.name, self._row = name, row
        row.does("starting", SETTING_UP_NS)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._report = os.memfd_create(f"report of {name}")
        gc.freeze()  # the collector must not touch, and so copy, pages shared with the parent
        with interrupts.held_back():
            self.pid = os.fork()
            if self.pid == 0:
                ours.close()
                _live(name, body, TrialConnection(theirs, self._report, row), RecordWriter(records))
        theirs.close()
        self._connection = ours
        self.status: int | None = None

    def fileno(self) -> int:
        """Return a descriptor that can be read when the process is ready, or has ended instead."""
        return self._connection.fileno()

    def take(self, said: bytes = _READY) -> None:
        """Read the next byte that the process sent.

        Raises:
            ToolError: the process ended before it sent `said`.
        """
        if self._connection.recv(1) != said:
            self.join(END_WITHIN_S)
            raise ToolError(f"starting {self.name}", self.fate(), "read logs/trial.log")

    @property
    def ready_ns(self) -> int:
        """Return when the process, which waits for its start, became ready (CLOCK_MONOTONIC)."""
        return self._row.seen(0).since_ns

    def start(self, t0_ns: int) -> None:
        """Give the process its start time."""
        self._connection.send(struct.pack("q", t0_ns))

    def ended(self) -> bool:
        """Return whether the process has ended; its exit status is then in `status`."""
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._row.rests()
                self.status = os.waitstatus_to_exitcode(status)
        return self.status is not None

    def fate(self) -> str:
        """Return how the process ended."""
        return fate_of(self.name, self.status or EXIT_OK)

    def stop(self) -> None:
        """Ask the process to end."""
        if not self.ended():
            self._row.rests("ending")
            os.kill(self.pid, signal.SIGTERM)

    def suspend(self) -> None:
        """Stop the process (SIGSTOP); the watchdog does not expect heartbeats from it meanwhile."""
        self._row.rests("suspended")
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Resume a suspended process."""
        self._row.does(AT_WORK)
        os.kill(self.pid, signal.SIGCONT)

    def cost(self) -> dict[str, float]:
        """Return the CPU time (s) of the running process since its start, and its memory (bytes).

        The memory is the proportional set size: pages shared by k processes count as one k-th.

        Raises:
            ToolError: the process has ended.
        """
        if self.ended():
            raise ToolError("ending the trial", self.fate(), "read logs/ in the run directory")
        fields = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        rollup = Path(f"/proc/{self.pid}/smaps_rollup").read_text(encoding="ascii")
        pss_kb = next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
        cpu_s = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        return {"cpu_s": cpu_s, "pss_bytes": pss_kb * 1024}

    def reported(self) -> dict[str, Any]:
        """Return what the process wrote with `TrialConnection.report`; call this after the process has ended.

        Raises:
            ToolError: the process wrote no report.
        """
        with open(self._report, "rb", closefd=False) as file:
            file.seek(0)  # parent and child share the file offset
            left = file.read()
        if not left:
            raise ToolError(f"reading the report of {self.name}", "it wrote none", "read logs/trial.log")
        record: dict[str, Any] = pickle.loads(left)  # noqa: S301 (written by our own forked process)
        return record

    def close(self) -> None:
        """Close the connection and the report."""
        self._connection.close()
        os.close(self._report)

    def join(self, timeout_s: float) -> bool:
        """Wait for the end, and end it after `timeout_s`; return whether it ended by itself."""
        deadline = time.monotonic() + timeout_s
        while not self.ended():
            if time.monotonic() > deadline:
                os.kill(self.pid, signal.SIGKILL)
                self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
                return False
            time.sleep(0.002)
        return True


def wait_all_ready(processes: Iterable[TrialProcess], row: Row, said: bytes = _READY) -> None:
    """Wait until every process has sent `said`; meanwhile `row` names the processes waited for.

    Raises:
        ToolError: a process ended instead, or for `READY_WITHIN_NS` no process became ready.
    """
    waited_for = {process.fileno(): process for process in processes}
    while waited_for:
        names = listed([process.name for process in waited_for.values()])
        with row.during(f"waiting for {names} to be ready", 2 * READY_WITHIN_NS):
            ready = _first_ready(list(waited_for))
        if not ready:
            happened = f"not ready within {READY_WITHIN_NS // NS_PER_S} s: {names}"
            raise ToolError("starting the processes of the trial", happened, "read logs/trial.log")
        for descriptor in ready:
            waited_for.pop(descriptor).take(said)


def _first_ready(descriptors: list[int]) -> list[int]:
    """Return the readable descriptors as soon as there are any; a signal does not end the wait."""
    deadline_ns = time.monotonic_ns() + READY_WITHIN_NS
    while (left_ns := deadline_ns - time.monotonic_ns()) > 0:
        if ready := waiting.readable(descriptors, left_ns):
            return ready
    return []


def join_all(processes: Sequence[TrialProcess]) -> None:
    """Wait until processes that were sent SIGTERM have ended.

    Raises:
        ToolError: a process did not end within `END_WITHIN_S` and was killed, or it ended with an error.
    """
    deadline = time.monotonic() + END_WITHIN_S
    late = [process.name for process in processes if not process.join(max(0.0, deadline - time.monotonic()))]
    if late:
        happened = f"{listed(late)} did not exit within {END_WITHIN_S:g} s of SIGTERM"
        raise ToolError("ending the trial", happened, "read logs/trial.log")
    broken = next((process for process in processes if process.status != EXIT_OK), None)
    if broken is not None:
        raise ToolError("ending the trial", broken.fate(), "read logs/ in the run directory")


def listed(names: Sequence[str]) -> str:
    """Return a few of the names, and how many more there are."""
    more = f" and {len(names) - _FEW} more" if len(names) > _FEW else ""
    return ", ".join(names[:_FEW]) + more


def named(number: int) -> str:
    """Return the name of a signal."""
    return next((known.name for known in signal.Signals if known == number), f"signal {number}")


def fate_of(name: str, status: int) -> str:
    """Return how a process ended that should not have ended, from its exit status (negative: the signal)."""
    if status < 0:
        return f"{name} was ended by {named(-status)}"
    if status in (EXIT_OK, EXIT_INTERRUPTED):
        return f"{name} ended early: it received SIGTERM from outside the trial"
    return f"{name} failed with status {status}"


def _live(name: str, body: Body, trial: TrialConnection, records: RecordWriter) -> None:
    status = EXIT_TOOL_FAILED
    try:
        interrupts.left_to_others()
        interrupts.released()
        kernel.name_process(name)
        body(trial, records)
        records.flush()
        status = EXIT_INTERRUPTED if trial.stopped_early else EXIT_OK
    except BaseException as error:  # noqa: BLE001 (the top-level handler of this process)
        traceback.print_exc()
        records.send(Failure.of(name, error))
    finally:
        os._exit(status)
