"""The wire format of the mesh: sealed datagrams (`sealing`), their body an array of messages ``[kind, …]`` in msgpack.

What a member has to send to another at one time is one datagram: to send and to receive one costs more than to encode
its content.  A heartbeat is ``[0, incarnation]``; a report and states are ``[kind, rows]``, where each row is the
number of a node (16 bits), which is its place in the run's list, and the columns that the record declares in their
order (64 bits each), all in network byte order.  The sender is not named in the body: a heartbeat is of its sender, a
report is by its sender, and in a mesh where each member sends to all others a message holds the state of its sender
alone.  In a larger mesh states are passed on (`policies.membership`), so there a member may lie about the state of
another; about liveness only monitors report, each what it observed itself.  The stages of the nodes are announced by
the orchestrator, and by nobody else.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgpack  # type: ignore[import-untyped]
import numpy as np

from testbed.policies.membership import BALANCER
from testbed.policies.sharing import FULL_SYNC_MEMBERS
from testbed.records.events import (
    Event,
    Floats,
    HeartbeatHeard,
    Record,
    SendHeartbeat,
    SendStages,
    SendStates,
    SendSuspicions,
    StageOfLife,
    Stages,
    StagesAnnounced,
    States,
    StatesHeard,
    Suspicions,
    SuspicionsHeard,
    columns_of,
    fields_of,
)
from testbed.wire.sealing import LONG_AGO_NS, Channel, Keyring, Opener, Sealer

_HEARTBEAT, _SUSPICIONS, _STATES, _STAGES = 0, 1, 2, 3
_MAX_VALUE = 2**62 - 1
_MAX_MESSAGES = 15  # of a datagram: the length of msgpack's short array
_SHORT_ARRAY = 0x90
_KEPT_BODIES = 16  # of a sender: one interval's states and report go to recipients of three kinds
ORCHESTRATOR = "orchestrator"  # whose announcements count
MAX_BYTES = 16_384  # of a datagram; more is cut off by who receives it, and so ignored


Sent = SendHeartbeat | SendSuspicions | SendStates | SendStages


class _Table:
    """The rows of a message: how one is packed, and the names of its columns.

    Attributes:
        columns: their names, in the order of the declaration.
        ratios: those that hold 0..1; the others hold whole numbers.
        kinds: the type of the numbers of each.
        row: the number of a node and a value for each column.
    """

    def __init__(self, declared: type[Record]) -> None:
        self.columns = columns_of(declared)
        self.ratios = frozenset(field.name for field in fields_of(declared) if field.type == Floats)
        self.kinds = {name: np.float64 if name in self.ratios else np.int64 for name in self.columns}
        self.row = struct.Struct("!H" + "".join("d" if name in self.ratios else "Q" for name in self.columns))


_REPORT, _STATE, _STAGE = _Table(Suspicions), _Table(States), _Table(Stages)
_TABLES = {SendSuspicions: (_SUSPICIONS, _REPORT), SendStates: (_STATES, _STATE), SendStages: (_STAGES, _STAGE)}


class Said(NamedTuple):
    """What a body says.

    Attributes:
        events: in order; none when there is a flaw.
        flaw: why it is to be ignored, empty when it is not.
    """

    events: tuple[Event, ...]
    flaw: str = ""


class Decoder:
    """Turns bodies into events, each body of a sender once, and each message that is its last one over again.

    A heartbeat says the same all its life, a report as long as nothing changes, and states go to several recipients.
    Members that live in one process share a decoder.  That a datagram is from its sender, and not an old one, has been
    found out before that, by each recipient with its own keys.
    """

    def __init__(self, members: Sequence[str]) -> None:
        """Decode for a mesh of `members`; a node's number is its place among them."""
        self._members = members
        self._passed_on = sum(member not in (BALANCER, ORCHESTRATOR) for member in members) > FULL_SYNC_MEMBERS
        self._known: dict[str, dict[bytes, Said]] = {member: {} for member in members}
        self._last: dict[tuple[str, Any], tuple[Any, Event]] = {}  # of each sender and kind

    def said(self, sender: str, body: bytes) -> Said:
        """Return what a body of that sender says; the events are shared, and not to be changed."""
        known = self._known[sender]
        said = known.get(body)
        if said is None:
            if len(known) >= _KEPT_BODIES:
                known.clear()
            said = known[body] = self._decoded(sender, body)
        return said

    def _decoded(self, sender: str, body: bytes) -> Said:
        try:
            events = tuple([self._once(sender, message) for message in msgpack.unpackb(body)])
        except (ValueError, TypeError, LookupError, OverflowError, struct.error, msgpack.UnpackException):
            events = ()
        if not events:
            return Said((), "malformed")
        if not self._passed_on and any(isinstance(e, StatesHeard) and e.nodes != (sender,) for e in events):
            return Said((), "forged")
        return Said(events)

    def _once(self, sender: str, message: Any) -> Event:
        key = sender, message[0]
        last = self._last.get(key)
        if last is None or last[0] != message:
            self._last[key] = last = message, self._event(sender, message)
        return last[1]

    def _event(self, sender: str, message: Any) -> Event:
        kind, *fields = message
        if kind == _HEARTBEAT:
            (incarnation,) = fields
            if type(incarnation) is not int or not 0 <= incarnation <= _MAX_VALUE:
                raise ValueError("no life")
            return HeartbeatHeard(node=sender, incarnation=incarnation)
        (rows,) = fields
        if kind == _SUSPICIONS:
            return SuspicionsHeard(monitor=sender, **self._columns(_REPORT, rows))
        if kind == _STATES:
            return StatesHeard(**self._columns(_STATE, rows))
        if kind == _STAGES and sender == ORCHESTRATOR:
            announced = StagesAnnounced(**self._columns(_STAGE, rows))
            if not set(announced.stage.tolist()) <= set(StageOfLife):
                raise ValueError("stage out of range")
            return announced
        raise ValueError("no message of this version")

    def _columns(self, table: _Table, rows: bytes) -> dict[str, Any]:
        """Return the columns of a record by name: a row for each of the nodes, none of them named twice."""
        numbers, *columns = list(zip(*table.row.iter_unpack(rows), strict=True)) or [()] * (1 + len(table.columns))
        if len(set(numbers)) < len(numbers):
            raise ValueError("a node named twice")
        found: dict[str, Any] = {"nodes": tuple(self._members[number] for number in numbers)}
        for name, column in zip(table.columns, columns, strict=True):
            if name in table.ratios and not all(0 <= value <= 1 for value in column):  # no number is in no range
                raise ValueError(f"{name} out of range")
            if max(column, default=0) > _MAX_VALUE:
                raise ValueError(f"{name} out of range")
            found[name] = np.array(column, dtype=table.kinds[name])
        return found


