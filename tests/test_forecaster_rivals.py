"""Rivals of the LSTM: tuned where they may look, ranked over series, tested with a correction for many tests."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from testbed.forecaster.evaluation import fitted_rivals
from testbed.forecaster.evaluation.ranking import holm, ranking
from testbed.forecaster.evaluation.regressions import Stretch, Walked, fit_autoregression, fit_linear, fit_trees
from testbed.forecaster.runtime.features import FEATURES
from testbed.forecaster.runtime.horizons import HORIZON_SAMPLES
from testbed.policies import fluid


def walked(arrived: np.ndarray[Any, Any]) -> Walked:
    """Return series of these arrivals, with the queue they make and its growth."""
    path = fluid.backlog_path(arrived, np.ones(len(arrived)), np.zeros(len(arrived)))
    growth = np.stack([fluid.peaks_ahead(path, horizon) - path for horizon in HORIZON_SAMPLES], axis=2)
    inputs = np.zeros((*arrived.shape, FEATURES), np.float32)
    return SimpleNamespace(arrived=arrived, backlog=path, inputs=inputs, growth=growth)


@pytest.fixture
def clock() -> Walked:
    """Return two series with a burst of 4 every 7 samples."""
    arrived = np.zeros((2, 700))
    arrived[0, ::7] = arrived[1, 3::7] = 4.0
    return walked(arrived)


@pytest.mark.parametrize("fit", [fit_linear, fit_trees])
def test_a_regression_learns_what_comes_by_the_clock(clock: Walked, fit: Any) -> None:
    growth = fit([Stretch(clock, slice(40, 500))], 0.95).growth(clock)
    judged = slice(500, 690)
    assert np.abs(growth[:, judged, 0] - clock.growth[:, judged, 0]).mean() < 0.1


def test_an_autoregression_needs_the_order_that_reaches_back_to_the_last_burst(clock: Walked) -> None:
    short, long = (
        fit_autoregression([Stretch(clock, slice(40, 500))], 0.95, order=order).growth(clock)[:, 500:690, 0]
        for order in (2, 10)
    )
    truth = clock.growth[:, 500:690, 0]
    assert np.abs(long - truth).mean() < 0.2 < np.abs(short - truth).mean()


def test_the_setting_is_chosen_where_it_was_not_fitted(clock: Walked, monkeypatch: pytest.MonkeyPatch) -> None:
    """An order that overfits would win on its own stretch; the one that is right wins on the next."""
    monkeypatch.setitem(fitted_rivals.SETTINGS, "AR", ({"order": 2}, {"order": 10}))
    fitting, judging = [Stretch(clock, slice(40, 300))], [Stretch(clock, slice(300, 400))]
    assert fitted_rivals.chosen("AR", fitting, judging, 0.95) == {"order": 10}
    few = [Stretch(clock, slice(40, 50))]
    assert fitted_rivals.chosen("AR", few, judging, 0.95) == {"order": 2}


def test_every_rival_has_the_same_budget() -> None:
    assert {len(settings) for settings in fitted_rivals.SETTINGS.values()} == {fitted_rivals.BUDGET}
    assert set(fitted_rivals.SETTINGS) == {"EWMA", "Holt", "AR", "linear", "trees"}


def test_what_is_judged_is_neither_fitted_nor_chosen_by() -> None:
    span = slice(20, 300)
    fitting, judging = fitted_rivals._divided(span)
    assert span.start == fitting.start < fitting.stop <= judging.start - HORIZON_SAMPLES[-1]
    assert judging.stop == span.stop


def test_holm_multiplies_by_what_is_left_and_never_falls() -> None:
    """The example of Holm's paper in small: 0.01, 0.02, 0.03 and 0.04 of four tests."""
    assert holm([0.03, 0.01, None, 0.04, 0.02]) == [0.06, 0.04, None, 0.06, 0.06]
    assert holm([0.5, 0.9]) == [1.0, 1.0]


def test_ranks_share_ties_and_the_test_tells_a_small_constant_gain() -> None:
    rng = np.random.default_rng(1)
    own = np.exp(rng.normal(0, 2, 20))
    rows = ranking({"own": own, "a little worse": 1.05 * own, "same": own, "better": 0.9 * own}, "own")
    found = {row["name"]: row for row in rows}
    assert [row["mean_rank"] for row in rows] == [1.0, 2.5, 2.5, 4.0]
    assert found["a little worse"]["own_is"] == "better"
    assert found["better"]["own_is"] == "worse"
    assert found["same"]["own_is"] == "too few series"
    assert found["own"]["own_is"] is None


def test_noise_is_not_called_a_difference_and_five_series_tell_nothing() -> None:
    rng = np.random.default_rng(2)
    own, rival = np.exp(rng.normal(0, 1, (2, 20)))
    assert ranking({"own": own, "rival": rival}, "own")[1]["own_is"] == "not significant"
    few = ranking({"own": own[:5], "rival": 2 * own[:5]}, "own")
    assert {row["own_is"] for row in few} == {None, "too few series"}
