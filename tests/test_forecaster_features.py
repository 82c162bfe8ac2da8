"""Features: dimensionless, vectorised, the same for one node and for many."""

from __future__ import annotations

import numpy as np
import pytest

from testbed.forecaster.runtime.features import ALL, ALL_NAMES, FEATURE_NAMES, FEATURES, FeatureExtractor

INTERVAL_NS = 10_000_000


def run(
    rate_bps: np.ndarray,
    rows: np.ndarray,
    interval_ns: int = INTERVAL_NS,
    took_ns: int | None = None,
    width: int = FEATURES,
) -> np.ndarray:
    """Return features [steps, width, n] of samples [steps, 4, n]."""
    out = np.empty((width, len(rate_bps)))
    extractor = FeatureExtractor(rate_bps, interval_ns, out)
    steps = []
    for row in rows:
        extractor.step(*row, took_ns or interval_ns)
        steps.append(out.copy())
    return np.stack(steps)


@pytest.fixture
def rows() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 100_000, (50, 4, 3))


def test_a_faster_link_with_proportionally_more_bytes_has_the_same_features(rows: np.ndarray) -> None:
    rate = np.array([40_000_000, 40_000_000, 40_000_000])
    faster = rows.copy()
    faster[:, :3] *= 25  # bytes; flows stay
    assert np.allclose(run(rate, rows), run(25 * rate, faster), atol=1e-5)


def test_a_shorter_interval_with_proportionally_fewer_bytes_has_the_same_features() -> None:
    rate = np.array([40_000_000])
    long = np.full((10, 4, 1), 10_000)
    short = long.copy()
    short[:, [0, 2]] //= 10  # arrivals and backlog; the busiest millisecond stays
    assert np.allclose(run(rate, long), run(rate, short, INTERVAL_NS // 10), atol=1e-5)


def test_nodes_do_not_influence_each_other(rows: np.ndarray) -> None:
    rate = np.array([10_000_000, 40_000_000, 1_000_000_000])
    together = run(rate, rows)
    for node in range(3):
        alone = run(rate[node : node + 1], rows[:, :, node : node + 1])
        assert np.array_equal(together[:, :, node], alone[:, :, 0])


def test_a_late_sample_counts_by_its_rate() -> None:
    rate = np.array([40_000_000])
    on_time = np.array([[[50_000], [5_000], [0], [0]]])
    late = np.array([[[100_000], [5_000], [0], [0]]])
    assert np.allclose(run(rate, on_time), run(rate, late, took_ns=2 * INTERVAL_NS))


def test_a_link_just_filled_reads_log_two() -> None:
    features = run(np.array([40_000_000]), np.array([[[50_000], [5_000], [50_000], [1]]]))
    values = dict(zip(FEATURE_NAMES, features[0, :, 0], strict=True))
    for name in ("arrived", "peak_1ms", "backlog", "new_flows", "arrived_fast", "arrived_slow"):
        assert values[name] == pytest.approx(np.log(2))


def test_huge_counts_stay_finite() -> None:
    assert np.isfinite(run(np.array([1_000_000]), np.full((3, 4, 1), 2**62))).all()


def clock(period: int, steps: int = 600) -> np.ndarray:
    """Return samples of one node that gets two intervals' worth of bytes every `period` samples."""
    rows = np.zeros((steps, 4, 1), dtype=np.int64)
    rows[::period, 0] = rows[::period, 1] = 100_000
    return rows


@pytest.mark.parametrize("period", [2, 5, 17, 30])
def test_the_period_of_a_clock_is_found_and_what_comes_next_is_known(period: int) -> None:
    features = run(np.array([40_000_000]), clock(period), width=ALL)[-3 * period :, :, 0]
    values = dict(zip(ALL_NAMES, features.T, strict=True))
    assert np.all(values["period"] * 64 == period)
    assert np.all(values["period_misfit"] < 0.2)
    assert np.array_equal(values["next_arrived"][:-1], values["arrived"][1:])
    assert np.array_equal(values["next_arrived_2"][:-2], values["arrived"][2:])
    assert values["next_growth_1"].max() == pytest.approx(np.log(2))  # two intervals come, one is served
    assert values["next_growth_1"].min() == 0


def test_noise_has_no_period_worth_the_name() -> None:
    rows = np.random.default_rng(5).integers(0, 100_000, (600, 4, 1))
    misfit = run(np.array([40_000_000]), rows, width=ALL)[200:, ALL_NAMES.index("period_misfit"), 0]
    assert np.median(misfit) > 0.7


def test_one_node_by_itself_has_the_period_it_has_among_others(rows: np.ndarray) -> None:
    rate = np.array([10_000_000, 40_000_000, 1_000_000_000])
    rows = np.concatenate([rows, np.repeat(clock(5, 100), 3, axis=2), rows])
    together = run(rate, rows, width=ALL)
    for node in range(3):
        alone = run(rate[node : node + 1], rows[:, :, node : node + 1], width=ALL)
        assert np.array_equal(together[:, :, node], alone[:, :, 0])
