"""The accounting: no loss is made up for by a duplicate, by other traffic or by another place, and none is invented."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from testbed.records.evidence import ClientEvidence, Evidence, NodeEvidence, TcpEvidence
from testbed.records.fates import FateEvidence
from testbed.records.histogram import Histogram
from testbed.results.accounting import Accounting, account
from testbed.results.fidelity import Fidelity, judge
from tests import synthetic_run

SENT = 200


def node(name: str, arrived: int, **fields: Any) -> NodeEvidence:
    """Return a node that has delivered what arrived."""
    made = NodeEvidence(name, arrived, 1000 * arrived, 0, 0, arrived, 1000 * arrived)
    return replace(made, **fields)


def fates(delivered: int, **fields: int) -> FateEvidence:
    rest = {"dropped_pkts": 0, "fault_pkts": 0, "repeated_pkts": 0, "unsent_pkts": 0, "unplanned_pkts": 0} | fields
    missing = SENT - delivered - rest["dropped_pkts"] - rest["fault_pkts"]
    return FateEvidence(SENT, delivered, missing_pkts=missing, **rest)


def evidence(*nodes: NodeEvidence, of: FateEvidence | None = None, **fields: Any) -> Evidence:
    client = ClientEvidence("c1", SENT, SENT, 1000 * SENT)
    return Evidence("emulation", 10**9, (client,), nodes, fates=of, **{"switch_dropped_pkts": 0, **fields})


def books(*nodes: NodeEvidence, of: FateEvidence, **fields: Any) -> Accounting:
    return account(evidence(*nodes, of=of, **fields))


def verdict(made: Evidence) -> Fidelity:
    return judge(made, {}, synthetic_run.facts())


def reasons(made: Evidence, *names: str) -> list[bool]:
    """Return of each check whether it is the reason of an INVALID verdict."""
    bad = [check.name for check in verdict(made).checks if check.verdict == "INVALID"]
    return [name in bad for name in names]


def test_one_lost_and_one_delivered_twice_at_another_backend_is_invalid() -> None:
    made = evidence(node("n1", 150), node("n2", 50), of=fates(199, repeated_pkts=1))
    assert account(made).unaccounted_pkts == 1
    assert reasons(made, "unaccounted packets", "duplicated packets") == [True, True]


def test_one_lost_and_one_dropped_twice_by_full_buffers_is_invalid() -> None:
    full = node("n2", 50, dropped_pkts=2, delivered_pkts=48)
    made = evidence(node("n1", 150), full, of=fates(198, dropped_pkts=1, repeated_pkts=1))
    assert reasons(made, "unaccounted packets", "duplicated packets") == [True, True]


def test_packets_that_nobody_sent_are_invalid() -> None:
    for more in ({"unsent_pkts": 1}, {"unplanned_pkts": 1}):
        assert reasons(evidence(node("n1", SENT), of=fates(SENT, **more)), "packets that nobody sent") == [True]


def test_a_packet_that_a_full_node_could_not_hand_on_is_lost_once() -> None:
    full, sibling = node("n1", 200, deflected_pkts=10, delivered_pkts=190), node("n2", 9, deflected_in_pkts=9)
    found = books(replace(full, link_dropped_pkts=1), sibling, of=fates(199))
    assert (found.dropped_pkts["other"], found.unaccounted_pkts) == (1, 0)
    assert books(full, sibling, of=fates(199)).unaccounted_pkts == 1


def test_a_crash_beside_tcp_costs_the_planned_packets_alone() -> None:
    """227 frames of TCP were thrown away with 50 planned packets."""
    crashed = node("n1", 100, delivered_pkts=50, fault_dropped_pkts=30, discarded_pkts=277)
    found = books(crashed, node("n2", 70), of=fates(120, fault_pkts=30))
    assert (found.dropped_pkts["fault"], found.unaccounted_pkts) == (80, 0)
    assert found.others_pkts == {}, "what a fault threw away is no stray loss of TCP"


def test_places_that_count_tcp_as_well_explain_no_more_than_is_missing() -> None:
    made = evidence(node("n1", SENT, qdisc_dropped_pkts=30, link_dropped_pkts=4), of=fates(SENT), switch_dropped_pkts=7)
    found = account(made)
    assert (found.unaccounted_pkts, sum(found.dropped_pkts.values())) == (0, 0)
    assert found.others_pkts == {"switch": 7, "links to nodes": 4, "qdisc": 30}


def test_tcp_that_is_lost_outside_the_buffer_is_a_caveat() -> None:
    bulk = TcpEvidence("bulk", "c1", "cubic", 1, 0, 10**9, 1, 0, Histogram.of([1]))
    lossy = node("n1", SENT, qdisc_dropped_pkts=3, tcp_arrived_pkts=10_000)
    checks = {check.name: check for check in verdict(evidence(lossy, of=fates(SENT), tcp=(bulk,))).checks}
    assert checks["TCP lost outside the buffer"].verdict == "DEGRADED"
    assert checks["loss outside the buffer"].verdict == "VALID"


def test_a_place_explains_no_loss_of_another_stretch() -> None:
    """The qdisc of n2 dropped frames of TCP; the planned packets that are missing were lost before the nodes."""
    ahead = books(node("n1", 100), node("n2", 95, qdisc_dropped_pkts=50), of=fates(195))
    assert (ahead.dropped_pkts["qdisc"], ahead.unaccounted_pkts) == (0, 5)
    behind = books(node("n1", 100, delivered_pkts=95), node("n2", 100, qdisc_dropped_pkts=50), of=fates(195))
    assert (behind.dropped_pkts["qdisc"], behind.unaccounted_pkts) == (0, 5)


def test_what_a_starved_switch_could_not_send_is_lost_at_the_switch() -> None:
    found = books(node("n1", 150), of=fates(150), switch_refused_pkts=50)
    assert (found.dropped_pkts["switch"], found.unaccounted_pkts) == (50, 0)


def test_what_is_in_the_queue_still_is_in_flight() -> None:
    found = books(node("n1", SENT, delivered_pkts=190, in_flight_pkts=40), of=fates(190))
    assert (found.in_flight_pkts, found.unaccounted_pkts) == (10, 0), "30 of them are frames of others"


def test_losses_to_faults_by_counters_and_by_packets_are_held_against_each_other() -> None:
    crashed = node("n1", 150, fault_dropped_pkts=50)

    def apart(counted: int, numbered: int, **more: Any) -> bool:
        of = fates(150, fault_pkts=50)
        made = evidence(crashed, of=of, fault_counted_pkts=counted, fault_numbered_pkts=numbered, **more)
        return reasons(made, "loss to faults, by counters and by packets") == [True]

    assert not apart(50, 50)
    assert apart(50, 49)
    assert apart(49, 50)
    assert "loss to faults, by counters and by packets" in verdict(evidence(crashed, of=fates(150))).not_checked


def test_a_stray_loss_near_a_fault_is_told_as_such() -> None:
    made = evidence(
        node("n1", 148, fault_dropped_pkts=50), of=fates(148, fault_pkts=50), switch_dropped_pkts=2,
        fault_counted_pkts=50, fault_numbered_pkts=52,
    )  # fmt: skip
    assert reasons(made, "loss to faults, by counters and by packets", "unaccounted packets") == [False, False]
    assert account(made).stray_pkts["switch"] == 2


def test_without_knowing_packets_one_by_one_counts_are_held_against_each_other() -> None:
    assert account(evidence(node("n1", 199), node("n2", 1))).unaccounted_pkts == 0
    assert account(evidence(node("n1", 199))).unaccounted_pkts == 1
