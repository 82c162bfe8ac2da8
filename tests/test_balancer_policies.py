"""The balancer's decisions: the slot table, the seven rules, membership by silence, and replay."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.files.event_records import from_record
from testbed.policies.balancer import REWEIGH_INTERVAL_NS, BalancerPolicy, make_balancer
from testbed.policies.balancer_view import RATE_TIME_NS, ClusterView
from testbed.policies.base import replay
from testbed.policies.readiness import KEEPALIVE_NS, SILENCE_NS, longest_pause_ns
from testbed.policies.slots import apportion, deal, reweight, slot_count
from testbed.records.events import (
    Action,
    DeadlineReached,
    Event,
    FlowArrived,
    NodeJoined,
    NodeLeft,
    NodesNotified,
    PlaceFlow,
    RemoveNode,
    RestoreNode,
    SetSlots,
)
from testbed.scenario.balancer import BalancerSpec
from testbed.scenario.tables import BALANCER_POLICIES
from testbed.units import NS_PER_MS

NODES = ("n1", "n2", "n3")
POLICIES = BALANCER_POLICIES.names
MB = 10**6


def notified(
    nodes: tuple[str, ...] = NODES,
    limit: tuple[int, ...] | int = MB // 2,
    backlog: tuple[int, ...] | int = 0,
    predicted: tuple[int, ...] | int = 0,
    severity: tuple[float, ...] | float = 0.0,
    arrived: tuple[int, ...] | int = 20 * MB,
) -> NodesNotified:
    def column(value: object, dtype: type) -> np.ndarray:
        return np.broadcast_to(np.asarray(value, dtype=dtype), (len(nodes),)).copy()

    return NodesNotified(
        nodes=nodes,
        limit_bytes=column(limit, np.int64),
        backlog_bytes=column(backlog, np.int64),
        predicted_bytes=column(predicted, np.int64),
        severity_ratio=column(severity, np.float64),
        arrived_bps=column(arrived, np.int64),
    )


def make(policy: str, nodes: tuple[str, ...] = NODES, seed: int = 1) -> BalancerPolicy:
    return make_balancer(BalancerSpec(policy=policy), nodes, random.Random(seed))


def shares(policy: BalancerPolicy) -> list[int]:
    return [policy.slots.count(node) for node in NODES]


def steadily(policy: BalancerPolicy, event: NodesNotified, start_ns: int, count: int = 40) -> list[Action]:
    """Notify every 10 ms."""
    return [action for i in range(count) for action in policy.handle(event, start_ns + i * 10 * NS_PER_MS)]


# ------------------------------------------------------------------------------------------------------ slot table

weights_of_few = st.lists(st.floats(0, 1e9, allow_nan=False), min_size=1, max_size=12).filter(lambda w: sum(w) > 1e-3)


@given(weights_of_few)
def test_counts_are_within_one_slot_of_the_quota(weights: list[float]) -> None:
    given_weights = np.array(weights)
    counts = apportion(given_weights, 64, np.zeros(len(weights), dtype=np.int64))
    assert counts.sum() == 64
    assert np.abs(counts - given_weights / given_weights.sum() * 64).max() < 1 + 1e-6


@given(st.integers(2, 12).flatmap(lambda n: st.tuples(*[st.lists(st.floats(0.1, 9), min_size=n, max_size=n)] * 2)))
def test_reweighting_changes_as_few_slots_as_possible(pair: tuple[list[float], list[float]]) -> None:
    before = deal(np.array(pair[0]), 64)
    after = reweight(before, np.array(pair[1]))
    held = np.bincount(before, minlength=len(pair[0]))
    wanted = np.bincount(after, minlength=len(pair[0]))
    assert wanted.tolist() == apportion(np.array(pair[1]), 64, held).tolist()
    assert (before != after).sum() == np.maximum(held - wanted, 0).sum()
    assert reweight(after, np.array(pair[1])).tolist() == after.tolist()


def test_freed_slots_are_spread_over_the_table() -> None:
    before = np.zeros(64, dtype=np.int64)
    assert np.flatnonzero(reweight(before, np.array([3.0, 1.0]))).tolist() == list(range(2, 64, 4))


def test_first_table_is_interleaved() -> None:
    assert deal(np.array([1.0, 1.0, 2.0]), 8).tolist() == [2, 0, 1, 2, 2, 0, 1, 2]


def test_equal_weights_tie_in_favour_of_what_is_held() -> None:
    before = np.array([2] * 22 + [1] * 21 + [0] * 21)
    assert reweight(before, np.ones(3)).tolist() == before.tolist()


@pytest.mark.parametrize("weights", [[0.0, 0.0], [1.0, -1.0], [float("nan"), 1.0], [float("inf"), 1.0]])
def test_impossible_weights_are_refused(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="weights must be finite"):
        apportion(np.array(weights), 64, np.zeros(2, dtype=np.int64))


@pytest.mark.parametrize(("nodes", "slots"), [(1, 64), (16, 64), (17, 128), (100, 512), (1000, 4096)])
def test_every_node_can_have_slots(nodes: int, slots: int) -> None:
    assert slot_count(nodes) == slots


# ------------------------------------------------------------------------------------------------------- the rules


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_starts_with_a_whole_table(policy: str) -> None:
    balancer = make(policy)
    assert len(balancer.slots) == 64
    assert set(balancer.slots) == set(NODES)


def test_round_robin_ignores_state() -> None:
    balancer = make("round-robin")
    assert sorted(shares(balancer)) == [21, 21, 22]
    assert steadily(balancer, notified(backlog=(0, MB, 0), limit=(MB, MB, 10 * MB)), 0) == []


def test_hash_moves_only_the_slots_of_the_node_that_left() -> None:
    balancer = make("hash")
    before = balancer.slots
    actions = balancer.handle(NodeLeft(node="n2", reason="mesh"), 0)
    after = balancer.slots
    assert actions == [SetSlots(slots=after), RemoveNode(node="n2")]
    assert all(old == new for old, new in zip(before, after, strict=True) if old != "n2")
    balancer.handle(NodeJoined(node="n2"), 1)
    assert balancer.slots == before


def test_least_loaded_gives_everything_to_one_node() -> None:
    balancer = make("least-loaded")
    steadily(balancer, notified(backlog=(MB, 0, MB), limit=2 * MB), 0)
    assert shares(balancer) == [0, 64, 0]


def test_least_loaded_takes_near_equals_for_equal() -> None:
    balancer = make("least-loaded")
    assert steadily(balancer, notified(backlog=(1000, 0, 2000)), 0) == []


def test_two_choices_prefers_the_less_loaded_candidate_and_never_herds() -> None:
    balancer = make("two-choices")
    steadily(balancer, notified(backlog=(5 * MB, 0, 5 * MB), limit=10 * MB), 0)
    n1, n2, n3 = shares(balancer)
    assert n2 == max(n1, n2, n3)
    assert min(n1, n3) > 0  # some slots have n1 and n3 as candidates


def test_two_choices_counts_what_earlier_slots_chose() -> None:
    balancer = make("two-choices")
    steadily(balancer, notified(backlog=(5000, 0, 0)), 0)  # four slots' worth of load
    assert 10 <= shares(balancer)[0] < 21


def test_ready_first_follows_expanded_buffers_in_proportion_to_free_space() -> None:
    balancer = make("ready-first")
    steadily(balancer, notified(), 0, count=1)
    steadily(balancer, notified(limit=(MB // 2, 4 * MB, 9 * MB), backlog=(0, MB, 0)), 20 * NS_PER_MS)
    assert shares(balancer) == [0, 16, 48]


def test_ready_first_passes_over_an_expanded_buffer_that_is_nearly_full() -> None:
    balancer = make("ready-first")
    steadily(balancer, notified(), 0, count=1)
    steadily(balancer, notified(limit=(MB // 2, 4 * MB, 8 * MB), backlog=(0, 0, 7 * MB)), 20 * NS_PER_MS)
    assert shares(balancer) == [0, 64, 0]


def test_ready_first_leaves_a_node_the_room_it_expanded_for() -> None:
    balancer = make("ready-first")
    steadily(balancer, notified(), 0, count=1)
    foreseen = notified(limit=(MB // 2, 4 * MB, 8 * MB), predicted=(0, 0, 6 * MB), severity=(0, 0, 0.9))
    steadily(balancer, foreseen, 20 * NS_PER_MS)
    assert shares(balancer) == [0, 64, 0]


def test_ready_first_is_least_loaded_when_nobody_is_ready() -> None:
    balancer = make("ready-first")
    steadily(balancer, notified(backlog=(MB // 2, MB // 2, 0)), 0)
    assert shares(balancer) == [0, 0, 64]


def test_headroom_turns_new_flows_away_before_the_predicted_burst() -> None:
    balancer = make("headroom")
    steadily(balancer, notified(limit=8 * MB, predicted=(8 * MB, 4 * MB, 0)), 0)
    assert shares(balancer) == [0, 21, 43]


def test_headroom_evens_out_unequal_traffic() -> None:
    balancer = make("headroom")
    steadily(balancer, notified(limit=8 * MB, arrived=(30 * MB, 20 * MB, 10 * MB)), 0)
    n1, n2, n3 = shares(balancer)
    assert n1 < n2 < n3


# ------------------------------------------------------------------------------------- what is not known of the nodes

STATE_DRIVEN = ("ready-first", "headroom", "two-choices", "least-loaded")
BUSY = {"limit": 8 * MB, "backlog": 6 * MB, "predicted": 7 * MB, "arrived": 90 * MB}


def drive(policy: BalancerPolicy, speaking: tuple[str, ...], start_ns: int, until_ns: int) -> list[tuple[int, Action]]:
    """Let each of `speaking` notify every 10 ms, one after the other, the first of them being busy; obey deadlines."""
    done: list[tuple[int, Action]] = []
    for tick in range(start_ns, until_ns, 10 * NS_PER_MS):
        for number, node in enumerate(speaking):
            now_ns = tick + number * 3 * NS_PER_MS
            while (due := policy.next_deadline_ns()) is not None and due <= now_ns:
                done += [(due, action) for action in policy.handle(DeadlineReached(), due)]
            news = notified((node,), **(BUSY if number == 0 else {}))
            done += [(now_ns, action) for action in policy.handle(news, now_ns)]
    return done


def even(policy: BalancerPolicy) -> bool:
    return sorted(shares(policy)) == [21, 21, 22]


@pytest.mark.parametrize("order", list(itertools.permutations(NODES)))
@pytest.mark.parametrize("policy", STATE_DRIVEN)
def test_shares_are_even_until_every_node_has_been_heard(policy: str, order: tuple[str, ...]) -> None:
    balancer = make(policy)
    assert even(balancer)
    assert drive(balancer, order[:2], 0, 400 * NS_PER_MS) == []  # not even which of the two is heard first counts
    drive(balancer, order, 400 * NS_PER_MS, 500 * NS_PER_MS)
    assert shares(balancer)[NODES.index(order[0])] < 21


@pytest.mark.parametrize("policy", STATE_DRIVEN)
def test_a_node_that_never_notifies_is_waited_for_until_it_leaves(policy: str) -> None:
    balancer = make(policy)
    done = drive(balancer, ("n1", "n2"), 0, 2 * SILENCE_NS)
    first_ns = done[0][0]
    assert first_ns == SILENCE_NS
    assert RemoveNode(node="n3") in [action for t_ns, action in done if t_ns == first_ns]
    n1, n2, n3 = shares(balancer)
    assert n1 < n2
    assert n3 == 0


@pytest.mark.parametrize("policy", STATE_DRIVEN)
def test_a_node_that_was_dead_has_an_even_share_until_it_is_heard(policy: str) -> None:
    balancer = make(policy)
    drive(balancer, NODES, 0, 200 * NS_PER_MS)
    balancer.handle(NodeLeft(node="n3", reason="mesh"), 210 * NS_PER_MS)
    drive(balancer, ("n1", "n2"), 220 * NS_PER_MS, 300 * NS_PER_MS)
    balancer.handle(NodeJoined(node="n3", reason="mesh"), 300 * NS_PER_MS)
    assert even(balancer)
    assert drive(balancer, ("n1", "n2"), 310 * NS_PER_MS, 400 * NS_PER_MS) == []
    drive(balancer, NODES, 400 * NS_PER_MS, 500 * NS_PER_MS)
    assert not even(balancer)


def test_a_node_that_was_heard_while_its_port_was_down_is_known() -> None:
    balancer = make("least-loaded")
    drive(balancer, NODES, 0, 200 * NS_PER_MS)
    balancer.handle(NodeLeft(node="n3", reason="port"), 210 * NS_PER_MS)
    drive(balancer, NODES, 220 * NS_PER_MS, 300 * NS_PER_MS)
    balancer.handle(NodeJoined(node="n3", reason="port"), 300 * NS_PER_MS)
    assert shares(balancer)[0] == 0


@pytest.mark.parametrize("policy", STATE_DRIVEN)
def test_after_a_while_without_news_all_have_to_be_heard_again(policy: str) -> None:
    """A controller that stood still, or a standby that takes over late: the first to speak is not the only one."""
    balancer = make(policy)
    drive(balancer, NODES, 0, 200 * NS_PER_MS)
    drive(balancer, ("n2",), 600 * NS_PER_MS, 630 * NS_PER_MS)
    assert even(balancer)
    drive(balancer, NODES, 700 * NS_PER_MS, 800 * NS_PER_MS)
    assert not even(balancer)


@pytest.mark.parametrize("policy", STATE_DRIVEN)
def test_slow_samples_make_no_node_unknown_nor_silent(policy: str) -> None:
    every_ns = 700 * NS_PER_MS
    balancer = make_balancer(BalancerSpec(policy=policy), NODES, random.Random(1), longest_pause_ns(every_ns))
    done: list[Action] = []
    for tick in range(6):
        for number, node in enumerate(NODES):
            now_ns = tick * every_ns + number * every_ns // 3
            done += balancer.handle(notified((node,), **(BUSY if number == 0 else {})), now_ns)
    assert not even(balancer)
    assert not [action for action in done if isinstance(action, RemoveNode)]


def test_per_flow_goes_round_while_a_node_is_unknown() -> None:
    policy = make("per-flow")
    policy.handle(notified(("n1", "n2"), backlog=(90_000, 5000)), 0)
    assert [placed_at(policy, flow) for flow in range(6)] == ["n1", "n2", "n3"] * 2


def test_per_flow_gives_no_more_to_who_notifies_more_often() -> None:
    policy, placed = make("per-flow"), Counter[str]()
    for ms in range(1000):
        policy.handle(notified(("n1",)), ms * NS_PER_MS)
        if ms % 100 == 0:
            policy.handle(notified(("n2", "n3")), ms * NS_PER_MS)
        (action,) = policy.handle(arrived(ms), ms * NS_PER_MS)
        assert isinstance(action, PlaceFlow)
        placed[action.node] += 1
    assert all(300 <= placed[node] <= 360 for node in NODES), placed


@pytest.mark.parametrize("every_ms", [1, 10, 30, 100])
def test_rates_are_smoothed_by_time_and_not_by_the_number_of_notifications(every_ms: int) -> None:
    view = ClusterView(("n1",), KEEPALIVE_NS)
    view.update(notified(("n1",), arrived=0), 0)
    for ms in range(every_ms, 301, every_ms):
        view.update(notified(("n1",), arrived=100 * MB), ms * NS_PER_MS)
    assert view.rate_bps[0] == pytest.approx(100 * MB * (1 - math.exp(-300 * NS_PER_MS / RATE_TIME_NS)))


# ------------------------------------------------------------------------------------------------------ membership


def arrived(flow: int) -> FlowArrived:
    return FlowArrived(flow=("10.0.16.1", "10.0.0.100", 17, flow, 9000))


def placed_at(policy: BalancerPolicy, flow: int) -> str:
    (action,) = policy.handle(arrived(flow), 0)
    assert isinstance(action, PlaceFlow)
    assert action.flow == arrived(flow).flow
    return action.node


def test_per_flow_goes_round_between_notifications_the_least_loaded_first() -> None:
    policy = make("per-flow")
    policy.handle(notified(backlog=(5000, 0, 90_000)), 0)
    assert [placed_at(policy, flow) for flow in range(6)] == ["n2", "n1", "n3"] * 2
    policy.handle(notified(("n3",), backlog=(0,)), 1)
    assert placed_at(policy, 7) == "n3"


def test_per_flow_places_nothing_at_a_node_that_is_away() -> None:
    policy = make("per-flow")
    assert RemoveNode(node="n2") in policy.handle(NodeLeft(node="n2", reason="port"), 0)
    assert {placed_at(policy, flow) for flow in range(20)} == {"n1", "n3"}
    policy.handle(NodeJoined(node="n2", reason="port"), 0)
    assert placed_at(policy, 21) == "n2"


def test_other_policies_place_no_flow_one_by_one() -> None:
    assert make("headroom").handle(arrived(1), 0) == []


def deadline(balancer: BalancerPolicy) -> int:
    due = balancer.next_deadline_ns()
    assert due is not None
    return due


def drive_without(balancer: BalancerPolicy, silent: str, start_ns: int, until_ns: int) -> list[tuple[int, Action]]:
    """Notify for all but `silent` every 10 ms, and obey the policy's deadlines in between."""
    others = tuple(node for node in NODES if node != silent)
    done: list[tuple[int, Action]] = []
    for tick in range(start_ns, until_ns, 10 * NS_PER_MS):
        done += [(tick, action) for action in balancer.handle(notified(others), tick)]
        while (due := balancer.next_deadline_ns()) is not None and due < tick + 10 * NS_PER_MS:
            done += [(due, action) for action in balancer.handle(DeadlineReached(), due)]
    return done


