"""State machine replication: the standby always has the state of the primary.

The state of the balancer depends only on its inputs and their times.  A second balancer that receives the same inputs
at the same times has the same state (Schneider, "Implementing fault-tolerant services using the state machine
approach", 1990), including slots and random numbers.  So the primary sends its inputs over a local socket, not its
state.  The inputs of one iteration of its loop are one message, sent at the end of the iteration.

The same socket is the failure detector.  The kernel closes it when the process dies, so a death is detected at once.  A
primary without inputs sends an empty message every `HEARTBEAT_NS`; one that sends nothing for `HUNG_NS` is considered
hung.  The standby reads all waiting messages before it decides: messages that waited while the standby itself was late
count as received.

The last message of the primary is its lease on the switch, for `LEASE_NS`, which is shorter than the time after which
the standby takes over (Gray and Cheriton, "Leases", 1989).  The primary checks the lease before every input, since it
may be stopped between any two inputs.  When the lease has expired, it processes no input until it has sent another
message, which shows whether the standby still receives.

An input is processed, recorded and then sent.  If the primary dies or is stopped in between, the input exists only in
the record, and the switch refuses the changes that it caused.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import msgpack  # type: ignore[import-untyped]

from testbed.units import NS_PER_MS

HEARTBEAT_NS = 50 * NS_PER_MS
HUNG_NS = 300 * NS_PER_MS
LEASE_NS = HUNG_NS // 2
_MAX_MESSAGE_BYTES = 1 << 20
_BUFFER_BYTES = 4 * 10**6
_SO_SNDBUFFORCE = 32

Input = tuple[Any, ...]  # kind, time, and further plain values


def line() -> tuple[socket.socket, socket.socket]:
    """Return the primary's and the standby's end; each process must close the other one's."""
    primary, standby = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    primary.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _BUFFER_BYTES)
    return primary, standby


class Journal:
    """The primary's end.

    Attributes:
        lost: the other end is not read any more, or too slowly.
    """

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._end = end
        self._noted: list[Input] = []
        self._shipped_ns = -HEARTBEAT_NS
        self.lost = False

    def note(self, taken: Input) -> None:
        """Keep an input for the next `ship`, if the standby still receives."""
        if not self.lost:
            self._noted.append(taken)

    def lease_is_over(self, now_ns: int) -> bool:
        """Return whether the standby may be about to take over; if so, call `ship` before anything else."""
        return now_ns - self._shipped_ns >= LEASE_NS

    def ship(self, now_ns: int) -> None:
        """Send the noted inputs, or an empty message if a heartbeat is due."""
        if self.lost or not (self._noted or now_ns - self._shipped_ns >= HEARTBEAT_NS):
            return
        message, self._noted = msgpack.packb(self._noted), []
        try:
            self._end.send(message)
        except OSError:
            self.lost = True
        self._shipped_ns = now_ns


class Follower:
    """The standby's end."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._end = end
        self._heard_ns: int | None = None
        self.closed = False

    def fileno(self) -> int:
        """Return the descriptor, for `select`."""
        return self._end.fileno()

    def inputs(self, now_ns: int) -> Iterator[Input]:
        """Yield all waiting inputs; set `closed` if the primary is dead."""
        while True:
            try:
                message = self._end.recv(_MAX_MESSAGE_BYTES)
            except BlockingIOError:
                return
            except ConnectionError:
                message = b""
            if not message:
                self.closed = True
                return
            self._heard_ns = now_ns
            yield from (tuple(taken) for taken in msgpack.unpackb(message))

    @property
    def hung_ns(self) -> int | None:
        """Return when the primary is considered hung if it sends nothing more; None before its first message."""
        return None if self._heard_ns is None else self._heard_ns + HUNG_NS

    def close(self) -> None:
        """Close the connection, which shows a live primary that the standby has stopped following."""
        self._end.close()
