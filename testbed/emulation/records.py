"""The way out of the sandbox: every process of a trial hands its records to the supervisor through one channel.

A message is one datagram of a sequenced-packet socket pair, so that messages of many writers never mix and the reader
never sees half of one.  Writers batch; the supervisor writes the run directory, outside the sandbox.  What is written a
hundred times a second are tuples: names are put to their values by the reader, who has the time.
"""

from __future__ import annotations

import pickle
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from testbed import failures
from testbed.errors import TestbedError
from testbed.results.evidence import Evidence

ROW = (
    "t_ns",
    "node",
    "arrived_bytes",
    "arrived_pkts",
    "dropped_bytes",
    "dropped_pkts",
    "backlog_bytes",
    "qdisc_backlog_bytes",
    "backlog_beside_bytes",
    "limit_bytes",
    "predicted_bytes",
    "severity_ratio",
    "new_flows",
    "gap_max_ns",
    "peak_1ms_bytes",
    "delivered_bytes",
    "delivered_t_ns",
    "deflected_bytes",
    "deflected_pkts",
    "lateness_ns",
    "loop_ns",
    "look_ns",
    "decide_ns",
    "act_ns",
    "record_ns",
)
"""What an agent tells of a sample; the names are those of `results.samples.COLUMNS`."""

_BUFFER_BYTES = 16 * 10**6
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33
_MAX_MESSAGE_BYTES = 1 << 20


class SampleRow(NamedTuple):
    """One row of ``samples.parquet`` and the policy input it stands for; `values` are in the order of `ROW`."""

    policy: str
    interval_ns: int
    values: tuple[Any, ...]

    @property
    def columns(self) -> dict[str, Any]:
        """Return the row by name."""
        return dict(zip(ROW, self.values, strict=True))


class EventRecord(NamedTuple):
    """One line of ``events.jsonl``."""

    t_ns: int
    record: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Failure:
    """A process of the trial cannot go on; `error` says which one, and why."""

    error: TestbedError

    @classmethod
    def of(cls, member: str, error: BaseException) -> Failure:
        """Return the failure of a member that raised `error`; where it was raised is known here and nowhere else."""
        remedy = "please report it with logs/trial.log of the run directory"
        return cls(failures.shown(error, f"running {member}", remedy))


@dataclass(frozen=True, slots=True)
class Outcome:
    """The trial is over: its evidence, what the manifest should say of the emulation, whether it was stopped early."""

    evidence: Evidence
    manifest: dict[str, Any]
    interrupted: bool = False


Message = SampleRow | EventRecord | Failure | Outcome


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
        if self._batch:
            self._end.send(pickle.dumps(self._batch, protocol=5))
            self._batch = []


class RecordReader:
    """The reading end."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._end.setblocking(False)

    def fileno(self) -> int:
        """Return the descriptor, for `select`."""
        return self._end.fileno()

    def close(self) -> None:
        """Let go of the descriptor."""
        self._end.close()

    def read(self) -> Iterator[Message]:
        """Yield every message that is there now; ends when there is none (for the moment, or for good)."""
        while True:
            try:
                data = self._end.recv(_MAX_MESSAGE_BYTES)
            except BlockingIOError:
                return
            if not data:
                return
            yield from pickle.loads(data)  # noqa: S301 (written by our own forked processes)


def channel() -> tuple[RecordReader, socket.socket]:
    """Return the reading end and the socket for `RecordWriter`s; made before the sandbox is forked."""
    reading, writing = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    reading.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
    writing.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _BUFFER_BYTES)
    return RecordReader(reading), writing
