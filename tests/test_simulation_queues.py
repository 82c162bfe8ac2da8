"""The simulated queue is the queue of the kernel's program, packet for packet and bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.scenario.network import bucket_bytes
from testbed.simulation.queues import NANOBITS_PER_BYTE, Arrivals, QueueBank

RATES = np.array([10_000_000, 33_333_333, 100_000_000], dtype=np.int64)
BUCKETS = np.array([0, 4542, 12_500], dtype=np.int64)


@pytest.mark.parametrize("nodes", [2, 32_769, 65_536, 65_537, 100_000])
def test_packets_are_grouped_by_node_however_many_nodes_there_are(nodes: int) -> None:
    node = np.array([nodes - 1, 0, nodes // 2, nodes - 1, 0], dtype=np.int64)
    t_ns = np.arange(5)
    grouped = Arrivals.grouped(t_ns, t_ns, node, nodes)
    assert grouped.node.tolist() == sorted(node.tolist())
    assert grouped.order.tolist() == np.argsort(node, kind="stable").tolist()
    assert grouped.rows.tolist() == sorted({*node.tolist()})


def by_hand(packets: list[tuple[int, int, int]], limits: list[int], until_ns: int) -> tuple[list[Any], list[int]]:
    """The recursion of bpf/queue.h, one packet after the other: (debt after, admitted) each, and backlogs."""
    debt = [-int(bucket) * NANOBITS_PER_BYTE for bucket in BUCKETS]
    last = [0, 0, 0]
    told = []
    for t_ns, size, node in packets:
        debt[node] = max(-int(BUCKETS[node]) * NANOBITS_PER_BYTE, debt[node] - (t_ns - last[node]) * int(RATES[node]))
        last[node] = t_ns
        fits = max(debt[node], 0) + size * NANOBITS_PER_BYTE <= limits[node] * NANOBITS_PER_BYTE
        if fits:
            debt[node] += size * NANOBITS_PER_BYTE
        told.append((max(debt[node], 0) // int(RATES[node]), fits))
    backlog = []
    for node in range(3):
        left = max(debt[node] - (until_ns - last[node]) * int(RATES[node]), 0)
        backlog.append(-(-left // NANOBITS_PER_BYTE))
    return told, backlog


def served(packets: list[tuple[int, int, int]], limits: list[int], steps_ns: list[int]) -> tuple[list[Any], list[int]]:
    bank = QueueBank(RATES, BUCKETS, np.array(limits, dtype=np.int64))
    told: list[Any] = []
    for until_ns in steps_ns:
        part = [packet for packet in packets if bank.now_ns < packet[0] <= until_ns]
        if not part:
            bank.idle_until(until_ns)
            continue
        t_ns, size, node = (np.array(column, dtype=np.int64) for column in zip(*part, strict=True))
        arrivals = Arrivals.grouped(t_ns, size, node, 3)
        outcome = bank.serve(arrivals, until_ns)
        waiting, admitted = outcome.waiting_ns, outcome.admitted
        admitted = np.ones(len(part), dtype=bool) if admitted is None else admitted
        back = np.argsort(np.argsort(node, kind="stable"), kind="stable")
        told += list(zip(waiting[back].tolist(), admitted[back].tolist(), strict=True))
    return told, bank.backlog_bytes().tolist()


def delays_of_admitted(told: list[Any]) -> list[Any]:
    return [delay if admitted else None for delay, admitted in told]


packets_strategy = st.lists(
    st.tuples(st.integers(1, 40_000_000), st.integers(74, 1514), st.integers(0, 2)), min_size=1, max_size=120
).map(sorted)


@settings(max_examples=300, deadline=None)
@given(
    packets=packets_strategy,
    limits=st.lists(st.integers(0, 30_000), min_size=3, max_size=3),
    cuts=st.lists(st.integers(1, 40_000_000), max_size=6),
)
def test_every_packet_as_the_kernel_has_it(
    packets: list[tuple[int, int, int]], limits: list[int], cuts: list[int]
) -> None:
    expected, backlog = by_hand(packets, limits, 40_000_000)
    found, left = served(packets, limits, sorted({*cuts, 40_000_000}))
    assert [fits for _, fits in found] == [fits for _, fits in expected]
    assert delays_of_admitted(found) == delays_of_admitted(expected)
    assert left == backlog


def test_a_shrunk_limit_takes_nothing_from_the_queue_and_lets_nothing_in() -> None:
    bank = QueueBank(RATES[:1], BUCKETS[:1], np.array([50_000]))
    first = Arrivals.grouped(np.full(40, 1), np.full(40, 1000), np.zeros(40, dtype=np.int64), 1)
    assert bank.serve(first, 1).admitted is None
    bank.set_limit(slice(None), np.array([10_000]))
    assert bank.backlog_bytes().tolist() == [40_000]
    late = Arrivals.grouped(np.array([2]), np.array([1000]), np.zeros(1, dtype=np.int64), 1)
    assert bank.serve(late, 2).admitted.tolist() == [False]  # type: ignore[union-attr]
    assert bank.empty_after_ns() == 40_000 * 8 * 100 - 1  # at 10 Mbit/s a byte takes 800 ns


def test_a_thousand_fast_nodes_do_not_overflow() -> None:
    rates = np.full(1000, 10_000_000_000, dtype=np.int64)
    bank = QueueBank(rates, np.full(1000, 1_250_000), np.full(1000, 10_000_000))
    step_ns = bank.longest_step_ns
    node = np.arange(1000).repeat(50)
    t_ns = np.full(len(node), step_ns)
    outcome = bank.serve(Arrivals.grouped(t_ns, np.full(len(node), 1500), node, 1000), step_ns)
    assert outcome.admitted is None
    assert outcome.waiting_ns.max() == 0  # the bucket was full
    assert bank.backlog_bytes().max() == 0


def test_the_bucket_is_that_of_the_emulation() -> None:
    from testbed.emulation.network import shaping

    for rate_bps in (1_000_000, 10_000_000, 100_000_000, 1_000_000_000):
        assert bucket_bytes(rate_bps) == shaping.bucket_bytes(rate_bps)
