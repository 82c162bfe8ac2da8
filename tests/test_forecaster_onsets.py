"""Alarms, onsets, equal memory and intervals, on cases small enough to count by hand."""

from __future__ import annotations

import numpy as np
import pytest

from testbed.forecaster.evaluation import onsets
from testbed.forecaster.evaluation.bootstrap import block_means, mean_interval, ratio_interval
from testbed.forecaster.evaluation.pareto import Point, at_equal_memory, loss_at, loss_within


def test_the_best_threshold_separates_what_can_be_separated() -> None:
    positive = np.array([False, False, True, True])
    assert 2 < onsets.best_threshold(positive, np.array([1.0, 2, 3, 4])) <= 3
    assert onsets.best_threshold(np.zeros(4, dtype=bool), np.arange(4.0)) is None


def test_leads_false_alarms_and_onsets_are_counted() -> None:
    score, calm = np.zeros(120), np.ones(120, dtype=bool)
    starts = np.zeros(140, dtype=bool)
    starts[[40, 100]] = True
    calm[40:50] = calm[100:110] = False
    score[33:40] = 1  # seven samples ahead of the first onset
    score[60:63] = 1  # nothing follows within twenty
    total = onsets.AlarmCount()
    onsets.count_alarms(score, calm, starts, 1.0, 10, total)
    assert (total.onsets, total.warned, total.alarms, total.true_alarms) == (2, 1, 2, 1)
    assert total.leads == [7]
    assert (total.useful(6), total.useful(8)) == (1, 0)
    assert total.calm_samples == 90


def test_a_copy_of_the_past_shows_its_lag() -> None:
    truth = np.cumsum(np.random.default_rng(1).normal(size=400))
    assert onsets.lag_of(truth, truth, 20) == 0
    assert onsets.lag_of(np.roll(truth, 5), truth, 20) == 5
    assert onsets.lag_of(np.ones(400), truth, 20) is None
    assert onsets.lag_of(truth[:30], truth[:30], 20) is None


def test_loss_is_read_off_the_frontier_at_equal_memory() -> None:
    points = [Point("a", 0.4, 10, 1), Point("b", 0.5, 20, 1), Point("c", 0.2, 30, 1)]
    assert loss_at(points, 20) == pytest.approx(0.3)  # b is beaten by a and does not count
    assert loss_at(points, 5) is None
    assert loss_at(points, 99) == 0.2
    curves = {"static": points, "lstm": [Point("margin 1", 0.15, 20, 1)], "oracle": [Point("margin 1", 0.0, 1, 1)]}
    row = at_equal_memory(curves, "margin 1")
    assert (row["best_rival"], row["lstm_over_best_rival"]) == ("static", pytest.approx(0.5))
    curves["static"] = [Point("a", 0.0, 10, 1)]
    assert at_equal_memory(curves, "margin 1")["lstm_over_best_rival"] is None


def test_intervals_hold_the_figure_and_are_absent_of_too_few() -> None:
    values = np.random.default_rng(1).normal(3.0, 1.0, 50)
    low, high = mean_interval(values)
    assert low < values.mean() < high < low + 1
    assert mean_interval(np.array([1.0, np.nan])) is None
    assert ratio_interval(np.ones(5), np.zeros(5)) is None
    assert block_means(np.arange(6.0), 3).tolist() == [0.5, 2.5, 4.5]


def test_at_equal_memory_and_delay_a_policy_has_the_settings_that_take_no_more_of_either() -> None:
    points = [Point("a", 0.3, 10, 50), Point("b", 0.1, 10, 90), Point("c", 0.05, 30, 50), Point("d", 0.4, 5, 20)]
    assert loss_within(points, Point("own", 0.2, 10, 50)) == 0.3
    assert loss_within(points, Point("own", 0.2, 10, 95)) == 0.1
    assert loss_within(points, Point("own", 0.2, 40, 50)) == 0.05
    assert loss_within(points, Point("own", 0.2, 4, 50)) is None
