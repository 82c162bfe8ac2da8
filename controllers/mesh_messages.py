"""The wire form of the mesh: one datagram, one message, nobody believed who has not the run's key.

    version u8 · run u32 · sender u16 · sequence u64 · body (msgpack) · tag of 16 bytes          (network byte order)

The *tag* is BLAKE2b-128 (RFC 7693) over everything before it, keyed with a key drawn for the run and shared by its
members alone.  Body is an array ``[kind, …]``; names are numbers in it, the place of a member in the run's list.

**Replay.**  A sender counts its messages from the moment its life began (nanoseconds of the run's clock: a restarted
member begins above all it ever sent).  A receiver takes each number once, and none that is `WINDOW` or more
behind the highest (RFC 4303, section 3.4.3).  The run's mark keeps out what belongs to another run.

Whatever is not exactly this is counted by its first flaw and ignored; nothing that is received raises.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from hashlib import blake2b
from hmac import compare_digest
from typing import Any

import msgpack  # type: ignore[import-untyped]
import numpy as np

from testbed.events import (
    Action,
    Event,
    HeartbeatHeard,
    SendHeartbeat,
    SendStates,
    SendTestimony,
    StatesHeard,
    WitnessHeard,
)

VERSION = 1
KEY_BYTES = 32
TAG_BYTES = 16
WINDOW = 1024
MAX_DATAGRAM_BYTES = 65_507
FLAWS = ("malformed", "foreign", "forged", "replayed")

_HEADER = struct.Struct("!BIHQ")
_HEARTBEAT, _TESTIMONY, _STATES = 0, 1, 2
_MAX_VALUE = 2**62


class _Window:
    """The sequence numbers of one sender that were taken."""

    __slots__ = ("_highest", "_seen")

    def __init__(self) -> None:
        self._highest, self._seen = -1, 0

    def take(self, number: int) -> bool:
        """Take `number`, once; tell whether it was new and not too old."""
        ahead = number - self._highest
        if ahead > 0:
            self._seen = (self._seen << ahead | 1) & ((1 << WINDOW) - 1) if ahead < WINDOW else 1
            self._highest = number
            return True
        if -ahead >= WINDOW or self._seen >> -ahead & 1:
            return False
        self._seen |= 1 << -ahead
        return True


class Codec:
    """One member's end: `encode` what it sends, `decode` what it hears.

    Attributes:
        ignored: how many datagrams were ignored, by flaw: ``malformed`` (no message of this version), ``foreign``
            (another run, or no member), ``forged`` (wrong tag), ``replayed`` (seen before, or too old to tell).
    """

    def __init__(
        self, key: bytes, run_id: int, members: Sequence[str], sender: str | None = None, *, born_ns: int = 0
    ) -> None:
        """Make an end; one without a `sender` only listens.

        Args:
            key: of the run, `KEY_BYTES` long.
            run_id: the run's 32-bit mark.
            members: the same list at every member.
            sender: who we are.
            born_ns: when this life of the sender began, above that of any before.
        """
        if len(key) != KEY_BYTES:
            raise ValueError(f"the key has {len(key)} bytes, not {KEY_BYTES}")
        self._key, self._run_id, self._members = key, run_id, tuple(members)
        self._number = {member: i for i, member in enumerate(self._members)}
        self._sender = -1 if sender is None else self._number[sender]
        self._sequence = born_ns
        self._windows = [_Window() for _ in self._members]
        self.ignored = dict.fromkeys(FLAWS, 0)

    # ------------------------------------------------------------------------------------------------------ sending

    def encode(self, action: Action) -> bytes:
        """Return the datagram for a `SendHeartbeat`, `SendTestimony` or `SendStates`; the same for every recipient."""
        head = _HEADER.pack(VERSION, self._run_id, self._sender, self._sequence)
        self._sequence += 1
        signed: bytes = head + msgpack.packb(self._body(action))
        return signed + self._tag(signed)

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

    def _tag(self, signed: bytes) -> bytes:
        return blake2b(signed, key=self._key, digest_size=TAG_BYTES).digest()

    # ---------------------------------------------------------------------------------------------------- receiving

    def decode(self, datagram: bytes) -> Event | None:
        """Return the event a datagram announces, None when it was ignored."""
        signed, tag = datagram[:-TAG_BYTES], datagram[-TAG_BYTES:]
        if len(signed) <= _HEADER.size or signed[0] != VERSION:
            return self._ignored("malformed")
        _, run_id, sender, sequence = _HEADER.unpack_from(signed)
        if run_id != self._run_id or sender >= len(self._members):
            return self._ignored("foreign")
        if not compare_digest(tag, self._tag(signed)):
            return self._ignored("forged")
        if not self._windows[sender].take(sequence):
            return self._ignored("replayed")
        try:
            return self._event(self._members[sender], msgpack.unpackb(signed[_HEADER.size :]))
        except (ValueError, TypeError, IndexError, OverflowError, msgpack.UnpackException):
            return self._ignored("malformed")

    def _ignored(self, flaw: str) -> Event | None:
        self.ignored[flaw] += 1
        return None

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
