"""Each precursor alone, their agreement, and the silence of steady traffic."""

from __future__ import annotations

import numpy as np
import pytest

from testbed.policies.precursor import WARM_UP_SAMPLES, WEIGHT, PrecursorPolicy
from testbed.records.events import TrafficSampled
from tests.traffic_samples import of_columns

PACKET_BYTES = 1000


def sample(
    load: float = 0.5,
    *,
    rate_bps: int = 100_000_000,
    interval_ms: int = 10,
    peak: float | None = None,
    flows=0,
    gap=0.05,
) -> TrafficSampled:
    """One node that gets `load` of its rate; `peak` is the load of the busiest ms, `gap` a ratio of the interval."""
    per_ms = rate_bps / 8 / 1000
    arrived = int(load * per_ms * interval_ms)
    busiest = int((load if peak is None else peak) * per_ms)
    gap_ns = int(gap * interval_ms * 1e6)
    fields = [arrived, -(-arrived // PACKET_BYTES), 0, 0, 0, 500_000, flows, gap_ns, busiest]
    return of_columns(("n1",), interval_ms * 1_000_000, *(np.array([f], dtype=np.int64) for f in fields))


def steady(policy: PrecursorPolicy, **settings) -> None:
    for _ in range(100):
        policy.severity_ratio(sample(**settings))


def detector(rate_bps: int = 100_000_000) -> PrecursorPolicy:
    policy = PrecursorPolicy(np.array([rate_bps], dtype=np.int64))
    steady(policy, rate_bps=rate_bps)
    return policy


def severity(policy: PrecursorPolicy, **settings) -> float:
    return float(policy.severity_ratio(sample(**settings))[0])


def test_steady_traffic_has_no_severity():
    assert detector().severity_ratio(sample()).tolist() == [0.0]


def test_a_rising_slope_alone_reaches_its_weight():
    policy = detector()
    assert severity(policy, load=0.6) == 0.0
    assert severity(policy, load=0.9) > 0.3
    assert severity(policy, load=1.2) == pytest.approx(WEIGHT[0])


def test_bunching_within_the_interval_is_a_sign():
    assert severity(detector(), peak=2.5) == pytest.approx(WEIGHT[1])


def test_new_flows_are_a_sign():
    assert severity(detector(), flows=3) == 0.0
    assert severity(detector(), flows=20) == pytest.approx(WEIGHT[2])


def test_closing_gaps_are_a_sign_and_widening_ones_are_none():
    assert severity(detector(), gap=0.0125) == pytest.approx(WEIGHT[3] / 2)  # a quarter: 2 octaves, 4 deviations
    assert severity(detector(), gap=0.0005) == pytest.approx(WEIGHT[3])
    assert severity(detector(), gap=0.5) == 0.0


def test_signs_that_agree_add_up_towards_one():
    joined = severity(detector(), load=1.5, peak=4.0, flows=30, gap=0.0005)
    assert joined == pytest.approx(1 - np.prod([1 - weight for weight in WEIGHT]))
    assert joined > 0.9


def test_falling_load_announces_nothing():
    assert severity(detector(), load=0.0, gap=1.0) == 0.0


def test_an_interval_without_packets_counts_as_one_gap():
    assert severity(detector(), load=0.0, gap=0.0) == 0.0


def test_there_is_no_severity_before_there_is_a_baseline():
    policy = PrecursorPolicy(np.array([100_000_000], dtype=np.int64))
    assert [severity(policy, load=2.0 * (i % 2)) for i in range(WARM_UP_SAMPLES)] == [0.0] * WARM_UP_SAMPLES


def test_a_burst_does_not_teach_that_bursts_are_usual():
    policy = detector()
    for _ in range(10):
        severity(policy, load=3.0)
    steady_after = [severity(policy, load=0.5) for _ in range(40)]
    assert steady_after[-1] == 0.0
    assert severity(policy, load=3.0) == pytest.approx(WEIGHT[0])


def test_a_load_that_has_really_changed_becomes_the_usual_one():
    policy = detector()
    levels = [severity(policy, load=1.0) for _ in range(120)]
    assert max(levels[:3]) > 0.3
    assert levels[-1] == 0.0


@pytest.mark.parametrize("rate_bps", [10_000_000, 1_000_000_000, 100_000_000_000])
@pytest.mark.parametrize("interval_ms", [1, 100])
def test_one_set_of_thresholds_serves_any_link_and_interval(rate_bps: int, interval_ms: int):
    policy = PrecursorPolicy(np.array([rate_bps], dtype=np.int64))
    steady(policy, rate_bps=rate_bps, interval_ms=interval_ms)
    assert severity(policy, rate_bps=rate_bps, interval_ms=interval_ms) == 0.0
    assert severity(policy, rate_bps=rate_bps, interval_ms=interval_ms, load=1.6) == pytest.approx(WEIGHT[0], abs=0.01)


def test_poisson_traffic_raises_few_alarms():
    rng = np.random.default_rng(7)
    policy = PrecursorPolicy(np.array([100_000_000], dtype=np.int64))
    severities = []
    for _ in range(3000):
        packets = rng.poisson(7.5, 10)
        gap = rng.exponential(0.1 / 7.5, max(int(packets.sum()), 1)).max()
        severities.append(severity(policy, load=packets.sum() / 125, peak=packets.max() / 12.5, gap=min(gap, 1.0)))
    assert np.mean(np.array(severities) > 0.3) < 0.005


def test_each_node_has_its_own_baseline():
    policy = PrecursorPolicy(np.array([10_000_000, 1_000_000_000], dtype=np.int64))
    for arrived in [(6_000, 600_000)] * 50 + [(18_000, 600_000)] * 2:
        zero = np.zeros(2, dtype=np.int64)
        numbers = np.array(arrived, dtype=np.int64)
        packets, gap, peak = numbers // 1000, np.full(2, 500_000), numbers // 10
        seen = TrafficSampled(
            nodes=("n1", "n2"),
            interval_ns=10_000_000,
            arrived_bytes=numbers,
            arrived_pkts=packets,
            dropped_bytes=zero,
            dropped_pkts=zero,
            backlog_bytes=zero,
            limit_bytes=zero,
            new_flows=zero,
            gap_max_ns=gap,
            peak_1ms_bytes=peak,
        )
        last = policy.severity_ratio(seen)
    assert last[0] > 0.5
    assert last[1] == 0.0
