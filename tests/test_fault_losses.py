"""Whose loss a lost packet is, and which flows moved for no reason."""

from __future__ import annotations

from testbed.traffic.fault_losses import Failure, FaultLoss, FlowHistory, LostPackets, Span
from tests.flow_histories import NONE, history, lost, plan, rows, silently

N1, N2 = 0, 1
LONG = tuple(range(0, 200, 10))


def losses(made: FlowHistory, packets: LostPackets, *failures: Failure) -> list[FaultLoss]:
    return list(made.losses(failures, packets))


def test_loss_is_told_packet_by_packet() -> None:
    sent = plan((0, 10, 20, 30, 40), (5, 15, 25, 35, 45), (7, 17, 27, 37, 47))
    before = {"n1": rows((1, 0, 0, 0), (2, 1, 0, 0), NONE), "n2": rows(NONE, NONE, (2, 1, 0, 0))}
    after = {"n1": before["n1"], "n2": rows((2, 4, 1, 3), (3, 4, 1, 2), (5, 4, 1, 2))}
    (loss,) = losses(history(before, after), lost(sent, silently((0, 1), (0, 2))), Failure("n1", Span(1, None), None))
    assert (loss.flows, loss.moved_flows, loss.lost_pkts) == (2, 2, 2)
    assert (loss.first_lost_ns, loss.last_lost_ns, loss.first_good_ns) == (10, 20, 25)


def test_what_a_buffer_dropped_meanwhile_is_no_loss_of_the_fault() -> None:
    sent = plan(LONG)
    tables = [{"n1": rows((3, 2, 0, 0)), "n2": rows(NONE)}, {"n1": rows((3, 2, 0, 0)), "n2": rows((4, 9, 1, 6))}]
    packets = lost(sent, silently((0, 3), (0, 5)))  # 4 was dropped by the buffer of n2, so it is not lost
    (loss,) = losses(history(*tables), packets, Failure("n1", Span(1, None), None))
    assert (loss.lost_pkts, loss.last_lost_ns) == (2, 50)


def test_a_flow_that_never_goes_on_has_lost_all_it_sent_since() -> None:
    tables = {"n1": rows((2, 1, 0, 0)), "n2": rows(NONE)}
    packets = lost(plan((0, 10, 20, 30, 40)), silently((0, 2), (0, 3)))  # 4 was never sent
    (loss,) = losses(history(tables, tables), packets, Failure("n1", Span(1, None), None))
    assert (loss.moved_flows, loss.lost_pkts, loss.last_lost_ns, loss.first_good_ns) == (0, 2, 30, None)


def test_a_flow_that_comes_back_where_it_was_before_loses_only_what_was_lost() -> None:
    epochs = [
        {"n1": rows((3, 2, 0, 0)), "n2": rows(NONE)},  # n1 fails
        {"n1": rows((3, 2, 0, 0)), "n2": rows((4, 7, 1, 4))},  # 3 is lost; n1 is healed
        {"n1": rows((3, 2, 0, 0)), "n2": rows((6, 9, 2, 8))},  # n2 fails
        {"n1": rows((7, 15, 3, 12)), "n2": rows((6, 9, 2, 8))},  # 10 and 11 are lost, n1 serves again
        {"n1": rows((9, 17, 4, 16)), "n2": rows((6, 9, 2, 8))},
    ]
    packets = lost(plan(LONG), silently((0, 3), (0, 10), (0, 11)))
    first, second = losses(history(*epochs), packets, Failure("n1", Span(1, 2), 75), Failure("n2", Span(3, 4), 155))
    assert (first.lost_pkts, first.last_lost_ns, first.first_good_ns) == (1, 30, 40)
    assert (second.lost_pkts, second.last_lost_ns, second.first_good_ns) == (2, 110, 120)


def test_what_was_in_the_queue_is_delivered_and_a_healed_node_goes_on() -> None:
    epochs = [
        {"n1": rows((3, 2, 0, 0)), "n2": rows(NONE)},  # the link of n1 goes down
        {"n1": rows((5, 4, 1, 3)), "n2": rows(NONE)},  # and comes up before anybody noticed
        {"n1": rows((8, 10, 2, 8)), "n2": rows(NONE)},
    ]
    swallowed = {(0, seq): N1 for seq in (5, 6, 7)}
    (loss,) = losses(history(*epochs), lost(plan(LONG), swallowed), Failure("n1", Span(1, 2), 75))
    assert (loss.moved_flows, loss.lost_pkts, loss.last_lost_ns) == (1, 3, 70)


