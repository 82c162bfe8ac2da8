"""Fluid arithmetic against a plain loop, and the smoothing forecasters and the oracle against known futures."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.policies import fluid
from testbed.policies.buffer_rules import make_forecaster
from testbed.policies.forecast_ewma import EwmaForecaster
from testbed.policies.forecast_holt import HoltForecaster
from testbed.policies.forecast_oracle import ArrivalCells, KnownArrivals, OracleForecaster, SharedArrivals
from testbed.policies.forecast_path import horizons_ns
from testbed.records.events import TrafficSampled
from testbed.scenario.buffer import BufferSpec
from tests.traffic_samples import of_columns

MS = 1_000_000
RATE_BPS = np.array([100_000_000], dtype=np.int64)  # 125 kB in 10 ms
HORIZONS = (10 * MS, 50 * MS, 100 * MS, 200 * MS)


def cells(size_bytes: np.ndarray, first: int = 0, begun: int = -10_000) -> ArrivalCells:
    """Return planned arrivals, one cell a bin; flows began long ago."""
    return ArrivalCells(first + np.arange(len(size_bytes)), np.full(len(size_bytes), begun), size_bytes)


def sample(arrived: int, backlog: int = 0, interval_ms: int = 10, count: int = 1) -> TrafficSampled:
    def ints(value: int) -> np.ndarray:
        return np.full(count, value, dtype=np.int64)

    nodes = tuple(f"n{i + 1}" for i in range(count))
    numbers = [arrived, arrived // 1000, 0, 0, backlog, 10**7, 0, MS, arrived // interval_ms]
    return of_columns(nodes, interval_ms * MS, *(ints(value) for value in numbers))


# ------------------------------------------------------------------------------------------------ fluid queue


def lindley(arrived, served, start):
    path = []
    for amount in arrived:
        start = max(0.0, start + amount - served)
        path.append(start)
    return path


bins = st.lists(st.integers(0, 10**6), min_size=1, max_size=60)


@given(bins, st.integers(0, 10**6), st.integers(0, 10**7))
def test_the_closed_form_is_lindleys_recursion(arrived, served, start):
    path = fluid.backlog_path(np.array([arrived]), np.array([float(served)]), np.array([start]))
    assert path[0].tolist() == pytest.approx(lindley(arrived, served, start), abs=1e-3)


@given(bins, st.integers(0, 10**6), st.integers(0, 10**7))
def test_the_peak_is_the_smallest_buffer_that_loses_nothing(arrived, served, start):
    service, horizon = np.array([float(served)]), np.array([len(arrived)])
    (need,) = fluid.peak_within(np.array([arrived]), service, np.array([start]), horizon)[0]

    def lost(limit: int) -> float:
        backlog, total = np.array([float(start)]), 0.0
        for amount in arrived:
            backlog, dropped = fluid.serve_bin(backlog, np.array([amount]), service, np.array([limit]))
            total += float(dropped[0])
        return total

    assert lost(need) == 0.0
    assert need == start or lost(need - 1) > 0.0


def test_horizons_are_nested():
    arrived = np.array([[0, 300, 0, 0, 900, 0]])
    need = fluid.peak_within(arrived, np.array([100.0]), np.array([50]), np.array([1, 2, 4, 6]))
    assert need.tolist() == [[50, 200, 200, 800]]


@given(bins, st.integers(0, 70))
def test_peaks_ahead_is_a_sliding_maximum(path, ahead):
    expected = [max(path[i : i + ahead + 1]) for i in range(len(path))]
    assert fluid.peaks_ahead(np.array([path], dtype=float), ahead).tolist() == [expected]


def test_a_shrunk_buffer_drains_and_lets_nothing_in():
    backlog, dropped = fluid.serve_bin(np.array([1000.0]), np.array([300]), np.array([100.0]), np.array([200]))
    assert (backlog.tolist(), dropped.tolist()) == ([900.0], [300.0])


# --------------------------------------------------------------------------------------------------- smoothing


@pytest.mark.parametrize("forecaster", [EwmaForecaster, HoltForecaster])
class TestSmoothing:
    def test_a_steady_load_below_the_rate_needs_only_what_is_there(self, forecaster):
        rule = forecaster(RATE_BPS, 10 * MS, HORIZONS)
        for _ in range(50):
            made = rule.step(sample(75_000, backlog=2000), 0)
        assert made.need_bytes.tolist() == [[2000] * 4]
        assert made.onset_ratio[0] < 0.01

    def test_a_steady_overload_needs_its_excess_over_each_horizon(self, forecaster):
        rule = forecaster(RATE_BPS, 10 * MS, HORIZONS)
        for _ in range(400):
            made = rule.step(sample(225_000, backlog=1000), 0)
        assert made.need_bytes.tolist() == [[101_000, 501_000, 1_001_000, 2_001_000]]
        assert made.onset_ratio[0] > 0.99

    def test_the_need_never_is_below_the_backlog_and_grows_with_the_horizon(self, forecaster):
        rng = np.random.default_rng(3)
        rule = forecaster(np.repeat(RATE_BPS, 4), 10 * MS, HORIZONS)
        for _ in range(200):
            seen = sample(int(rng.integers(0, 400_000)), int(rng.integers(0, 10**6)), count=4)
            need = rule.step(seen, 0).need_bytes
            assert (need >= seen.backlog_bytes[:, None]).all()
            assert (np.diff(need, axis=1) >= 0).all()

    def test_a_late_sample_is_counted_by_its_length(self, forecaster):
        prompt, late = (forecaster(RATE_BPS, 10 * MS, HORIZONS) for _ in range(2))
        for _ in range(20):
            expected = prompt.step(sample(150_000), 0)
            made = late.step(sample(225_000, interval_ms=15), 0)
        assert made == expected

    def test_noise_adds_need_near_the_rate(self, forecaster):
        noisy, calm = (forecaster(RATE_BPS, 10 * MS, HORIZONS) for _ in range(2))
        for step in range(100):
            loud = noisy.step(sample(110_000 + 50_000 * (-1) ** step), 0).need_bytes
            quiet = calm.step(sample(110_000), 0).need_bytes
        assert (loud > quiet).all()


def test_holt_draws_a_ramp_on_and_ewma_does_not():
    holt, ewma = (rule(RATE_BPS, 10 * MS, HORIZONS) for rule in (HoltForecaster, EwmaForecaster))
    for arrived in [20_000] * 30 + [40_000, 60_000, 80_000, 100_000]:
        ramp, flat = holt.step(sample(arrived), 0), ewma.step(sample(arrived), 0)
    assert ramp.need_bytes[0, 1] > 50_000 > flat.need_bytes[0, 1]


def test_make_forecaster_serves_the_policies_that_smooth():
    kinds = {}
    for policy in ("ewma", "holt", "lstm", "oracle", "reactive", "static-min"):
        made = make_forecaster(BufferSpec.model_validate({"policy": policy}), RATE_BPS)
        kinds[policy] = type(made).__name__
    assert kinds["ewma"] == "EwmaForecaster"
    assert kinds["holt"] == "HoltForecaster"
    assert {kinds[p] for p in ("lstm", "oracle", "reactive", "static-min")} == {"NoneType"}


def test_horizons_reach_beyond_the_actuation_delay_and_include_the_named_one():
    assert horizons_ns(BufferSpec()) == HORIZONS
    spec = BufferSpec.model_validate({"actuation_delay": "25ms", "horizon": "40ms"})
    assert horizons_ns(spec) == (35 * MS, 40 * MS, 75 * MS, 125 * MS, 225 * MS)
    late = HoltForecaster(RATE_BPS, spec.sample_interval_ns, horizons_ns(spec))
    assert late.step(sample(225_000), 0).need_bytes.shape == (1, 5)


# ------------------------------------------------------------------------------------------------------ oracle


def test_the_oracle_knows_the_peak_to_the_byte():
    plan = np.zeros((1, 100), dtype=np.int64)
    plan[0, 20:30] = 50_000  # 37.5 kB a ms too much for 10 ms
    oracle = OracleForecaster(KnownArrivals(plan, MS), RATE_BPS, (10 * MS, 20 * MS, 50 * MS))
    assert oracle.step(sample(0), 10 * MS).need_bytes.tolist() == [[0, 375_000, 375_000]]
    assert oracle.step(sample(0), 14 * MS).need_bytes.tolist() == [[4 * 37_500, 375_000, 375_000]]
    assert oracle.step(sample(0), 60 * MS).onset_ratio.tolist() == [0.0]


def test_the_bin_under_way_counts_with_what_is_left_of_it():
    plan = np.zeros((1, 10), dtype=np.int64)
    plan[0, 2] = 100_000
    oracle = OracleForecaster(KnownArrivals(plan, 10 * MS), RATE_BPS * 0 + 8_000_000, (10 * MS,))
    # 10 kB are served in a bin.  At 25 ms half of the bin is to come: 50 kB in, 5 kB out.
    assert oracle.step(sample(50_000), 25 * MS).need_bytes.tolist() == [[45_000]]


def test_beyond_the_plan_nothing_comes():
    oracle = OracleForecaster(KnownArrivals(np.full((1, 5), 99_999), MS), RATE_BPS, HORIZONS)
    assert oracle.step(sample(0, backlog=7), 20 * MS).need_bytes.tolist() == [[7, 7, 7, 7]]


@pytest.mark.parametrize("future", ["known", "shared"])
def test_the_oracle_matches_the_queue_it_foretells(future):
    rng = np.random.default_rng(11)
    plan = rng.integers(0, 40_000, (1, 400)) * (rng.random((1, 400)) < 0.35)
    served = fluid.service_bytes(RATE_BPS, MS)
    path = fluid.backlog_path(plan, served, np.zeros(1))[0]
    knows = KnownArrivals(plan, MS) if future == "known" else SharedArrivals(cells(plan[0]), MS, 1, 1)
    oracle = OracleForecaster(knows, RATE_BPS, (50 * MS,))
    for end in range(10, 340, 10):
        seen = sample(int(plan[0, end - 10 : end].sum()), backlog=int(path[end - 1]))
        (need,) = oracle.step(seen, end * MS).need_bytes[0]
        assert need == pytest.approx(max(path[end - 1 : end + 50]), abs=2)


def test_a_share_of_the_plan_follows_the_traffic():
    future = SharedArrivals(cells(np.full(1000, 30_000)), MS, count=1, members=3)
    assert future.share_ratio.tolist() == pytest.approx([1 / 3])
    for step in range(1, 90):
        future.observe(sample(60_000), step * 10 * MS)  # 60 of 300 kB
    assert future.share_ratio.tolist() == pytest.approx([0.2], rel=0.01)
    assert future.bins(0, 2).tolist() == [pytest.approx([6000, 6000], rel=0.01)]


def test_flows_that_just_began_may_all_come_here_and_older_ones_as_they_did():
    old, young = cells(np.full(1000, 30_000)), cells(np.full(20, 50_000), first=900, begun=900)
    both = ArrivalCells(*(np.concatenate(columns) for columns in zip(old, young, strict=True)))
    order = np.argsort(both.bin, kind="stable")
    future = SharedArrivals(ArrivalCells(*(column[order] for column in both)), MS, count=1, members=3)
    for step in range(1, 90):
        future.observe(sample(60_000), step * 10 * MS)
    assert future.bins(899, 3).tolist() == [pytest.approx([6000, 56_000, 56_000], rel=0.01)]
    assert future.bins(920, 1).tolist() == [pytest.approx([6000], rel=0.01)]


def test_a_share_never_exceeds_the_whole():
    future = SharedArrivals(cells(np.full(100, 10)), MS, count=1, members=2)
    future.observe(sample(10**6), 10 * MS)
    assert future.share_ratio.tolist() == [1.0]
