"""The wire format of the mesh: sealed messages (`sealing`) whose body is an array ``[kind, …]`` in msgpack.

After the kind come names and columns in the order in which the record declares them.  Names are numbers, the place of a
member in the run's list.  The sender is not named in the body: a heartbeat is of its sender, a report is by its sender,
and in a mesh where each member sends to all others a message holds the state of its sender alone.  In a larger mesh
states are passed on (`policies.membership`), so there a member may lie about the state of another; about liveness only
monitors report, each what it observed itself.
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
    Floats,
    HeartbeatHeard,
    Record,
    SendHeartbeat,
    SendStates,
    SendSuspicions,
    States,
    StatesHeard,
    Suspicions,
    SuspicionsHeard,
    columns_of,
    fields_of,
)
from testbed.wire.sealing import LONG_AGO_NS, Channel, Keyring, Opener, Sealer

_HEARTBEAT, _SUSPICIONS, _STATES = 0, 1, 2
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
        """Return whom a `SendHeartbeat`, `SendSuspicions` or `SendStates` goes to, and what goes there."""
        assert isinstance(action, (SendHeartbeat, SendSuspicions, SendStates))
        return self._sealer.seal(msgpack.packb(self._body(action)), action.to)

    def _body(self, action: SendHeartbeat | SendSuspicions | SendStates) -> list[Any]:
        if isinstance(action, SendHeartbeat):
            return [_HEARTBEAT, action.incarnation]
        number, declared = (_SUSPICIONS, Suspicions) if isinstance(action, SendSuspicions) else (_STATES, States)
        columns = [getattr(action, name).tolist() for name in columns_of(declared)]
        return [number, [self._number[node] for node in action.nodes], *columns]

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
            return HeartbeatHeard(node=sender, incarnation=_integers([incarnation])[0].item())
        nodes = tuple(self._members[number] for number in _integers(fields[0]).tolist())
        if kind == _SUSPICIONS:
            return SuspicionsHeard(monitor=sender, nodes=nodes, **_columns(Suspicions, nodes, fields[1:]))
        if kind == _STATES:
            return StatesHeard(nodes=nodes, **_columns(States, nodes, fields[1:]))
        raise ValueError("no message of this version")


def _columns(declared: type[Record], nodes: tuple[str, ...], values: Sequence[Any]) -> dict[str, Any]:
    """Return the columns of a record by name: a row for each of the nodes, none of them named twice."""
    if len(set(nodes)) < len(nodes):
        raise ValueError("a node named twice")
    of_rows = [field for field in fields_of(declared) if field.name != "nodes"]
    found = {
        field.name: (_ratios if field.type == Floats else _integers)(column)
        for field, column in zip(of_rows, values, strict=True)
    }
    if any(column.shape != (len(nodes),) for column in found.values()):
        raise ValueError("not as many rows as nodes")
    return found


def _ratios(values: Any) -> Any:
    found = np.array(values, dtype=np.float64)
    if not bool(np.all((found >= 0) & (found <= 1))):
        raise ValueError("a ratio outside 0..1")
    return found


def _integers(values: Any) -> Any:
    if not isinstance(values, list) or any(type(v) is not int or not 0 <= v < _MAX_VALUE for v in values):
        raise ValueError("no list of integers in range")
    return np.array(values, dtype=np.int64)