def test_silent_node_leaves_after_half_a_second_and_comes_back_by_itself() -> None:
    balancer = make("round-robin")
    balancer.handle(notified(), 0)
    left = drive_without(balancer, "n2", 10 * NS_PER_MS, 700 * NS_PER_MS)
    assert [(t, type(action)) for t, action in left] == [(SILENCE_NS, SetSlots), (SILENCE_NS, RemoveNode)]
    assert shares(balancer) == [32, 0, 32]
    back = balancer.handle(notified(("n2",)), 700 * NS_PER_MS)
    assert back == [RestoreNode(node="n2"), SetSlots(slots=balancer.slots)]
    assert sorted(shares(balancer)) == [21, 21, 22]


def test_silence_of_all_is_our_own() -> None:
    balancer = make("round-robin")
    balancer.handle(notified(), 0)
    assert balancer.next_deadline_ns() is None  # no busy waiting for a judgement that will not be made
    assert balancer.handle(DeadlineReached(), 5 * SILENCE_NS) == []
    assert balancer.handle(notified(("n1",)), 6 * SILENCE_NS) == []  # the others have as long again
    left = drive_without(balancer, "n2", 6 * SILENCE_NS + 10 * NS_PER_MS, 8 * SILENCE_NS)
    assert [t for t, action in left if action == RemoveNode(node="n2")] == [7 * SILENCE_NS]


