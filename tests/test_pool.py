"""The pool's two rules, as conversations, and what must hold for every conversation."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.files.event_records import from_record
from testbed.policies.pool import Pool, make_pool
from testbed.records.events import LimitGranted, NodeLeft, RequestLimit
from testbed.scenario.buffer import BufferSpec

NODES = ("n1", "n2", "n3")
FLOOR = 10


def ints(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def pool(capacity: int | None = 100, alpha: float | None = None) -> Pool:
    return Pool(capacity, NODES, ints(FLOOR, FLOOR, FLOOR), alpha)


def ask(nodes: tuple[str, ...], *wanted: int, used: tuple[int, ...] = ()) -> RequestLimit:
    return RequestLimit(nodes=nodes, wanted_bytes=ints(*wanted), used_bytes=ints(*used))


def test_a_wish_that_fits_is_granted_whole():
    assert pool().handle(ask(("n2",), 60), 0) == [LimitGranted(nodes=("n2",), granted_bytes=ints(60))]


def test_a_wish_beyond_the_free_part_is_refused_in_part():
    shared = pool()
    shared.handle(ask(("n1",), 60), 0)
    assert shared.handle(ask(("n2",), 60), 1) == [LimitGranted(nodes=("n2",), granted_bytes=ints(30))]
    assert shared.free_bytes == 0


def test_memory_given_back_is_there_for_the_next():
    shared = pool()
    shared.handle(ask(("n1",), 80), 0)
    assert shared.handle(ask(("n2",), 50), 1) == [LimitGranted(nodes=("n2",), granted_bytes=ints(10))]
    assert shared.handle(ask(("n1",), 20), 2) == [LimitGranted(nodes=("n1",), granted_bytes=ints(20))]
    assert shared.handle(ask(("n2",), 50), 3) == [LimitGranted(nodes=("n2",), granted_bytes=ints(50))]


def test_in_one_request_shrinks_come_before_growth():
    shared = pool()
    shared.handle(ask(("n1",), 80), 0)
    assert shared.handle(ask(("n2", "n1"), 70, 20), 1) == [LimitGranted(nodes=("n2", "n1"), granted_bytes=ints(70, 20))]


def test_nodes_that_grow_together_share_what_is_free_in_proportion():
    assert pool().handle(ask(NODES, 110, 60, 10), 0) == [LimitGranted(nodes=NODES, granted_bytes=ints(56, 33, 10))]


def test_without_a_capacity_every_wish_is_granted():
    shared = pool(None)
    assert shared.handle(ask(("n1",), 10**12), 0) == [LimitGranted(nodes=("n1",), granted_bytes=ints(10**12))]
    assert shared.free_bytes is None


def test_a_node_that_left_keeps_its_first_grant_only():
    shared = pool()
    shared.handle(ask(("n1",), 60), 0)
    assert shared.handle(NodeLeft(node="n1", reason="mesh"), 1) == []
    assert shared.grants_bytes.tolist() == [FLOOR] * 3


def test_grants_are_kept_in_the_array_handed_in():
    array = ints(FLOOR, FLOOR, FLOOR)
    Pool(100, NODES, array).handle(ask(("n3",), 40), 0)
    assert array.tolist() == [10, 10, 40]


def test_the_answer_is_not_a_view_of_the_pool():
    shared = pool()
    (answer,) = shared.handle(ask(NODES, 20, 20, 20), 0)
    shared.handle(ask(NODES, 10, 10, 10), 1)
    assert answer.granted_bytes.tolist() == [20, 20, 20]


@pytest.mark.parametrize("capacity", [29, 0])
def test_first_grants_beyond_the_capacity_are_refused(capacity: int):
    with pytest.raises(ValueError, match="exceed the pool"):
        Pool(capacity, NODES, ints(10, 10, 10))


def test_grants_of_another_length_are_refused():
    with pytest.raises(ValueError, match="3 nodes need"):
        Pool(100, NODES, ints(10))


# --------------------------------------------------------------------------------------------- dynamic threshold


def test_one_busy_node_gets_alpha_of_what_it_leaves_free():
    # Others hold 20 of 100.  g = 1 × (100 - 20 - g) is solved by 40.
    shared = pool(alpha=1.0)
    assert shared.handle(ask(("n1",), 90, used=(10,)), 0) == [LimitGranted(nodes=("n1",), granted_bytes=ints(40))]


def test_busy_nodes_settle_at_equal_shares_and_leave_a_reserve():
    shared = pool(capacity=1000, alpha=1.0)
    for step in range(40):
        for node in NODES:
            shared.handle(ask((node,), 900, used=(0,)), step)
    assert shared.grants_bytes.tolist() == pytest.approx([250, 250, 250], abs=2)
    assert shared.free_bytes == pytest.approx(250, abs=6)


def test_a_node_sheds_when_others_take_memory_but_never_what_is_in_use():
    shared = pool(capacity=100, alpha=1.0)
    shared.handle(ask(("n1",), 90, used=(0,)), 0)
    shared.handle(ask(("n2",), 90, used=(0,)), 1)
    assert shared.grants_bytes.tolist() == [40, 25, 10]
    assert shared.handle(ask(("n1",), 90, used=(36,)), 2) == [LimitGranted(nodes=("n1",), granted_bytes=ints(36))]
    assert shared.handle(ask(("n1",), 90, used=(0,)), 3) == [LimitGranted(nodes=("n1",), granted_bytes=ints(32))]


def test_the_floor_is_safe_however_small_alpha_is():
    assert pool(alpha=0.001).handle(ask(("n1",), 90), 0) == [LimitGranted(nodes=("n1",), granted_bytes=ints(FLOOR))]


def test_a_first_come_first_served_pool_has_no_alpha():
    grants = np.full(3, 500_000, dtype=np.int64)
    wish = RequestLimit(nodes=("n1",), wanted_bytes=ints(8_000_000))
    for policy, expected in (("reactive", 8_000_000), ("dynamic-threshold", 4_500_000)):
        spec = BufferSpec.model_validate({"policy": policy, "pool": "10MB"})
        assert make_pool(spec, NODES, grants.copy()).handle(wish, 0) == [
            LimitGranted(nodes=("n1",), granted_bytes=ints(expected))
        ]


# ------------------------------------------------------------------------------------------ whatever is asked

requests = st.lists(
    st.lists(st.tuples(st.sampled_from(NODES), st.integers(FLOOR, 10**13), st.integers(0, 10**13)), min_size=1).map(
        lambda rows: list({row[0]: row for row in rows}.values())
    ),
    max_size=30,
)
alphas = st.one_of(st.none(), st.floats(0.01, 100.0))


@given(requests, alphas, st.integers(3 * FLOOR, 10**13))
def test_the_capacity_is_never_exceeded_and_no_node_falls_below_its_floor(asked, alpha, capacity):
    shared = pool(capacity, alpha)
    for step, rows in enumerate(asked):
        names, wanted, used = zip(*rows, strict=True)
        before = dict(zip(NODES, shared.grants_bytes.tolist(), strict=True))
        (answer,) = shared.handle(RequestLimit(nodes=names, wanted_bytes=ints(*wanted), used_bytes=ints(*used)), step)
        assert shared.grants_bytes.sum() <= capacity
        assert (shared.grants_bytes >= FLOOR).all()
        for name, granted, wish, use in zip(names, answer.granted_bytes, wanted, used, strict=True):
            assert granted <= max(wish, min(use, before[name]))
            if alpha is None:
                assert granted >= min(wish, before[name])  # nobody takes memory from somebody else


@given(requests, alphas)
def test_replaying_the_requests_gives_the_same_grants(asked, alpha):
    messages = [
        RequestLimit(
            nodes=tuple(r[0] for r in rows),
            wanted_bytes=ints(*(r[1] for r in rows)),
            used_bytes=ints(*(r[2] for r in rows)),
        )
        for rows in asked
    ]
    read_back = [from_record(json.loads(json.dumps(message.to_record()))) for message in messages]
    first, second = pool(1000, alpha), pool(1000, alpha)
    assert [first.handle(m, i) for i, m in enumerate(messages)] == [
        second.handle(m, i) for i, m in enumerate(read_back)
    ]


# ----------------------------------------------------------------------------------------------------------- ABM


def test_nodes_above_their_first_grant_share_alpha() -> None:
    shared = Pool(120, NODES, ints(FLOOR, FLOOR, FLOOR), 1.0, among_active=True)

    def granted(node: str) -> int:
        (answer,) = shared.handle(ask((node,), 100), 0)
        return int(answer.granted_bytes[0])

    assert granted("n1") == 50, "alone: alpha 1, half of 90 free and 10 held"
    assert granted("n2") == 20, "two: alpha 1/2, a third of 50 free and 10 held"
    assert granted("n1") == 30, "a third of 40 free and 50 held: it sheds"
    settled = [granted(node) for _ in range(9) for node in ("n1", "n2")][-2:]
    assert settled == [27, 27], "27.5 each of the 110 that n3 leaves; dynamic thresholds settle at 36.7"


def test_abm_is_a_pool_whose_active_nodes_share() -> None:
    spec = BufferSpec.model_validate({"policy": "abm", "pool": "10MB"})
    grants = ints(500_000, 500_000, 500_000)
    both = RequestLimit(nodes=("n1", "n2"), wanted_bytes=ints(8_000_000, 8_000_000))
    (answer,) = make_pool(spec, NODES, grants).handle(both, 0)
    assert answer.granted_bytes.tolist() == [3_000_000, 3_000_000], "a third of 8.5 MB free and 0.5 MB held"
