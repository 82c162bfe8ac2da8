"""Metrics against figures worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from testbed.forecaster.data.dataset import Samples
from testbed.forecaster.evaluation import metrics
from testbed.forecaster.evaluation.rivals import RIVALS, rival_needs
from testbed.forecaster.runtime.horizons import HORIZON_SAMPLES


def test_a_byte_short_costs_nineteen_times_a_byte_too_many() -> None:
    truth, guess = np.array([[10.0], [10.0]], np.float32), np.array([[9.0], [11.0]], np.float32)
    assert metrics.pinball_losses(truth, guess, 0.95) == pytest.approx([0.95, 0.05])


def test_skill_is_the_share_of_the_rivals_loss_that_is_saved() -> None:
    assert metrics.skill(np.array([1.0, 2.0]), np.array([4.0, 2.0])) == pytest.approx(0.5)


def test_auc_of_a_perfect_a_reversed_and_a_blind_score() -> None:
    onset = np.array([[False, False, True, True]] * 3)
    score = np.array([[1, 2, 3, 4], [4, 3, 2, 1], [5, 5, 5, 5]], np.float32)
    assert metrics.series_auc(onset, score, np.ones_like(onset)).tolist() == [1.0, 0.0, 0.5]


def test_auc_counts_only_the_instants_asked_for_and_needs_both_classes() -> None:
    onset, score = np.array([[True, False, True]]), np.array([[0, 1, 2]], np.float32)
    assert metrics.series_auc(onset, score, np.array([[False, True, True]])).tolist() == [1.0]
    assert np.isnan(metrics.series_auc(onset, score, np.array([[True, False, True]]))).all()


def test_rivals_predict_no_less_than_the_backlog_and_grow_with_the_horizon() -> None:
    rng = np.random.default_rng(1)
    counts = rng.integers(0, 200_000, (4, 40))
    samples = Samples(np.full(4, 40_000_000), 10_000_000, counts, counts // 5, counts, counts % 7)
    for name in RIVALS:
        need = rival_needs(name, samples)
        assert need.shape == (4, 40, len(HORIZON_SAMPLES))
        assert (need >= counts[:, :, None]).all()
        assert (np.diff(need, axis=2) >= 0).all()


def test_last_peak_looks_back_as_far_as_the_horizon_looks_ahead() -> None:
    backlog = np.zeros((1, 30), dtype=np.int64)
    backlog[0, 5] = 9
    samples = Samples(np.full(1, 10**6), 10**7, backlog, backlog, backlog, backlog)
    need = rival_needs("last peak", samples)
    for index, horizon in enumerate(HORIZON_SAMPLES):
        assert np.flatnonzero(need[0, :, index]).tolist() == list(range(5, min(5 + horizon, 29) + 1))


def test_average_precision_of_perfect_reversed_and_tied_scores() -> None:
    positive = np.array([True, True, False, False])
    assert metrics.average_precision(positive, np.array([4.0, 3, 2, 1])) == 1.0
    assert metrics.average_precision(positive, np.array([1.0, 2, 3, 4])) == pytest.approx((1 / 3 + 2 / 4) / 2)
    assert metrics.average_precision(positive, np.ones(4)) == 0.5  # an alarm at random: the prevalence
    assert metrics.average_precision(np.zeros(4, dtype=bool), np.ones(4)) is None
