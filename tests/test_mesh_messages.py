"""Mesh datagrams: what is sent is heard, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable

import msgpack  # type: ignore[import-untyped]
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.controllers.mesh_messages import KEY_BYTES, TAG_BYTES, WINDOW, Codec
from testbed.events import Action, HeartbeatHeard, SendHeartbeat, SendStates, SendTestimony, StatesHeard, WitnessHeard

MEMBERS = ("n1", "n2", "n3")
KEY = bytes(range(KEY_BYTES))


def ints(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def pair() -> tuple[Codec, Codec]:
    return Codec(KEY, 7, MEMBERS, "n1"), Codec(KEY, 7, MEMBERS, "n2")


TESTIMONY = SendTestimony(("n2",), ("n2", "n3"), ints(4, 5), ints(0, 1))
STATES = SendStates(("n2",), ("n1", "n3"), ints(9, 8), ints(500_000, 1), ints(0, 2), ints(7, 3), np.array([0.25, 1.0]))


def test_every_message_arrives_as_it_was_meant() -> None:
    ours, theirs = pair()
    assert theirs.decode(ours.encode(SendHeartbeat(("n2",), 3))) == HeartbeatHeard("n1", 3)
    assert theirs.decode(ours.encode(TESTIMONY)) == WitnessHeard("n1", ("n2", "n3"), ints(4, 5), ints(0, 1))
    heard = theirs.decode(ours.encode(STATES))
    assert isinstance(heard, StatesHeard)
    assert {**STATES.to_record(), "kind": "", "to": 0} == {**heard.to_record(), "kind": "", "to": 0}
    assert not any(theirs.ignored.values())


def test_messages_are_compact() -> None:
    assert len(pair()[0].encode(SendHeartbeat(("n2",), 0))) <= 36


@pytest.mark.parametrize("action", [SendHeartbeat(("n2",), 3), TESTIMONY, STATES], ids=lambda a: type(a).__name__)
def test_any_flipped_bit_and_any_cut_is_ignored(action: Action) -> None:
    ours, theirs = pair()
    datagram = ours.encode(action)
    for bit in range(8 * len(datagram)):
        flipped = bytearray(datagram)
        flipped[bit // 8] ^= 1 << bit % 8
        assert theirs.decode(bytes(flipped)) is None
    for length in range(len(datagram)):
        assert theirs.decode(datagram[:length]) is None
    assert theirs.decode(datagram + b"\0") is None
    assert sum(theirs.ignored.values()) == 8 * len(datagram) + len(datagram) + 1
    assert theirs.ignored["replayed"] == 0, "what was not genuine must not use up a number"
    assert theirs.decode(datagram) is not None


def test_replays_and_what_is_too_old_are_ignored() -> None:
    ours, theirs = pair()
    sent = [ours.encode(SendHeartbeat(("n2",), i)) for i in range(WINDOW + 2)]
    assert theirs.decode(sent[5]) is not None
    assert theirs.decode(sent[5]) is None
    assert theirs.decode(sent[3]) is not None, "out of order is not a replay"
    assert theirs.decode(sent[3]) is None
    assert theirs.decode(sent[-1]) is not None
    assert theirs.decode(sent[1]) is None, "too old to tell"
    assert theirs.decode(sent[2]) is not None
    assert theirs.ignored == {"malformed": 0, "foreign": 0, "forged": 0, "replayed": 3}


def test_numbers_of_senders_are_apart_and_a_later_life_begins_above() -> None:
    ours, theirs = pair()
    other = Codec(KEY, 7, MEMBERS, "n3")
    beat = SendHeartbeat(("n2",), 0)
    assert theirs.decode(ours.encode(beat)) == HeartbeatHeard("n1", 0)
    assert theirs.decode(other.encode(beat)) == HeartbeatHeard("n3", 0)
    reborn = Codec(KEY, 7, MEMBERS, "n1", born_ns=10**9)
    assert theirs.decode(reborn.encode(beat)) is not None
    assert theirs.decode(ours.encode(beat)) is None


@pytest.mark.parametrize(
    ("stranger", "flaw"),
    [
        (lambda: Codec(KEY[::-1], 7, MEMBERS, "n1"), "forged"),
        (lambda: Codec(KEY, 8, MEMBERS, "n1"), "foreign"),
        (lambda: Codec(KEY, 7, (*MEMBERS, "n4"), "n4"), "foreign"),
    ],
)
def test_other_keys_runs_and_members_are_ignored(stranger: Callable[[], Codec], flaw: str) -> None:
    _, theirs = pair()
    assert theirs.decode(stranger().encode(SendHeartbeat(("n2",), 0))) is None
    assert theirs.ignored[flaw] == 1


def test_key_has_to_be_whole() -> None:
    with pytest.raises(ValueError, match="31"):
        Codec(KEY[:-1], 7, MEMBERS)


@given(st.binary(max_size=300))
def test_random_datagrams_are_ignored(datagram: bytes) -> None:
    theirs = pair()[1]
    assert theirs.decode(datagram) is None
    assert sum(theirs.ignored.values()) == 1


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=3)
    | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=7) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
)


@given(plain | st.lists(plain, min_size=1, max_size=8).map(lambda rest: [2, *rest]) | st.binary(max_size=60))
def test_nonsense_under_the_right_key_does_not_raise(body: object) -> None:
    ours, theirs = pair()
    ours._body = lambda _: body  # type: ignore[assignment, method-assign, return-value]
    packed = ours.encode(STATES)
    if isinstance(body, bytes):  # not even msgpack
        signed = packed[: -TAG_BYTES - len(msgpack.packb(body))] + body
        packed = signed + ours._tag(signed)
    heard = theirs.decode(packed)
    assert heard is not None or sum(theirs.ignored.values()) == 1
