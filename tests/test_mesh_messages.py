"""Mesh datagrams: what is sent is heard, and nothing else is."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgpack  # type: ignore[import-untyped]
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.policies.membership import BALANCER
from testbed.policies.sharing import FULL_SYNC_MEMBERS, GOSSIP_ROWS
from testbed.records.events import (
    Action,
    HeartbeatHeard,
    SendHeartbeat,
    SendStates,
    SendSuspicions,
    StatesHeard,
    SuspicionsHeard,
    values_of,
)
from testbed.wire.mesh_messages import Codec, Decoder
from testbed.wire.sealing import Channel, RunSecret, Sealer
from tests import sealed

NODES = ("n1", "n2", "n3")


def ints(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def codec(owner: str, now_ns: Callable[[], int] | None = None, since_ns: int = 0, **ring: Any) -> Codec:
    times = itertools.count(1)
    return Codec(sealed.ring(owner, ring.pop("nodes", NODES), **ring), now_ns or (lambda: next(times)), since_ns)


def pair() -> tuple[Codec, Codec]:
    return codec("n1"), codec("n2")


def only(made: list[tuple[str, bytes]]) -> bytes:
    ((_, datagram),) = made
    return datagram


BEAT = SendHeartbeat(to=("n2",), incarnation=3)
TESTIMONY = SendSuspicions(to=("n2",), nodes=("n2", "n3"), incarnation=ints(4, 5), silent=ints(0, 1))
STATES = SendStates(
    to=("n2",),
    nodes=("n1",),
    taken_ns=ints(9),
    limit_bytes=ints(500_000),
    backlog_bytes=ints(0),
    predicted_bytes=ints(7),
    severity_ratio=np.array([0.25]),
)


HEARD = SuspicionsHeard(monitor="n1", nodes=("n2", "n3"), incarnation=ints(4, 5), silent=ints(0, 1))


def test_every_message_arrives_as_it_was_meant() -> None:
    ours, theirs = pair()
    assert theirs.decode(only(ours.datagrams([BEAT]))) == (HeartbeatHeard(node="n1", incarnation=3),)
    assert theirs.decode(only(ours.datagrams([TESTIMONY]))) == (HEARD,)
    (heard,) = theirs.decode(only(ours.datagrams([STATES])))
    assert isinstance(heard, StatesHeard)
    assert {**STATES.to_record(), "kind": "", "to": 0} == {**heard.to_record(), "kind": "", "to": 0}
    assert not any(theirs.ignored.values())


def test_what_one_is_told_at_a_moment_is_one_datagram_and_nobody_gets_more_than_is_his() -> None:
    """To send and to receive a datagram costs more than all else: a heartbeat, a report and a state go together."""
    ours, theirs, balancer = *pair(), codec(BALANCER)
    report = replace(TESTIMONY, to=("n2", "n3", BALANCER))
    sent = ours.datagrams([BEAT, report, replace(STATES, to=("n2", "n3"))])
    assert sorted(name for name, _ in sent) == [BALANCER, "n2", "n3"]
    to = dict(sent)
    kinds = [HeartbeatHeard, SuspicionsHeard, StatesHeard]
    assert [type(event) for event in theirs.decode(to["n2"])] == kinds
    assert [type(event) for event in codec("n3").decode(to["n3"])] == kinds[1:]
    assert balancer.decode(to[BALANCER]) == (HEARD,)


def test_one_flaw_spoils_the_whole_datagram() -> None:
    theirs = codec("n2")
    sealer = Sealer(sealed.ring("n1", NODES), Channel.MESH, lambda: 5)
    for body in ([], [[0, 3], [0, -1]], [[0, 3], [9]], [[0, 3], [1, b"\0"]], [0, 3]):
        assert theirs.decode(only(sealer.seal(msgpack.packb(body), ("n2",)))) == ()
    assert theirs.ignored["malformed"] == 5


def test_the_largest_message_of_a_large_mesh_fits_a_frame() -> None:
    names = tuple(f"n{i + 1}" for i in range(300))
    many, rows = ints(*range(12)), ints(*range(1 + GOSSIP_ROWS))
    report = SendSuspicions(to=("n2",), nodes=names[:12], incarnation=many, silent=many)
    states = SendStates(
        to=("n2",), nodes=names[: len(rows)], severity_ratio=rows / 100, taken_ns=rows, limit_bytes=rows,
        backlog_bytes=rows, predicted_bytes=rows,
    )  # fmt: skip
    assert len(only(codec("n1", nodes=names).datagrams([BEAT, report, states]))) <= 1500 - 28


def test_messages_are_compact() -> None:
    assert len(only(pair()[0].datagrams([SendHeartbeat(to=("n2",), incarnation=0)]))) <= 36


@pytest.mark.parametrize("action", [BEAT, TESTIMONY, STATES], ids=lambda a: type(a).__name__)
def test_any_flipped_bit_and_any_cut_is_ignored(action: Action) -> None:
    ours, theirs = pair()
    datagram = only(ours.datagrams([action]))
    for bit in range(8 * len(datagram)):
        flipped = bytearray(datagram)
        flipped[bit // 8] ^= 1 << bit % 8
        assert theirs.decode(bytes(flipped)) == ()
    for length in range(len(datagram)):
        assert theirs.decode(datagram[:length]) == ()
    assert theirs.decode(datagram + b"\0") == ()
    assert sum(theirs.ignored.values()) == 8 * len(datagram) + len(datagram) + 1
    assert theirs.ignored["replayed"] == 0, "what was not genuine must not use up a number"
    assert theirs.decode(datagram)


def test_replays_and_whatever_is_older_than_what_was_taken_are_ignored() -> None:
    ours, theirs = pair()
    sent = [only(ours.datagrams([SendHeartbeat(to=("n2",), incarnation=i)])) for i in range(4)]
    assert [bool(theirs.decode(sent[i])) for i in (1, 1, 0, 3, 2, 3)] == [True, False, False, True, False, False]
    assert theirs.ignored == {"malformed": 0, "foreign": 0, "forged": 0, "replayed": 4}


def test_two_messages_of_one_instant_are_both_taken() -> None:
    ours, theirs = codec("n1", lambda: 5), codec("n2")
    assert all(theirs.decode(only(ours.datagrams([BEAT]))) for _ in range(3))


def test_numbers_of_senders_are_apart_and_a_later_life_begins_above() -> None:
    ours, theirs = pair()
    assert theirs.decode(only(ours.datagrams([BEAT]))) == (HeartbeatHeard(node="n1", incarnation=3),)
    assert theirs.decode(only(codec("n3").datagrams([BEAT]))) == (HeartbeatHeard(node="n3", incarnation=3),)
    reborn = codec("n1", lambda: 10**9)
    assert theirs.decode(only(reborn.datagrams([BEAT])))
    assert theirs.decode(only(ours.datagrams([BEAT]))) == ()


def test_a_receiver_that_begins_anew_takes_nothing_that_was_recorded_before() -> None:
    recorded = [only(codec("n1", lambda t=t: t).datagrams([BEAT])) for t in (10, 500, 999)]
    reborn = codec("n2", since_ns=1000)
    assert [reborn.decode(datagram) for datagram in recorded] == [()] * 3
    assert reborn.ignored["replayed"] == 3
    assert reborn.decode(only(codec("n1", lambda: 1000).datagrams([BEAT])))


def test_no_member_can_speak_for_another() -> None:
    """n3 has its own keys: it can seal neither as n1 for n2, nor hand on to n2 what n1 sealed for it."""
    theirs = codec("n2")
    ring = sealed.ring("n3", NODES)
    for key in {*ring.to.values(), *ring.of.values()}:
        lying = replace(ring, owner="n1", to=dict.fromkeys(ring.members, key))
        assert theirs.decode(only(Codec(lying, lambda: 5).datagrams([BEAT]))) == ()
    assert theirs.decode(only(codec("n1").datagrams([SendHeartbeat(to=("n3",), incarnation=0)]))) == ()
    assert set(theirs.ignored.items()) >= {("forged", theirs.ignored["forged"]), ("replayed", 0)}
    assert theirs.ignored["forged"] >= 7


def test_a_message_of_one_channel_says_nothing_on_another() -> None:
    notified = Sealer(sealed.ring("n1", NODES), Channel.NOTIFICATION, lambda: 5)
    ((_, datagram),) = notified.seal(msgpack.packb([[0, 3]]), (BALANCER,))
    balancer = codec(BALANCER)
    assert balancer.decode(datagram) == ()
    moved = datagram[:1] + bytes((Channel.MESH,)) + datagram[2:]
    assert balancer.decode(moved) == ()
    assert balancer.ignored == {"malformed": 1, "foreign": 0, "forged": 1, "replayed": 0}


def test_in_a_small_mesh_states_are_their_senders_own() -> None:
    ours, theirs = pair()
    of_another = SendStates(
        to=("n2",),
        nodes=("n3",),
        taken_ns=ints(9),
        limit_bytes=ints(1),
        backlog_bytes=ints(0),
        predicted_bytes=ints(7),
        severity_ratio=np.array([1.0]),
    )
    assert theirs.decode(only(ours.datagrams([of_another]))) == ()
    assert theirs.ignored["forged"] == 1
    many = tuple(f"n{i + 1}" for i in range(FULL_SYNC_MEMBERS + 1))
    passed_on = only(codec("n1", nodes=many).datagrams([of_another]))
    assert codec("n2", nodes=many).decode(passed_on)


@pytest.mark.parametrize(
    ("stranger", "flaw"),
    [
        (lambda: codec("n1", secret=sealed.SECRET[::-1]), "forged"),
        (lambda: codec("n1", run_id=8), "foreign"),
        (lambda: codec("n9", nodes=(*(f"n{i}" for i in range(1, 10)),)), "foreign"),
    ],
)
def test_other_keys_runs_and_members_are_ignored(stranger: Callable[[], Codec], flaw: str) -> None:
    theirs = codec("n2")
    assert theirs.decode(only(stranger().datagrams([BEAT]))) == ()
    assert theirs.ignored[flaw] == 1


def test_the_secret_has_to_be_whole_and_gives_no_keys_once_it_is_forgotten() -> None:
    with pytest.raises(ValueError, match="31"):
        RunSecret(sealed.SECRET[:-1])
    secret = RunSecret(sealed.SECRET)
    keys = secret.ring("n1", 7, NODES)
    assert secret.ring("n2", 7, NODES).of["n1"] == keys.to["n2"] != keys.of["n2"]
    assert len({*keys.to.values(), *keys.of.values()}) == 4
    secret.forget()
    with pytest.raises(ValueError, match="no keys for n1"):
        secret.ring("n1", 7, NODES)


@given(st.binary(max_size=300))
def test_random_datagrams_are_ignored(datagram: bytes) -> None:
    theirs = pair()[1]
    assert theirs.decode(datagram) == ()
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


@given(plain | st.lists(plain, min_size=1, max_size=8).map(lambda rest: [[2, *rest]]) | st.binary(max_size=60))
def test_nonsense_under_the_right_key_does_not_raise(body: object) -> None:
    theirs = codec("n2")
    packed = body if isinstance(body, bytes) else msgpack.packb(body)  # bytes: not even msgpack
    sealer = Sealer(sealed.ring("n1", NODES), Channel.MESH, lambda: 5)
    heard = theirs.decode(only(sealer.seal(packed, ("n2",))))
    assert heard or sum(theirs.ignored.values()) == 1


def test_members_of_a_process_share_what_a_body_says_and_each_holds_it_against_its_own_keys() -> None:
    shared = Decoder((*NODES, BALANCER))
    to_all = SendStates(**{**values_of(STATES), "to": ("n2", "n3")})
    made = dict(codec("n1").datagrams([to_all]))
    n2, n3 = (Codec(sealed.ring(name, NODES), lambda: 1, 0, shared) for name in ("n2", "n3"))
    (heard,), (again,) = n2.decode(made["n2"]), n3.decode(made["n3"])
    assert heard is again, "decoded once"
    assert n3.decode(made["n2"]) == (), "sealed for another"
    assert n3.ignored["forged"] == 1
    assert n2.decode(made["n2"]) == (), "a copy"
    assert n2.ignored["replayed"] == 1


def test_a_report_is_the_same_record_as_long_as_nothing_changes_and_another_one_when_it_does() -> None:
    ours, theirs = codec("n1"), codec("n2")
    later = SendStates(**{**values_of(STATES), "taken_ns": ints(10)})
    first, second = (theirs.decode(only(ours.datagrams([TESTIMONY, states]))) for states in (STATES, later))
    assert first[0] is second[0]
    assert (first[1], second[1]) == (heard_of(STATES), heard_of(later))
    changed = SendSuspicions(**{**values_of(TESTIMONY), "silent": ints(1, 1)})
    (report,) = theirs.decode(only(ours.datagrams([changed])))
    assert isinstance(report, SuspicionsHeard)
    assert report.silent.tolist() == [1, 1]


def heard_of(sent: SendStates) -> StatesHeard:
    return StatesHeard(**{name: value for name, value in values_of(sent).items() if name != "to"})