def test_nodes_that_never_notified_have_as_long_as_the_others() -> None:
    balancer = make("round-robin")
    left = drive_without(balancer, "n3", 900 * NS_PER_MS, 2000 * NS_PER_MS)
    assert [t for t, action in left if action == RemoveNode(node="n3")] == [900 * NS_PER_MS + SILENCE_NS]


def test_last_node_is_never_removed() -> None:
    balancer = make("round-robin")
    balancer.handle(NodeLeft(node="n1", reason="port"), 0)
    balancer.handle(NodeLeft(node="n2", reason="port"), 1)
    assert balancer.handle(NodeLeft(node="n3", reason="port"), 2) == []
    assert shares(balancer) == [0, 0, 64]
    assert balancer.handle(NodeJoined(node="n1", reason="port"), 3) == [
        RestoreNode(node="n1"),
        SetSlots(slots=("n1",) * 64),
        RemoveNode(node="n3"),
    ]


def test_node_comes_back_when_every_reason_is_over() -> None:
    balancer = make("round-robin")
    balancer.handle(NodeLeft(node="n1", reason="port"), 0)
    balancer.handle(NodeLeft(node="n1", reason="mesh"), 1)
    assert balancer.handle(NodeJoined(node="n1", reason="port"), 2) == []
    assert balancer.handle(notified(("n1",)), 3) == []  # a notification does not overrule the mesh
    assert RestoreNode(node="n1") in balancer.handle(NodeJoined(node="n1"), 4)


