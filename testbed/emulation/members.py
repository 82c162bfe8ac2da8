"""The processes of a trial: forked from one warmed process, so that thirty start in a blink and share its memory.

A member sends one byte when it is ready, gets the start time, works, and ends when told (SIGTERM) or when done.  What
it leaves to be read after its end lies in an anonymous file, so that a report of any size waits for no reader.  What it
cannot cope with it reports through the records channel and ends; the trial then ends as failed, naming the member.
"""

from __future__ import annotations

import gc
import os
import pickle
import select
import signal
import socket
import struct
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from testbed import interrupts
from testbed.emulation import kernel
from testbed.emulation.records import Failure, RecordWriter
from testbed.errors import EXIT_INTERRUPTED, EXIT_OK, EXIT_TOOL_FAILED, ToolError

READY_TIMEOUT_S = 30.0
_READY = b"r"

Body = Callable[["Line", RecordWriter], None]


class Line:
    """A member's line to the trial."""

    def __init__(self, end: socket.socket, report: int) -> None:
        """Speak through `end`; `report` is the file that the trial reads when the member has ended."""
        self._end, self._report = end, report
        self.stopped_early = False  # to be set by a source that did not send all it was to

    def ready(self) -> int:
        """Say that all is prepared, wait for the start and return its time t0 (CLOCK_MONOTONIC, ns)."""
        self.say_ready()
        return int(struct.unpack("q", self._end.recv(8))[0])

    def say_ready(self) -> None:
        """Say that all is prepared, without waiting for the start."""
        self._end.send(_READY)

    def report(self, record: dict[str, Any]) -> None:
        """Leave a record for the trial to read when this member has ended."""
        with open(self._report, "wb", closefd=False) as file:
            pickle.dump(record, file)


class Stopped:
    """Turns SIGTERM into a flag a loop can look at: truthy once it came."""

    def __init__(self) -> None:
        self._stopped = False
        signal.signal(signal.SIGTERM, self._stop)

    def _stop(self, *_: object) -> None:
        self._stopped = True

    def __bool__(self) -> bool:
        return self._stopped


class Member:
    """A forked process of the trial, seen from its parent."""

    def __init__(self, name: str, body: Body, records: socket.socket) -> None:
        """Fork and run `body`; it gets its line and its own record writer."""
        self.name = name
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._report = os.memfd_create(f"report of {name}")
        gc.freeze()  # the collector must not touch, and so copy, pages shared with the parent
        with interrupts.held_back():
            self.pid = os.fork()
            if self.pid == 0:
                ours.close()
                _live(name, body, Line(theirs, self._report), RecordWriter(records))
        theirs.close()
        self._line = ours
        self.status: int | None = None

    def wait_ready(self, deadline_s: float) -> None:
        """Wait until the member is ready (`deadline_s` on the monotonic clock).

        Raises:
            ToolError: when it ended instead, or is not ready in time.
        """
        if not select.select([self._line], [], [], max(0.0, deadline_s - time.monotonic()))[0]:
            raise ToolError(f"starting {self.name}", "it is not ready in time", "read logs/trial.log")
        if self._line.recv(1) != _READY:
            raise ToolError(f"starting {self.name}", "it ended before it was ready", "read logs/trial.log")

    def start(self, t0_ns: int) -> None:
        """Give the member its start time."""
        self._line.send(struct.pack("q", t0_ns))

    def ended(self) -> bool:
        """Tell whether the process has ended; its exit status is then in `status`."""
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
        return self.status is not None

    def fate(self) -> str:
        """Return how the process, which has ended, did."""
        return fate_of(self.name, self.status or EXIT_OK)

    def stop(self) -> None:
        """Ask the process to end."""
        if not self.ended():
            os.kill(self.pid, signal.SIGTERM)

    def cost(self) -> dict[str, float]:
        """Return what the running member has cost: processor time (s) since its start and memory of its own (bytes).

        The memory is the proportional set size: pages shared by k processes count as one k-th.
        """
        fields = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        rollup = Path(f"/proc/{self.pid}/smaps_rollup").read_text(encoding="ascii")
        pss_kb = next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
        cpu_s = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        return {"cpu_s": cpu_s, "pss_bytes": pss_kb * 1024}

    def reported(self) -> dict[str, Any]:
        """Return what the member left by `Line.report`; call it when the member has ended.

        Raises:
            ToolError: it left nothing.
        """
        with open(self._report, "rb", closefd=False) as file:
            file.seek(0)  # the member's place in it is ours, too
            left = file.read()
        if not left:
            raise ToolError(f"asking {self.name} for its report", "it left none", "read logs/trial.log")
        record: dict[str, Any] = pickle.loads(left)  # noqa: S301 (written by our own forked process)
        return record

    def close(self) -> None:
        """Let go of the line and of the report."""
        self._line.close()
        os.close(self._report)

    def join(self, timeout_s: float) -> None:
        """Wait for the end, and end it after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while not self.ended():
            if time.monotonic() > deadline:
                os.kill(self.pid, signal.SIGKILL)
                self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
                return
            time.sleep(0.002)


def wait_all_ready(members: Iterable[Member]) -> None:
    """Wait until every member is ready."""
    deadline = time.monotonic() + READY_TIMEOUT_S
    for member in members:
        member.wait_ready(deadline)


def named(number: int) -> str:
    """Return the name of a signal."""
    return next((known.name for known in signal.Signals if known == number), f"signal {number}")


def fate_of(name: str, status: int) -> str:
    """Return how a process ended that was to live on, by its exit status (negative: the signal that ended it)."""
    if status < 0:
        return f"{name} was ended by {named(-status)}"
    if status in (EXIT_OK, EXIT_INTERRUPTED):
        return f"{name} ended too early: somebody else told it to (SIGTERM)"
    return f"{name} failed with status {status}"


def _live(name: str, body: Body, line: Line, records: RecordWriter) -> None:
    status = EXIT_TOOL_FAILED
    try:
        interrupts.left_to_others()
        interrupts.released()
        kernel.name_process(name)
        body(line, records)
        records.flush()
        status = EXIT_INTERRUPTED if line.stopped_early else EXIT_OK
    except BaseException as error:  # noqa: BLE001 (the last door of this process)
        traceback.print_exc()
        records.send(Failure.of(name, error))
    finally:
        os._exit(status)
