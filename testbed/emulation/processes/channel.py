"""The records channel: every process of a trial sends its records to the supervisor, outside the sandbox.

A message is one datagram of a sequenced-packet socket pair, so messages of several writers are never mixed, and the
reader never receives half of one.  A message that is too large for this (the outcome of a trial with many nodes) is
stored in an anonymous file, and its file descriptor is sent instead.  Writers send in batches; the supervisor writes
the run directory.
"""

from __future__ import annotations

import os
import pickle
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from testbed import failures
from testbed.emulation.processes.sample_block import SampleBlock
from testbed.errors import TestbedError
from testbed.records.events import Record
from testbed.records.evidence import Evidence
from testbed.records.written import Direction, written
from testbed.traffic.packet_times import PacketTimes

_BUFFER_BYTES = 16 * 10**6
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33
_MAX_MESSAGE_BYTES = 1 << 18
_IN_A_FILE = b"f"
MOST_AT_ONCE = 1000


class EventRecord(NamedTuple):
    """One line of ``events.jsonl``: its time and its written form."""

    t_ns: int
    line: dict[str, Any]

    @classmethod
    def of(cls, t_ns: int, record: Record, policy: str = "", direction: Direction | None = None) -> EventRecord:
        """Return the line of a record; see `written`."""
        return cls(t_ns, written(record, policy, direction))


@dataclass(frozen=True, slots=True)
class Failure:
    """A process of the trial cannot continue.

    Attributes:
        error: which one, and why.
        ends: whether who says so has ended the trial for it.
    """

    error: TestbedError
    ends: bool = False

    @classmethod
    def of(cls, process: str, error: BaseException) -> Failure:
        """Return the failure of a process that raised `error`; where it was raised is known here and nowhere else."""
        remedy = "please report it with logs/trial.log of the run directory"
        return cls(failures.shown(error, f"running {process}", remedy))


@dataclass(frozen=True, slots=True)
class Outcome:
    """The trial is over: its evidence, what the manifest should say of the emulation, whether it was stopped early.

    `packets` says when each packet was seen, where the scenario asks for it.
    """

    evidence: Evidence
    manifest: dict[str, Any]
    interrupted: bool = False
    packets: PacketTimes | None = None


Message = SampleBlock | EventRecord | Failure | Outcome


class RecordWriter:
    """The writing end.  Batches are pickled: both ends are ours and of one version."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._batch: list[Message] = []

    def add(self, message: Message) -> None:
        """Keep a message for the next `flush`."""
        self._batch.append(message)

    def send(self, message: Message) -> None:
        """Send a message at once, with all that was kept."""
        self._batch.append(message)
        self.flush()

    def flush(self) -> None:
        """Send what was kept."""
        if not self._batch:
            return
        data, self._batch = pickle.dumps(self._batch, protocol=5), []
        if len(data) <= _MAX_MESSAGE_BYTES:
            self._end.send(data)
        else:
            self._send_as_file(data)

    def _send_as_file(self, data: bytes) -> None:
        descriptor = os.memfd_create("records")
        try:
            with open(descriptor, "wb", closefd=False) as file:
                file.write(data)
            socket.send_fds(self._end, [_IN_A_FILE], [descriptor])
        finally:
            os.close(descriptor)


class RecordReader:
    """The reading end."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._end.setblocking(False)

    def fileno(self) -> int:
        """Return the descriptor, to wait for."""
        return self._end.fileno()

    def close(self) -> None:
        """Let go of the descriptor."""
        self._end.close()

    def read(self) -> Iterator[Message]:
        """Yield the messages that are there now, those of `MOST_AT_ONCE` datagrams at most."""
        for _ in range(MOST_AT_ONCE):
            try:
                data, files, _, _ = socket.recv_fds(self._end, _MAX_MESSAGE_BYTES, 1)
            except BlockingIOError:
                return
            if not data:
                return
            yield from pickle.loads(_whole(files[0]) if files else data)  # noqa: S301 (by our own forked processes)


def _whole(descriptor: int) -> bytes:
    """Return what is in a file that was handed over."""
    with open(descriptor, "rb") as file:
        file.seek(0)  # the writer's place in it is ours, too
        return file.read()


def channel() -> tuple[RecordReader, socket.socket]:
    """Return the reading end and the socket for `RecordWriter`s; made before the sandbox is forked."""
    reading, writing = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    reading.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
    writing.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _BUFFER_BYTES)
    return RecordReader(reading), writing