def test_strangers_are_passed_over() -> None:
    balancer = make("round-robin")
    assert balancer.handle(NodeLeft(node="n9", reason="mesh"), 0) == []
    assert balancer.handle(NodeJoined(node="n9"), 0) == []
    assert balancer.handle(notified(("n9", "n1")), 0) == []


def test_changes_are_rate_limited_and_the_last_news_is_not_lost() -> None:
    balancer = make("least-loaded")
    assert balancer.handle(notified(backlog=(0, MB, MB)), 0) == [SetSlots(slots=("n1",) * 64)]
    assert balancer.handle(notified(backlog=(MB, 0, MB)), 1) == []
    assert balancer.next_deadline_ns() == REWEIGH_INTERVAL_NS
    assert balancer.handle(DeadlineReached(), REWEIGH_INTERVAL_NS) == [SetSlots(slots=("n2",) * 64)]


def test_small_change_is_not_worth_it() -> None:
    balancer = make("headroom")
    assert balancer.handle(notified(limit=(100, 102, 104)), 0) == []


def test_table_never_names_a_node_that_is_away() -> None:
    for policy in POLICIES:
        balancer = make(policy)
        balancer.handle(NodeLeft(node="n1", reason="mesh"), 0)
        steadily(balancer, notified(limit=(9 * MB, MB, MB), backlog=(0, MB, MB)), 10)
        assert "n1" not in balancer.slots, policy


