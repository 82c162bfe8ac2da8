"""Samples, histograms and the physics read from them, against cases worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.records.histogram import Histogram, log_edges_ns, merged
from testbed.records.samples import NodeSamples, by_node, table_of
from testbed.results.queues import bursts, demand_bytes, stretches, window_rate_errors
from testbed.units import NS_PER_MS

MB = 10**6
RATE_BPS = 100_000_000  # 125 kB in 10 ms
TICK = 10 * NS_PER_MS


def node_samples(arrived: list[int], dropped: list[int] | None = None, **columns: list[float]) -> NodeSamples:
    """Return samples every 10 ms; backlog 0 and limit 0.5 MB unless given."""
    rows = len(arrived)
    required = {"backlog_bytes": [0] * rows, "limit_bytes": [500_000] * rows}
    required |= {name: list(map(int, columns.pop(name))) for name in tuple(required) if name in columns}
    table = table_of({
        "t_ns": [TICK * (k + 1) for k in range(rows)], "node": ["n1"] * rows, "arrived_bytes": arrived,
        "arrived_pkts": [0] * rows, "dropped_bytes": dropped or [0] * rows, "dropped_pkts": [0] * rows,
        **required, **columns,
    })  # fmt: skip
    return by_node(table)["n1"]


def saturated(rate_error: float = 0.0, rows: int = 50, lateness_ns: int = 0) -> NodeSamples:
    """Return a node that is always backlogged and whose link is off by `rate_error`."""
    delivered = [round(125_000 * (k + 1) * (1 + rate_error)) for k in range(rows)]
    times = [TICK * (k + 1) - lateness_ns * (k % 2) for k in range(rows)]
    return node_samples([125_000] * rows, backlog_bytes=[MB] * rows, delivered_bytes=delivered, delivered_t_ns=times)


def test_rows_are_split_by_node_in_order_and_nulls_are_nan() -> None:
    table = table_of({
        "t_ns": [20, 10, 20, 10], "node": ["a", "a", "b", "b"], "arrived_bytes": [2, 1, 4, 3], "arrived_pkts": [0] * 4,
        "dropped_bytes": [0] * 4, "dropped_pkts": [0] * 4, "backlog_bytes": [0] * 4, "limit_bytes": [5] * 4,
        "predicted_bytes": [None, 7, None, None],
    })  # fmt: skip
    nodes = by_node(table)
    assert nodes["a"].arrived_bytes.tolist() == [1, 2]
    assert nodes["b"].arrived_bytes.tolist() == [3, 4]
    assert nodes["a"].interval_ns().tolist() == [10, 10]
    assert nodes["a"].optional["predicted_bytes"][0] == 7
    assert np.isnan(nodes["a"].optional["predicted_bytes"][1])
    assert "predicted_bytes" not in nodes["b"].optional
    assert by_node(table.slice(0, 0)) == {}


@pytest.mark.parametrize("rate_error", [0.0, -0.05, 0.03])
def test_the_rate_of_a_backlogged_link_is_measured(rate_error: float) -> None:
    errors = window_rate_errors(saturated(rate_error), RATE_BPS, 2000)
    assert len(errors) == 40
    assert errors == pytest.approx(rate_error, abs=1e-6)


def test_the_time_of_the_last_delivery_takes_the_samplers_jitter_out() -> None:
    rows = saturated(lateness_ns=0)
    moved = rows.t_ns + 400_000 * (np.arange(50) % 2)  # the sampler came late, the link did not
    jittered = NodeSamples(moved, *(getattr(rows, name) for name in (
        "arrived_bytes", "arrived_pkts", "dropped_bytes", "dropped_pkts", "backlog_bytes", "limit_bytes", "optional",
    )))  # fmt: skip
    assert np.abs(window_rate_errors(jittered, RATE_BPS, 2000)).max() < 1e-9


def test_a_link_that_stops_under_a_backlog_is_an_error_of_one() -> None:
    stopped = node_samples(
        [125_000] * 30, backlog_bytes=[MB] * 30, delivered_bytes=[1000] * 30, delivered_t_ns=[5 * NS_PER_MS] * 30
    )
    assert set(window_rate_errors(stopped, RATE_BPS, 2000)) == {-1.0}


def test_windows_that_ran_empty_are_not_judged() -> None:
    backlog = [MB] * 25 + [0] + [MB] * 24
    delivered = [60_000 * (k + 1) for k in range(50)]
    rows = node_samples([125_000] * 50, backlog_bytes=backlog, delivered_bytes=delivered)
    assert len(window_rate_errors(rows, RATE_BPS, 2000)) < 40 - 10
    idle_between = node_samples([60_000] * 50, backlog_bytes=[3000] * 50, delivered_bytes=delivered)
    assert len(window_rate_errors(idle_between, RATE_BPS, 2000)) == 0
    assert len(window_rate_errors(node_samples([125_000] * 50), RATE_BPS, 2000)) == 0


def test_demand_is_the_backlog_of_the_largest_buffer() -> None:
    rows = node_samples([225_000, 225_000, 25_000, 25_000, 25_000, 10 * MB])
    assert demand_bytes(rows, RATE_BPS, 2 * MB).tolist() == [100_000, 200_000, 100_000, 0, 0, 2 * MB]


def test_demand_does_not_depend_on_what_was_dropped() -> None:
    arrived = [500_000, 500_000, 0, 0]
    plain, dropping = node_samples(arrived), node_samples(arrived, [0, 400_000, 0, 0])
    assert demand_bytes(plain, RATE_BPS, MB).tolist() == demand_bytes(dropping, RATE_BPS, MB).tolist()


def test_the_onset_of_a_burst_lies_where_demand_passes_the_floor() -> None:
    found = bursts(node_samples([125_000, 525_000, 525_000, 0, 0, 0, 0, 0]), RATE_BPS, 500_000, 10 * MB, 0)
    # demand 0, 0.4, 0.8 MB: the floor of 0.5 MB is passed a quarter into the third interval
    assert found.begin_ns.tolist() == [22_500_000]
    assert found.end_ns.tolist() == [6 * TICK]


def test_stretches_join_over_short_gaps() -> None:
    times = np.arange(1, 9) * TICK
    active = np.array([0, 1, 1, 0, 1, 0, 0, 1], bool)
    assert stretches(times, active).begin_ns.tolist() == [2 * TICK, 5 * TICK, 8 * TICK]
    joined = stretches(times, active, join_gap_ns=TICK)
    assert joined.begin_ns.tolist() == [2 * TICK, 8 * TICK]
    assert joined.end_ns.tolist() == [6 * TICK, 8 * TICK]
    assert len(stretches(times, np.zeros(8, bool))) == 0


@given(st.lists(st.integers(0, 10**10), min_size=1, max_size=200), st.floats(0.0, 1.0))
def test_a_quantile_is_within_a_bin_of_the_true_one(values: list[int], ratio: float) -> None:
    histogram = Histogram.of(values)
    estimate = histogram.quantile_ns(ratio)
    truth = float(np.quantile(values, ratio, method="inverted_cdf"))
    bin_of = int(np.searchsorted(histogram.edges_ns, truth, side="right")) - 1
    assert estimate is not None
    assert histogram.edges_ns[bin_of] <= estimate + 1e-6
    assert estimate <= min(histogram.edges_ns[bin_of + 1], max(values))


def test_a_histogram_by_hand() -> None:
    histogram = Histogram(np.array([0, 10, 20, 40]), np.array([10, 0, 10]), None)
    assert histogram.quantile_ns(0.25) == 5
    assert histogram.quantile_ns(0.5) == 10
    assert histogram.quantile_ns(0.75) == 30
    assert histogram.largest_ns == 40
    assert Histogram(np.array([0, 10]), np.array([0])).quantile_ns(0.5) is None
    assert Histogram(np.array([0, 10]), np.array([0])).largest_ns is None
    with pytest.raises(ValueError, match="ascending"):
        Histogram(np.array([0, 10, 10]), np.array([1, 1]))


def test_histograms_add_up_also_with_other_edges() -> None:
    one, two = Histogram.of([5_000, 7_000]), Histogram.of([10**6] * 3, np.array([0, 999_000, 1_001_000]))
    both = merged([one, None, two])
    assert both is not None
    assert (both.total, both.max_ns) == (5, 10**6)
    assert both.quantile_ns(0.9) == pytest.approx(10**6, rel=0.05)
    assert merged([None]) is None
    assert Histogram.from_record(both.to_record()).to_record() == both.to_record()


def test_logarithmic_edges_resolve_4_percent() -> None:
    edges = log_edges_ns()
    assert edges[0] == 0
    assert edges[-1] >= 16_000_000_000
    assert np.all(np.diff(edges[2:]) / edges[2:-1] < 0.046)
