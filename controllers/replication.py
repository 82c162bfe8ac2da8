"""State machine replication: the standby knows at every moment what the primary knows.

The balancer decides by its inputs and their times alone.  Fed the same inputs at the same times, a second one is in the
same state (Schneider, "Implementing fault-tolerant services using the state machine approach", 1990), down to the slots
and the random numbers it will draw.  So the primary ships its inputs, not its state, over a local socket: what a turn
of its loop took in is one message, sent when the turn is over.

The same socket is the sign of life.  The kernel closes it with the process, so a death is noticed at once; a primary
with nothing to ship sends an empty message every `HEARTBEAT_NS`, and one that says nothing for `HUNG_NS` hangs.  The
standby empties the socket before it judges: messages that waited there while it was itself late count as heard.

What the primary shipped last is its lease on the switch, for `LEASE_NS` and so for less than the standby waits (Gray
and Cheriton, "Leases", 1989).  It looks at the lease before every input, since a stop may fall between any two; when
that is over it takes nothing in until it has shipped again, and so learnt whether anybody still follows.

An input is taken in, recorded and then shipped; one that is taken in as the primary dies or is stopped is in the record
alone, and what it leads to the switch refuses.
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

Input = tuple[Any, ...]  # its kind, its time, and what else belongs to it: plain values


def line() -> tuple[socket.socket, socket.socket]:
    """Return the primary's and the standby's end; each process must close the other one's."""
    primary, standby = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    primary.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _BUFFER_BYTES)
    return primary, standby


class Journal:
    """The primary's end.

    Attributes:
        lost: nobody reads the other end any more, or too slowly.
    """

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._end = end
        self._noted: list[Input] = []
        self._shipped_ns = -HEARTBEAT_NS
        self.lost = False

    def note(self, taken: Input) -> None:
        """Keep an input for the next `ship`, if there is still somebody to ship it to."""
        if not self.lost:
            self._noted.append(taken)

    def lease_is_over(self, now_ns: int) -> bool:
        """Tell whether the standby may be about to take over: `ship` before anything else."""
        return now_ns - self._shipped_ns >= LEASE_NS

    def ship(self, now_ns: int) -> None:
        """Send what was noted, or a sign of life when one is due."""
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
        """Yield every input that is there; sets `closed` when the primary is dead."""
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
        """Return when the primary is considered hung, if nothing more is heard; None before it has begun to speak."""
        return None if self._heard_ns is None else self._heard_ns + HUNG_NS

    def close(self) -> None:
        """Tell a primary that lives after all."""
        self._end.close()
