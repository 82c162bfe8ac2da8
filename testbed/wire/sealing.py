"""The envelope of every control message: nobody is believed but the node that a message says it is from, and once.

    version u8 · channel u8 · run u32 · sender u16 · sent i64 · body · tag of 16 bytes            (network byte order)

**Who sent it.**  The tag is BLAKE2b-128 (RFC 7693) over all before it, under a key that belongs to one sender and one
receiver.  Both derive from the run's secret, which the supervisor keeps: a process is given the keys of its own pairs
(`Keyring`) and forgets the secret before it does anything else (`RunSecret.forget`).  So a member can speak for itself
alone.  What is left: the receiver of a pair could forge what it alone would believe, and the agent and the mesh member
of a node share that node's keys.  A signature (Ed25519) would let everybody verify; it takes 180 us to make and 350 us
to verify where a tag takes 3, and a node hears some hundred messages a second.

**Once.**  `sent` is the run's clock when the message was sealed, made strictly increasing.  Of each sender a receiver
takes only what is newer than the last it took, so a copy, an older message and one of an earlier life are all refused;
the clock does not go back, and a life begins later than the one before ended.  A receiver that restarts remembers
nothing and refuses instead whatever was sent before it began (`since_ns`).  A message that was overtaken is lost with
this, which is what should become of a state that is older than the one known.

**Channels.**  Each has its own numbers, and the tag covers it: a message of one cannot be replayed on another.

Whatever is not exactly this is counted by its first flaw and ignored; nothing that is received raises.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from hashlib import blake2b
from hmac import compare_digest
from typing import NamedTuple

VERSION = 2
KEY_BYTES, TAG_BYTES = 32, 16
MAX_DATAGRAM_BYTES = 65_507
FLAWS = ("malformed", "foreign", "forged", "replayed")
LONG_AGO_NS = -(2**62)

_HEADER = struct.Struct("!BBIHq")
SEAL_BYTES = _HEADER.size + TAG_BYTES
_PERSON = b"testbed pair"


class Channel(IntEnum):
    """What a message is about."""

    MESH = 1
    NOTIFICATION = 2
    SIBLINGS = 3
    REPORT = 4
    ANSWER = 5


@dataclass(frozen=True, slots=True)
class Keyring:
    """The keys of one member.

    Attributes:
        owner: whose they are.
        run_id: the run's 32-bit mark.
        members: everybody, in an order that is the same everywhere; a member's number is its place.
        to, of: the key for messages to and from each other member, by name.
    """

    owner: str
    run_id: int
    members: tuple[str, ...]
    to: Mapping[str, bytes]
    of: Mapping[str, bytes]


class RunSecret:
    """What all keys of a run derive from."""

    def __init__(self, secret: bytes | None = None) -> None:
        """Draw a secret, or take one of `KEY_BYTES` bytes."""
        self._secret = bytearray(os.urandom(KEY_BYTES) if secret is None else secret)
        if len(self._secret) != KEY_BYTES:
            raise ValueError(f"the secret has {len(self._secret)} bytes, not {KEY_BYTES}")

    def ring(self, owner: str, run_id: int, members: Sequence[str]) -> Keyring:
        """Return the keys of `owner`.

        Raises:
            ValueError: the secret was forgotten, or `owner` is no member.
        """
        if not any(self._secret) or owner not in members:
            raise ValueError(f"there are no keys for {owner} here")
        others = [member for member in members if member != owner]
        to = {other: self._key(owner, other) for other in others}
        return Keyring(owner, run_id, tuple(members), to, {other: self._key(other, owner) for other in others})

    def forget(self) -> None:
        """Overwrite the secret, in this process."""
        self._secret[:] = bytes(KEY_BYTES)

    def _key(self, sender: str, receiver: str) -> bytes:
        pair = f"{sender}\0{receiver}".encode()
        return blake2b(pair, key=bytes(self._secret), person=_PERSON, digest_size=KEY_BYTES).digest()


class _Tags:
    """Tags under the keys of pairs.

    A keyed hash takes its key in first, as much work as a short message: that is done once for each key that is used.
    """

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        self._keys = keys
        self._keyed: dict[str, blake2b] = {}

    def of(self, other: str, signed: bytes) -> bytes:
        keyed = self._keyed.get(other)
        if keyed is None:
            keyed = self._keyed[other] = blake2b(key=self._keys[other], digest_size=TAG_BYTES)
        tag = keyed.copy()
        tag.update(signed)
        return tag.digest()


class Opened(NamedTuple):
    """A message that is what it says it is."""

    sender: str
    sent_ns: int
    body: bytes


class Sealer:
    """Seals what its owner sends on one channel."""

    def __init__(self, ring: Keyring, channel: Channel, now_ns: Callable[[], int]) -> None:
        self._ring, self._channel, self._now_ns = ring, int(channel), now_ns
        self._number = ring.members.index(ring.owner)
        self._tags = _Tags(ring.to)
        self._sent_ns = LONG_AGO_NS

    def seal(self, body: bytes, to: Sequence[str]) -> list[tuple[str, bytes]]:
        """Return a datagram for each recipient."""
        self._sent_ns = max(self._sent_ns + 1, self._now_ns())
        signed = _HEADER.pack(VERSION, self._channel, self._ring.run_id, self._number, self._sent_ns) + body
        return [(name, signed + self._tags.of(name, signed)) for name in to]


class Opener:
    """Opens what its owner hears on one channel.

    Attributes:
        ignored: how many datagrams were ignored, by flaw: ``malformed`` (no message of this version and channel),
            ``foreign`` (another run, or no member), ``forged`` (not by whom it says), ``replayed`` (no newer than what
            was taken, or sent before we began).
    """

    def __init__(self, ring: Keyring, channel: Channel, since_ns: int = LONG_AGO_NS) -> None:
        """Begin to listen; `since_ns` is when, for one that may have listened before."""
        self._ring, self._channel = ring, int(channel)  # to compare an enumeration takes as long as to unpack a header
        self._senders = [member if member in ring.of else None for member in ring.members]  # nobody hears itself
        self._tags = _Tags(ring.of)
        self._taken_ns = [since_ns - 1 for _ in ring.members]
        self.ignored = dict.fromkeys(FLAWS, 0)

    def open(self, datagram: bytes) -> Opened | None:
        """Return the message, None when it was ignored."""
        if len(datagram) <= _HEADER.size + TAG_BYTES:
            return self._refused("malformed")
        version, channel, run_id, number, sent_ns = _HEADER.unpack_from(datagram)
        if version != VERSION or channel != self._channel:
            return self._refused("malformed")
        if run_id != self._ring.run_id or number >= len(self._senders) or (sender := self._senders[number]) is None:
            return self._refused("foreign")
        signed = datagram[:-TAG_BYTES]
        if not compare_digest(datagram[-TAG_BYTES:], self._tags.of(sender, signed)):
            return self._refused("forged")
        if sent_ns <= self._taken_ns[number]:
            return self._refused("replayed")
        self._taken_ns[number] = sent_ns
        return Opened(sender, sent_ns, signed[_HEADER.size :])

    def _refused(self, flaw: str) -> Opened | None:
        self.ignore(flaw)
        return None

    def ignore(self, flaw: str) -> None:
        """Count a datagram that is of no use."""
        self.ignored[flaw] += 1


def is_on(channel: Channel, datagram: bytes) -> bool:
    """Return whether a datagram claims to be a message of a channel."""
    return datagram[:2] == bytes((VERSION, channel))
