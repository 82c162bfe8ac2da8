"""Deflection in virtual time: as the kernel's program does it, packet by packet, whatever the steps."""

from __future__ import annotations

import heapq
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed import topologies
from testbed.results.accounting import account
from testbed.scenario import loading
from testbed.simulation.deflection import NOBODY, Deflection, Packets
from testbed.simulation.queues import NANOBITS_PER_BYTE, QueueBank
from testbed.system import places
from testbed.traffic.plan import PacketPlan, make_plan
from tests import simulated_run

RATE, TURN_NS, END_NS = 8_000_000, 45_500, 30_000_000  # no tie with a packet on the grid of microseconds
_PLAN: list[PacketPlan] = []


def plan() -> PacketPlan:
    """A plan of 1000 B packets; only sizes and flows of its rows matter here."""
    if not _PLAN:
        spec = simulated_run.scenario("static-min")
        _PLAN.append(make_plan(spec, topologies.describe(spec.topology), Path()))
    return _PLAN[0]


def by_hand(packets: list[tuple[int, int]], limits: list[int], sibling: list[int]) -> tuple[list[str], list[int]]:
    """Return the fate of each packet and the final debts, by an event loop over single packets."""
    debt, last, fates = [0] * 3, [0] * 3, [""] * len(packets)
    agenda = [(t_ns, number, node, False) for number, (t_ns, node) in enumerate(packets)]
    heapq.heapify(agenda)
    while agenda:
        t_ns, number, node, handed = heapq.heappop(agenda)
        debt[node] = max(0, debt[node] - (t_ns - last[node]) * RATE)
        last[node] = t_ns
        if debt[node] + 1000 * NANOBITS_PER_BYTE <= limits[node] * NANOBITS_PER_BYTE:
            debt[node] += 1000 * NANOBITS_PER_BYTE
            fates[number] += f"in at {node}"
        elif not handed and sibling[node] != NOBODY:
            fates[number] += f"{node} hands on, "
            heapq.heappush(agenda, (t_ns + TURN_NS, number, sibling[node], True))
        else:
            fates[number] += f"dropped at {node}"
    return fates, [max(0, debt[n] - (END_NS - last[n]) * RATE) for n in range(3)]


ARRIVALS = st.dictionaries(st.integers(1, 20_000), st.integers(0, 2), min_size=1, max_size=80)


@settings(max_examples=200, deadline=None)
@given(
    times=ARRIVALS,
    limits=st.lists(st.sampled_from([1_000, 3_000, 8_000]), min_size=3, max_size=3),
    sibling=st.sampled_from([[1, 2, 0], [2, 2, NOBODY], [NOBODY, 0, 1]]),
    cuts=st.lists(st.integers(1, 29_000_000), max_size=5),
)
def test_every_packet_as_the_kernel_has_it(
    times: dict[int, int], limits: list[int], sibling: list[int], cuts: list[int]
) -> None:
    packets = [(1000 * t, node) for t, node in sorted(times.items())]
    bank = QueueBank(np.full(3, RATE), np.zeros(3, dtype=np.int64), np.array(limits))
    deflection = Deflection(3, plan(), TURN_NS)
    deflection.sibling = sibling
    fates = [""] * len(packets)
    for until_ns in sorted({*cuts, END_NS}):
        part = [(t, number, node) for number, (t, node) in enumerate(packets) if bank.now_ns < t <= until_ns]
        t_ns, number, node = np.array(part, dtype=np.int64).reshape(-1, 3).T
        step_packets = deflection.joined(Packets(t_ns, np.full(len(part), 1000), node, number), until_ns)
        if not len(step_packets):
            bank.idle_until(until_ns)
            continue
        step, lost = deflection.serve(bank, step_packets, until_ns, np.zeros(3, dtype=bool))
        assert [len(part) for part in lost] == [0, 0]
        admitted, on = step.served.admitted, set(step.handed_on.tolist())
        of_time = sorted(range(len(step.arrivals.node)), key=lambda k: int(step.arrivals.order[k]))
        for k in of_time:
            row, where = int(step.packets.number[step.arrivals.order[k]]), int(step.arrivals.node[k])
            came_in = admitted is None or admitted[k]
            fates[row] += f"{where} hands on, " if k in on else f"{'in' if came_in else 'dropped'} at {where}"
    expected, debts = by_hand(packets, limits, sibling)
    assert fates == expected
    assert bank.backlog_bytes().tolist() == [-(-debt // NANOBITS_PER_BYTE) for debt in debts]


@pytest.mark.parametrize("name", ["deflect", "cascade"])
def test_the_books_add_up_and_nothing_is_handed_on_twice(name: str) -> None:
    run = simulated_run.run(loading.load(places.scenarios() / f"{name}.yaml").scenario)
    nodes, books = run.evidence.nodes, account(run.evidence)
    assert books.unaccounted_pkts == 0
    deflected = sum(node.deflected_pkts or 0 for node in nodes)
    assert deflected == sum(node.deflected_in_pkts or 0 for node in nodes) > 1000
    assert sum(node.arrived_pkts for node in nodes) == len(run.plan) + deflected
    assert sum(run.recorded.column("deflected_pkts")) == deflected
    assert sum(node.delay.total for node in nodes if node.delay) == books.delivered_pkts


def test_a_second_tier_gets_only_what_the_first_hands_over() -> None:
    run = simulated_run.run(loading.load(places.scenarios() / "cascade.yaml").scenario)
    first, second = run.evidence.nodes[:2], run.evidence.nodes[2]
    assert second.arrived_pkts == second.deflected_in_pkts
    assert not second.deflected_pkts
    assert all(not node.deflected_in_pkts for node in first)


def test_marks_are_of_packets_that_met_more_than_the_threshold() -> None:
    run = simulated_run.run(simulated_run.scenario("static-max", balancer="hash", ecn_threshold="0.02MB"))
    marked = [node.marked_pkts or 0 for node in run.evidence.nodes]
    admitted = [node.delivered_pkts for node in run.evidence.nodes]
    assert 0 < sum(marked) < sum(admitted)
    assert all(few <= many for few, many in zip(marked, admitted, strict=True))
    unmarked = simulated_run.run(simulated_run.scenario("static-max", balancer="hash", ecn_threshold="1MB"))
    assert sum(node.marked_pkts or 0 for node in unmarked.evidence.nodes) == 0
