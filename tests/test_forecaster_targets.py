"""Targets: need, growth and onsets against queues followed packet by packet."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.forecaster.data.targets import bursts, limited_path, needs, onset_within
from testbed.forecaster.runtime.horizons import HORIZON_SAMPLES, LOOK_AHEAD


def plain_need(arrived: list[int], service: float, start: float) -> float:
    """Return the peak of a queue, one bin after another."""
    queue = peak = start
    for bytes_in in arrived:
        queue = max(0.0, queue + bytes_in - service)
        peak = max(peak, queue)
    return peak


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), bins_per_sample=st.sampled_from([1, 3, 10]))
def test_need_is_the_peak_of_the_queue_from_the_sample_on(seed: int, bins_per_sample: int) -> None:
    rng = np.random.default_rng(seed)
    samples, service = LOOK_AHEAD + 4, np.array([1000.0, 700.5])
    arrived = rng.integers(0, 2500, (2, samples * bins_per_sample))
    path = limited_path(arrived, service, np.array([8000, 2**40]))
    backlog = path[:, bins_per_sample - 1 :: bins_per_sample].astype(np.int64)
    found = needs(arrived, service, backlog, bins_per_sample)
    assert found.shape == (2, 4, len(HORIZON_SAMPLES))
    for node in range(2):
        for step in range(4):
            for index, horizon in enumerate(HORIZON_SAMPLES):
                first = (step + 1) * bins_per_sample
                future = arrived[node, first : first + horizon * bins_per_sample].tolist()
                expected = plain_need(future, service[node], float(backlog[node, step]))
                assert abs(found[node, step, index] - expected) <= 1


def test_need_never_shrinks_with_the_horizon_nor_below_the_backlog() -> None:
    rng = np.random.default_rng(2)
    arrived = rng.integers(0, 3000, (3, 400))
    path = limited_path(arrived, np.full(3, 1000.0), np.full(3, 10_000))
    backlog = path[:, 9::10].astype(np.int64)
    found = needs(arrived, np.full(3, 1000.0), backlog, 10)
    assert (np.diff(found, axis=2) >= 0).all()
    assert (found >= backlog[:, :-LOOK_AHEAD, None]).all()


def test_a_limited_queue_stays_within_its_limit() -> None:
    path = limited_path(np.full((1, 50), 3000), np.array([1000.0]), np.array([7000]))
    assert path.max() == 7000


def test_a_burst_starts_once_and_is_seen_from_the_horizon_before() -> None:
    peak = np.zeros((1, 60))
    peak[0, 30:35] = 3000.0
    inside, starts = bursts(peak, np.array([1000.0]))
    assert np.flatnonzero(inside[0]).tolist() == [30, 31, 32, 33, 34]
    assert np.flatnonzero(starts[0]).tolist() == [30]
    ahead = onset_within(starts)
    for index, horizon in enumerate(HORIZON_SAMPLES):
        assert np.flatnonzero(ahead[0, :, index]).tolist() == list(range(30 - horizon, 30))
