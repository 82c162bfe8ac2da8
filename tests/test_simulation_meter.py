"""The simulated meter counts what the kernel's would: sums, gaps, silence, the busiest millisecond."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.simulation.meter import Meter
from testbed.simulation.queues import Arrivals
from testbed.units import NS_PER_MS

NODES = ("n1", "n2")
ALL = slice(0, 2)
ZEROS = np.zeros(2, dtype=np.int64)


def count(meter: Meter, packets: list[tuple[int, int, int]], dropped: list[bool] | None = None) -> None:
    t_ns, size, node = (np.array(column, dtype=np.int64) for column in zip(*packets, strict=True))
    arrivals = Arrivals.grouped(t_ns, size, node, 2)
    order = np.argsort(node, kind="stable")
    meter.count(arrivals, None if dropped is None else np.array(dropped)[order])


def test_sums_are_of_the_interval() -> None:
    meter = Meter(NODES)
    count(meter, [(1, 100, 0), (2, 200, 1), (3, 300, 0)], [False, False, True])
    first = meter.read(ALL, 10, 10, ZEROS, ZEROS)
    assert first.arrived_bytes.tolist() == [400, 200]
    assert first.arrived_pkts.tolist() == [2, 1]
    assert first.dropped_bytes.tolist() == [300, 0]
    assert first.dropped_pkts.tolist() == [1, 0]
    second = meter.read(ALL, 20, 10, ZEROS, ZEROS)
    assert second.arrived_bytes.tolist() == [0, 0]


def test_nodes_may_be_read_apart() -> None:
    meter = Meter(NODES)
    count(meter, [(1, 100, 0), (2, 200, 1)])
    assert meter.read(slice(0, 1), 10, 10, ZEROS, ZEROS).arrived_bytes.tolist() == [100]
    count(meter, [(11, 100, 0), (12, 200, 1)])
    assert meter.read(slice(1, 2), 20, 20, ZEROS, ZEROS).arrived_bytes.tolist() == [400]
    assert meter.read(slice(0, 1), 20, 10, ZEROS, ZEROS).arrived_bytes.tolist() == [100]


def test_the_longest_gap_is_one_that_ended_or_the_silence_now() -> None:
    meter = Meter(NODES)
    count(meter, [(5, 100, 0), (25, 100, 0), (30, 100, 0)])
    assert meter.read(ALL, 40, 40, ZEROS, ZEROS).gap_max_ns.tolist() == [20, 0]
    assert meter.read(ALL, 80, 40, ZEROS, ZEROS).gap_max_ns.tolist() == [50, 0]
    count(meter, [(90, 100, 0)])
    assert meter.read(ALL, 95, 15, ZEROS, ZEROS).gap_max_ns.tolist() == [60, 0]


def test_a_bin_that_was_open_at_the_reading_counts_whole_in_both() -> None:
    meter = Meter(NODES)
    count(meter, [(NS_PER_MS // 4, 500, 0)])
    assert meter.read(ALL, NS_PER_MS // 2, NS_PER_MS // 2, ZEROS, ZEROS).peak_1ms_bytes.tolist() == [500, 0]
    count(meter, [(NS_PER_MS * 3 // 4, 400, 0)])
    assert meter.read(ALL, NS_PER_MS * 2, NS_PER_MS, ZEROS, ZEROS).peak_1ms_bytes.tolist() == [900, 0]
    assert meter.read(ALL, NS_PER_MS * 4, NS_PER_MS, ZEROS, ZEROS).peak_1ms_bytes.tolist() == [0, 0]


@settings(max_examples=100, deadline=None)
@given(
    packets=st.lists(
        st.tuples(st.integers(1, 9_999_999), st.integers(74, 1514), st.integers(0, 1)), min_size=1, max_size=60
    ).map(sorted),
    cut=st.integers(1, 9_999_999),
)
def test_peak_is_that_of_the_busiest_bin_however_the_step_is_cut(packets: list[tuple[int, int, int]], cut: int) -> None:
    meter = Meter(NODES)
    for part in ([p for p in packets if p[0] <= cut], [p for p in packets if p[0] > cut]):
        if part:
            count(meter, part)
    expected = []
    for node in (0, 1):
        bins: dict[int, int] = {}
        for t_ns, size, at in packets:
            if at == node:
                bins[t_ns // NS_PER_MS] = bins.get(t_ns // NS_PER_MS, 0) + size
        expected.append(max(bins.values(), default=0))
    sample = meter.read(ALL, 10 * NS_PER_MS, 10 * NS_PER_MS, ZEROS, ZEROS)
    assert sample.peak_1ms_bytes.tolist() == expected