def test_what_a_node_swallowed_is_its_loss_whoever_had_the_flow_before() -> None:
    """A flow that was elsewhere when n1 failed, and came back in time for its second failure."""
    epochs = [
        {"n1": rows((1, 0, 0, 0)), "n2": rows(NONE)},
        {"n1": rows((1, 0, 0, 0)), "n2": rows((1, 2, 1, 2))},  # 1 is swallowed; n1 is healed and fails again
        {"n1": rows((1, 0, 0, 0)), "n2": rows((1, 2, 1, 2))},
        {"n1": rows((1, 0, 0, 0)), "n2": rows((2, 6, 3, 6))},  # 5 is swallowed
    ]
    packets = lost(plan(LONG), {(0, 1): N1, (0, 5): N1})
    made = losses(history(*epochs), packets, Failure("n1", Span(1, 2), 30), Failure("n1", Span(3, None), None))
    assert [(loss.lost_pkts, loss.last_lost_ns) for loss in made] == [(1, 10), (1, 50)]


def test_what_a_flow_lost_before_anybody_heard_of_it_is_the_loss_of_the_node_that_failed_then() -> None:
    epochs = [
        {"n1": rows(NONE, NONE), "n2": rows(NONE, NONE)},
        {"n1": rows(NONE, NONE), "n2": rows((1, 3, 1, 3), NONE)},
        {"n1": rows(NONE, NONE), "n2": rows((1, 3, 1, 3), NONE)},
    ]
    packets = lost(plan(LONG, LONG), silently((0, 1), (0, 2), (1, 4), (1, 15)))
    (loss,) = losses(history(*epochs), packets, Failure("n1", Span(1, 2), 100))
    assert loss.lost_pkts == 3, "15 of the second flow was to be sent after the node had healed"


def test_each_packet_is_the_loss_of_one_fault() -> None:
    before = {"n1": rows(NONE), "n2": rows(NONE)}
    packets = lost(plan(LONG), {**silently((0, 0), (0, 1)), (0, 2): N2})
    both = losses(
        history(before, before, before), packets, Failure("n1", Span(1, None), None), Failure("n2", Span(2, None), None)
    )
    assert [loss.lost_pkts for loss in both] == [2, 1]


def test_a_loss_at_no_failure_is_none() -> None:
    epochs = [
        {"n1": rows((9, 8, 0, 0)), "n2": rows(NONE)},  # 4 was lost long before n1 failed
        {"n1": rows((9, 8, 0, 0)), "n2": rows((3, 14, 1, 10))},
    ]
    packets = lost(plan(LONG), silently((0, 4), (0, 9), (0, 12)))
    (loss,) = losses(history(*epochs), packets, Failure("n1", Span(1, None), None))
    assert (loss.lost_pkts, loss.last_lost_ns) == (1, 90)


ONE = (1, 0, 0, 0)
MOVING = (
    {"n1": rows(ONE, ONE, ONE), "n2": rows(NONE, NONE, NONE)},
    {"n1": rows(ONE, ONE, ONE), "n2": rows((1, 5, 1, 5), NONE, NONE)},
    {"n1": rows(ONE, ONE, ONE), "n2": rows((1, 5, 1, 5), (1, 5, 2, 5), NONE)},
)
NOTHING = lost(plan((0,), (0,), (0,)), {})


def test_flows_that_no_failure_moved_are_found() -> None:
    made = history(*MOVING)
    assert made.moved_flows([], NOTHING).tolist() == [0, 1]
    assert made.moved_flows([("n1", Span(1, 2))], NOTHING).tolist() == []
    assert made.moved_flows([("n2", Span(1, 2))], NOTHING).tolist() == [1], "n2 failed while the first was there"


def test_a_flow_that_began_after_a_fault_is_not_excused_by_it() -> None:
    empty = {"n1": rows(NONE), "n2": rows(NONE)}
    made = history(empty, {"n1": rows((1, 0, 1, 0)), "n2": rows((1, 5, 1, 5))})
    three = FlowHistory(("n1", "n2", "n3"))
    for number, tables in enumerate((empty, {"n1": rows((1, 0, 1, 0)), "n2": rows((1, 5, 1, 5))}), 1):
        assert three.end_epoch({**tables, "n3": rows(NONE)}) == number
    assert three.moved_flows([("n3", Span(1, None))], lost(plan(LONG), {})).tolist() == [0]
    assert made.moved_flows([("n1", Span(1, None))], lost(plan(LONG), {})).tolist() == [], "it was at n1"


def test_a_flow_of_which_the_failed_node_swallowed_a_packet_had_to_move() -> None:
    tables = {"n1": rows((1, 1, 1, 1)), "n2": rows((1, 5, 1, 5)), "n3": rows(NONE)}
    made = FlowHistory(("n1", "n2", "n3"))
    for _ in range(2):
        made.end_epoch(tables)
    swallowed = lost(plan(LONG), {(0, 0): 2})
    assert made.moved_flows([("n3", Span(1, None))], swallowed).tolist() == []