class Codec:
    """One member's end: `datagrams` of what it sends, `decode` what it hears.

    Attributes:
        ignored: how many datagrams were ignored, by flaw; see `sealing.Opener`.
    """

    def __init__(
        self, ring: Keyring, now_ns: Callable[[], int], since_ns: int = LONG_AGO_NS, decoder: Decoder | None = None
    ) -> None:
        """Make an end.

        Args:
            ring: the keys of the member.
            now_ns: the run's clock.
            since_ns: when this life of the member began; what was sent before it is ignored.
            decoder: of the same mesh, which it shares with others; default one alone.
        """
        self._sealer, self._opener = Sealer(ring, Channel.MESH, now_ns), Opener(ring, Channel.MESH, since_ns)
        self._decoder = decoder or Decoder(ring.members)
        self._number = {member: i for i, member in enumerate(ring.members)}
        self._pack = msgpack.Packer().pack
        self.ignored = self._opener.ignored

    # ------------------------------------------------------------------------------------------------------ sending

    def datagrams(self, actions: Sequence[Sent]) -> list[tuple[str, bytes]]:
        """Return what goes to whom: all that `SendHeartbeat`, `SendSuspicions`, `SendStates` tell one in a datagram."""
        if len(actions) == 1:  # mostly a heartbeat
            return self._sealer.seal(_body((self._packed(actions[0]),)), actions[0].to)
        told: dict[str, tuple[bytes, ...]] = {}
        for action in actions:
            packed = self._packed(action)
            for name in action.to:
                told[name] = (*told.get(name, ()), packed)
        alike: dict[tuple[bytes, ...], list[str]] = {}
        for name, messages in told.items():
            alike.setdefault(messages, []).append(name)
        return [sealed for messages, to in alike.items() for sealed in self._sealer.seal(_body(messages), to)]

    def _packed(self, action: Sent) -> bytes:
        if isinstance(action, SendHeartbeat):
            return bytes(self._pack((_HEARTBEAT, action.incarnation)))
        number, table = _TABLES[type(action)]
        columns = [getattr(action, name).tolist() for name in table.columns]
        rows = zip((self._number[node] for node in action.nodes), *columns, strict=True)
        return bytes(self._pack((number, b"".join([table.row.pack(*row) for row in rows]))))

    # ---------------------------------------------------------------------------------------------------- receiving

    def decode(self, datagram: bytes) -> tuple[Event, ...]:
        """Return the events a datagram announces, none when it was ignored."""
        opened = self._opener.open(datagram)
        if opened is None:
            return ()
        events, flaw = self._decoder.said(opened.sender, opened.body)
        if flaw:
            self._opener.ignore(flaw)
        return events


def _body(messages: Sequence[bytes]) -> bytes:
    assert len(messages) <= _MAX_MESSAGES
    return bytes((_SHORT_ARRAY | len(messages),)) + b"".join(messages)
