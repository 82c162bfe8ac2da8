"""The wire form of the mesh: sealed messages (`sealing`) whose body is an array ``[kind, …]`` in msgpack.

Names are numbers in it, the place of a member in the run's list.  What a message says of its sender needs no name: a
heartbeat is the sender's, testimony the sender's own, and states are the sender's alone in a mesh where everybody tells
everybody.  In a larger one states are passed on (`policies.membership`), so there a member may lie about what another
said of itself; of liveness nobody speaks but the monitors, each for itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgpack  # type: ignore[import-untyped]
import numpy as np

from testbed.policies.membership import BALANCER, FULL_SYNC_MEMBERS
from testbed.records.events import (
    Action,
    Event,
    HeartbeatHeard,
    SendHeartbeat,
    SendStates,
    SendTestimony,
    StatesHeard,
    WitnessHeard,
)
from testbed.wire.sealing import LONG_AGO_NS, Channel, Keyring, Opener, Sealer

_HEARTBEAT, _TESTIMONY, _STATES = 0, 1, 2
_MAX_VALUE = 2**62


class Codec:
    """One member's end: `datagrams` of what it sends, `decode` what it hears.

    Attributes:
        ignored: how many datagrams were ignored, by flaw; see `sealing.Opener`.
    """

    def __init__(self, ring: Keyring, now_ns: Callable[[], int], since_ns: int = LONG_AGO_NS) -> None:
        """Make an end.

        Args:
            ring: the keys of the member.
            now_ns: the run's clock.
            since_ns: when this life of the member began; what was sent before it is ignored.
        """
        self._sealer, self._opener = Sealer(ring, Channel.MESH, now_ns), Opener(ring, Channel.MESH, since_ns)
        self._members = ring.members
        self._number = {member: i for i, member in enumerate(self._members)}
        nodes = sum(member != BALANCER for member in self._members)
        self._passed_on = nodes > FULL_SYNC_MEMBERS
        self.ignored = self._opener.ignored

    # ------------------------------------------------------------------------------------------------------ sending

    def datagrams(self, action: Action) -> list[tuple[str, bytes]]:
        """Return whom a `SendHeartbeat`, `SendTestimony` or `SendStates` goes to, and what goes there."""
        assert isinstance(action, (SendHeartbeat, SendTestimony, SendStates))
        return self._sealer.seal(msgpack.packb(self._body(action)), action.to)

    def _body(self, action: Action) -> list[Any]:
        if isinstance(action, SendHeartbeat):
            return [_HEARTBEAT, action.incarnation]
        if isinstance(action, SendTestimony):
            return [_TESTIMONY, self._numbers(action.nodes), action.incarnation.tolist(), action.silent.tolist()]
        assert isinstance(action, SendStates)
        sizes = (action.limit_bytes, action.backlog_bytes, action.predicted_bytes)
        columns = [column.tolist() for column in (action.taken_ns, *sizes, action.severity_ratio)]
        return [_STATES, self._numbers(action.nodes), *columns]

    def _numbers(self, nodes: Sequence[str]) -> list[int]:
        return [self._number[node] for node in nodes]

    # ---------------------------------------------------------------------------------------------------- receiving

    def decode(self, datagram: bytes) -> Event | None:
        """Return the event a datagram announces, None when it was ignored."""
        opened = self._opener.open(datagram)
        if opened is None:
            return None
        try:
            event = self._event(opened.sender, msgpack.unpackb(opened.body))
        except (ValueError, TypeError, IndexError, OverflowError, msgpack.UnpackException):
            self._opener.ignore("malformed")
            return None
        if isinstance(event, StatesHeard) and not self._passed_on and event.nodes != (opened.sender,):
            self._opener.ignore("forged")
            return None
        return event

    def _event(self, sender: str, body: Any) -> Event:
        kind, *fields = body
        if kind == _HEARTBEAT:
            (incarnation,) = fields
            return HeartbeatHeard(sender, _integers([incarnation])[0].item())
        nodes = tuple(self._members[number] for number in _integers(fields[0]).tolist())
        if kind == _TESTIMONY:
            incarnation, silent = (_integers(field) for field in fields[1:])
            if _fit(nodes, [incarnation, silent], 2):
                return WitnessHeard(sender, nodes, incarnation, silent)
        sizes = [_integers(field) for field in fields[1:-1]]
        severity = np.array(fields[-1], dtype=np.float64)
        if kind == _STATES and _fit(nodes, [*sizes, severity], 5) and bool(np.all((severity >= 0) & (severity <= 1))):
            taken, limit, backlog, predicted = sizes
            return StatesHeard(nodes, taken, limit, backlog, predicted, severity)
        raise ValueError("no message of this version")


def _fit(nodes: tuple[str, ...], columns: Sequence[Any], count: int) -> bool:
    """Tell whether these are `count` columns, one row for each of the nodes, none of them named twice."""
    rows = (len(nodes),)
    return len(columns) == count and all(column.shape == rows for column in columns) and len(set(nodes)) == len(nodes)


def _integers(values: Any) -> Any:
    if not isinstance(values, list) or any(type(v) is not int or not 0 <= v < _MAX_VALUE for v in values):
        raise ValueError("no list of integers in range")
    return np.array(values, dtype=np.int64)
