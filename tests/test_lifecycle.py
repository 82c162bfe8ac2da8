"""The life of nodes in virtual time: orders, readiness, drains, deadlines, deaths, and several orders at once."""

from __future__ import annotations

from typing import Any

import pytest

from testbed.policies.base import replay, require_progress
from testbed.policies.lifecycle import JOIN_WITHIN_NS, SETTLED_NS, Lifecycle
from testbed.records.events import (
    Action,
    AddOrdered,
    DeadlineReached,
    DrainOrdered,
    Event,
    NodeFailed,
    NodeObserved,
    NodeReady,
    RefuseOrder,
    SizeOrdered,
    StageOfLife,
    StartNode,
    StopNode,
)
from testbed.scenario.autoscaler import AutoscalerSpec
from testbed.units import NS_PER_MS, NS_PER_S

NODES = ("n1", "n2", "n3", "n4", "n5")
ABSENT, JOINING, SERVING, DRAINING, LEAVING = StageOfLife
IDLE_NS = NS_PER_S


def lives(**times: Any) -> Lifecycle:
    spec = AutoscalerSpec.model_validate({"boot": "300ms", "warm_up": "100ms", "drain_deadline": "5s", **times})
    return Lifecycle(NODES, ("n4", "n5"), spec, IDLE_NS)


def stage(policy: Lifecycle, node: str) -> StageOfLife:
    return StageOfLife(int(policy.stages.stage[NODES.index(node)]))


def seen(node: str, silent_ns: int, backlog_bytes: int = 0) -> NodeObserved:
    return NodeObserved(node=node, silent_ns=silent_ns, backlog_bytes=backlog_bytes)


def test_an_added_node_serves_when_it_runs_and_its_boot_time_is_over() -> None:
    policy = lives()
    assert policy.handle(AddOrdered(node="n4"), 0) == [StartNode(node="n4")]
    policy.handle(NodeReady(node="n4"), 90 * NS_PER_MS)
    assert stage(policy, "n4") == JOINING
    assert policy.next_deadline_ns() == 400 * NS_PER_MS
    assert policy.handle(DeadlineReached(), 400 * NS_PER_MS) == []
    assert stage(policy, "n4") == SERVING
    assert policy.next_deadline_ns() is None


def test_a_node_that_runs_later_than_its_boot_time_serves_at_once() -> None:
    policy = lives()
    policy.handle(AddOrdered(node="n4"), 0)
    policy.handle(NodeReady(node="n4"), NS_PER_S)
    assert stage(policy, "n4") == SERVING


def test_a_node_that_never_runs_is_given_up() -> None:
    policy = lives()
    policy.handle(AddOrdered(node="n4"), 0)
    due_ns = policy.next_deadline_ns()
    assert due_ns == 400 * NS_PER_MS + JOIN_WITHIN_NS
    assert policy.handle(DeadlineReached(), due_ns) == [StopNode(node="n4", reason="late")]
    require_progress("lifecycle", policy, due_ns)
    assert stage(policy, "n4") == ABSENT


def test_a_drained_node_is_gone_when_its_flows_have_ended_and_its_queue_is_empty() -> None:
    policy = lives()
    policy.handle(DrainOrdered(node="n2"), 0)
    assert stage(policy, "n2") == DRAINING
    policy.handle(seen("n2", IDLE_NS - 1), NS_PER_S)
    assert stage(policy, "n2") == DRAINING
    policy.handle(seen("n2", IDLE_NS), 2 * NS_PER_S)
    assert stage(policy, "n2") == LEAVING
    later_ns = 2 * NS_PER_S + SETTLED_NS
    assert policy.handle(seen("n2", later_ns, backlog_bytes=1), later_ns) == []
    assert policy.handle(seen("n2", later_ns), later_ns) == [StopNode(node="n2", reason="drained")]
    assert stage(policy, "n2") == ABSENT


def test_a_drained_node_leaves_at_its_deadline_though_flows_go_on_and_waits_for_what_is_under_way() -> None:
    policy = lives()
    policy.handle(DrainOrdered(node="n2"), 0)
    assert policy.next_deadline_ns() == 5 * NS_PER_S
    policy.handle(DeadlineReached(), 5 * NS_PER_S)
    assert stage(policy, "n2") == LEAVING
    assert policy.handle(seen("n2", silent_ns=0), 5 * NS_PER_S + SETTLED_NS) == []  # a packet has just come


def test_what_was_silent_before_the_drain_was_ordered_has_to_be_seen_for_a_while() -> None:
    """The switch learns of the drain a moment later, and may send it a new flow until then."""
    policy = lives()
    policy.handle(DrainOrdered(node="n2"), NS_PER_S)
    policy.handle(seen("n2", 10 * NS_PER_S), NS_PER_S + SETTLED_NS - 1)
    assert stage(policy, "n2") == DRAINING


@pytest.mark.parametrize(
    ("order", "node", "reason"),
    [
        (AddOrdered, "n1", "it is serving already"),
        (AddOrdered, "n9", "there may be no such node"),
        (DrainOrdered, "n4", "it is absent already"),
        (DrainOrdered, "n9", "it is absent already"),
    ],
)
def test_orders_that_cannot_be_carried_out_are_refused_and_change_nothing(order: Any, node: str, reason: str) -> None:
    policy = lives()
    before = policy.stages
    assert policy.handle(order(node=node), 0) == [RefuseOrder(node=node, reason=reason)]
    assert policy.stages == before


