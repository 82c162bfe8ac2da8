"""The failure model: known values, and what few failovers leave possible."""

from __future__ import annotations

import pytest

from testbed.results.availability import (
    Failovers,
    FailureModel,
    bound_down_ratio,
    cluster_down_ratio,
    measured_down_ratio,
    nines,
    seconds_a_year,
)
from testbed.results.confidence import at_most_ratio
from testbed.units import NS_PER_MS, NS_PER_S

HALF = FailureModel(mttf_ns=NS_PER_S, mttr_ns=NS_PER_S)
AT_ONCE = Failovers(count=100, failed=0, recover_ns=0.0)


@pytest.mark.parametrize(("needed", "down"), [(1, 1 / 8), (2, 4 / 8), (3, 7 / 8)])
def test_a_cluster_is_down_while_fewer_nodes_are_up_than_the_load_needs(needed: int, down: float) -> None:
    assert measured_down_ratio(HALF, 3, needed, AT_ONCE) == pytest.approx(down)


def test_one_node_that_nothing_stands_in_for_is_down_while_it_is_repaired() -> None:
    model = FailureModel()
    assert measured_down_ratio(model, 1, 1, AT_ONCE) == pytest.approx(model.down_ratio)
    assert seconds_a_year(model.down_ratio) / 60 == pytest.approx(41.8, abs=0.1)


def test_a_failover_costs_its_own_time_and_one_that_fails_the_whole_repair() -> None:
    model = FailureModel(mttf_ns=999_000 * NS_PER_S, mttr_ns=1000 * NS_PER_S)
    fast = Failovers(count=100, failed=0, recover_ns=60.0 * NS_PER_MS)
    too_few = 3 * 0.001**2 - 2 * 0.001**3
    assert measured_down_ratio(model, 3, 2, fast) == pytest.approx(too_few + 0.06 / 1e6)
    lame = Failovers(count=100, failed=10, recover_ns=0.0)
    assert measured_down_ratio(model, 3, 2, lame) == pytest.approx(too_few + 0.1 * 0.001)


def test_failovers_that_all_worked_leave_a_bound_that_shrinks_with_their_number() -> None:
    model = FailureModel()
    few, many = (bound_down_ratio(model, 3, 2, Failovers(count, 0, 0.0)) for count in (10, 1000))
    assert measured_down_ratio(model, 3, 2, AT_ONCE) < many < few < model.down_ratio


@pytest.mark.parametrize(
    ("happened", "trials", "ratio"), [(0, 100, 0.02951), (1, 20, 0.21611), (5, 5, 1.0), (0, 1, 0.95)]
)
def test_a_share_is_bounded_as_the_tables_have_it(happened: int, trials: int, ratio: float) -> None:
    assert at_most_ratio(happened, trials) == pytest.approx(ratio, abs=1e-4)


def test_none_of_n_is_at_most_three_of_n() -> None:
    assert all(at_most_ratio(0, n) <= 3 / n for n in (3, 30, 300, 29_956))
    assert nines(at_most_ratio(0, 29_956)) >= 4, "what it takes to show 99.99 % without a model"


def test_what_cannot_be_is_refused() -> None:
    for wrong in ((1, 0), (-1, 5), (6, 5)):
        with pytest.raises(ValueError, match="no share"):
            at_most_ratio(*wrong)
    with pytest.raises(ValueError, match="between 1 and 3"):
        cluster_down_ratio(FailureModel(), 3, 4, AT_ONCE, 0.0)