# --------------------------------------------------------------------------------------------------------- replay


def random_history(seed: int, steps: int = 300) -> list[tuple[int, Event]]:
    rng = random.Random(seed)
    now_ns, history = 0, []
    for _ in range(steps):
        now_ns += rng.randrange(1, 30 * NS_PER_MS)
        node = rng.choice(NODES)
        limit = rng.randrange(MB // 2, 10 * MB)
        state = {"limit": limit, "backlog": rng.randrange(limit), "predicted": rng.randrange(limit)}
        news = notified((node,), **state, severity=rng.random(), arrived=rng.randrange(100 * MB))
        choices: list[Event] = [news] * 12 + [
            DeadlineReached(),
            NodeLeft(node=node, reason="mesh"),
            NodeJoined(node=node),
        ]
        choices += [arrived(rng.randrange(100))]
        history.append((now_ns, rng.choice(choices)))
    return history


@pytest.mark.parametrize("policy", POLICIES)
def test_replaying_a_recorded_history_gives_the_same_actions(policy: str) -> None:
    history = random_history(7)
    first = replay(make(policy), history)
    assert any(isinstance(action, SetSlots) for _, action in first)
    written = [(now_ns, event.to_record()) for now_ns, event in history]
    again = replay(make(policy), [(now_ns, from_record(record)) for now_ns, record in written])  # type: ignore[misc]
    assert again == first


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("seed", range(5))
def test_actions_never_send_a_slot_to_a_removed_node(policy: str, seed: int) -> None:
    balancer = make(policy)
    slots, removed = balancer.slots, set[str]()
    for now_ns, event in random_history(seed):
        for action in balancer.handle(event, now_ns):
            if isinstance(action, SetSlots):
                slots = action.slots
            elif isinstance(action, RemoveNode):
                removed.add(action.node)
            elif isinstance(action, RestoreNode):
                removed.discard(action.node)
            assert not removed & set(slots)
        due = balancer.next_deadline_ns()
        assert due is None or due > now_ns - 10**9