def test_the_last_serving_node_is_not_drained() -> None:
    policy = lives()
    policy.handle(DrainOrdered(node="n1"), 0)
    policy.handle(DrainOrdered(node="n2"), 0)
    assert policy.handle(DrainOrdered(node="n3"), 0) == [
        RefuseOrder(node="n3", reason="it is the last node that serves")
    ]


def test_an_order_to_add_takes_a_drain_back_and_the_reverse_cancels_a_start() -> None:
    policy = lives()
    policy.handle(DrainOrdered(node="n2"), 0)
    assert policy.handle(AddOrdered(node="n2"), 1) == []
    assert stage(policy, "n2") == SERVING
    policy.handle(AddOrdered(node="n4"), 2)
    assert policy.handle(DrainOrdered(node="n4"), 3) == [StopNode(node="n4", reason="cancelled")]
    assert stage(policy, "n4") == ABSENT


def test_a_node_that_leaves_is_started_anew_when_it_is_gone_if_it_was_added_meanwhile() -> None:
    policy = lives()
    policy.handle(DrainOrdered(node="n2"), 0)
    policy.handle(DeadlineReached(), 5 * NS_PER_S)
    assert policy.handle(AddOrdered(node="n2"), 5 * NS_PER_S) == []
    gone_ns = 6 * NS_PER_S
    assert policy.handle(seen("n2", NS_PER_S), gone_ns) == [
        StopNode(node="n2", reason="drained"),
        StartNode(node="n2"),
    ]
    assert stage(policy, "n2") == JOINING


@pytest.mark.parametrize("passing", ["joining", "draining", "leaving"])
def test_a_node_that_dies_on_its_way_is_absent(passing: str) -> None:
    policy = lives()
    policy.handle(AddOrdered(node="n4") if passing == "joining" else DrainOrdered(node="n2"), 0)
    if passing == "leaving":
        policy.handle(DeadlineReached(), 5 * NS_PER_S)
    node = "n4" if passing == "joining" else "n2"
    assert policy.handle(NodeFailed(node=node), 6 * NS_PER_S) == [StopNode(node=node, reason="failed")]
    assert stage(policy, node) == ABSENT


def test_a_node_that_was_added_while_it_leaves_is_started_also_if_it_dies_before_it_is_gone() -> None:
    policy = lives()
    policy.handle(DrainOrdered(node="n2"), 0)
    policy.handle(DeadlineReached(), 5 * NS_PER_S)
    policy.handle(AddOrdered(node="n2"), 5 * NS_PER_S)
    stopped = policy.handle(NodeFailed(node="n2"), 5 * NS_PER_S + 1)
    assert stopped == [StopNode(node="n2", reason="failed"), StartNode(node="n2")]
    assert stage(policy, "n2") == JOINING


def test_a_node_that_dies_while_it_serves_is_left_to_the_failure_detector() -> None:
    policy = lives()
    assert policy.handle(NodeFailed(node="n1"), 0) == []
    assert stage(policy, "n1") == SERVING


def test_sizes_start_the_lowest_and_drain_the_highest_and_take_back_what_is_under_way() -> None:
    policy = lives()
    assert policy.handle(SizeOrdered(size=5), 0) == [StartNode(node="n4"), StartNode(node="n5")]
    policy.handle(NodeReady(node="n4"), NS_PER_S)
    assert policy.handle(SizeOrdered(size=2), NS_PER_S) == [StopNode(node="n5", reason="cancelled")]
    assert [stage(policy, node) for node in NODES] == [SERVING, SERVING, DRAINING, DRAINING, ABSENT]
    assert policy.handle(SizeOrdered(size=4), NS_PER_S) == []  # both drains are taken back: nothing to wait for
    assert [stage(policy, node) for node in NODES] == [SERVING, SERVING, SERVING, SERVING, ABSENT]


def test_a_size_beyond_all_nodes_starts_what_there_may_be_and_one_of_none_keeps_a_node() -> None:
    policy = lives()
    assert policy.handle(SizeOrdered(size=99), 0) == [StartNode(node="n4"), StartNode(node="n5")]
    actions = policy.handle(SizeOrdered(size=0), 1)
    assert actions[-1] == RefuseOrder(node="n1", reason="it is the last node that serves")
    assert stage(policy, "n1") == SERVING


def test_a_recorded_history_gives_the_same_actions() -> None:
    history: list[tuple[int, Event]] = [
        (0, SizeOrdered(size=5)),
        (NS_PER_S, NodeReady(node="n4")),
        (NS_PER_S, NodeFailed(node="n5")),
        (2 * NS_PER_S, DrainOrdered(node="n1")),
        (7 * NS_PER_S, DeadlineReached()),
        (8 * NS_PER_S, seen("n1", NS_PER_S)),
    ]
    first: list[tuple[int, Action]] = replay(lives(), history)
    assert first == replay(lives(), history)
    assert [action for _, action in first][-1] == StopNode(node="n1", reason="drained")
