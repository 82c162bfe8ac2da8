"""Paired differences: against tables and known results, and the Pareto front of a sweep."""

from __future__ import annotations

import math

import pytest

from testbed.report.pareto import front
from testbed.results.differences import Difference, difference, holm, seeds_needed

# "Student", 1908, section 9: additional hours of sleep, two drugs, the same ten patients.
SLEEP = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]


def test_students_own_example() -> None:
    found = difference(SLEEP)
    assert found is not None
    assert found.mean == pytest.approx(1.58)
    assert found.p == pytest.approx(0.002833, abs=1e-6)
    assert found.half_width == pytest.approx(0.8798, abs=1e-4)
    assert found.effect == pytest.approx(1.58 / 1.22995, abs=1e-4)
    assert found.is_significant


def test_pairs_without_scatter_or_a_single_one() -> None:
    assert difference([]) is None
    assert difference([3.0]) == Difference(3.0, None, 1)
    assert difference([2.0, 2.0]) == Difference(2.0, 0.0, 2, p=0.0, seeds_needed=2)
    equal = difference([0.0, 0.0, 0.0])
    assert equal == Difference(0.0, 0.0, 3, p=1.0)
    assert not equal.is_significant


def test_holm_multiplies_the_least_by_all_and_never_descends() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_a_difference_is_judged_by_its_corrected_p() -> None:
    alone = Difference(1.0, 0.9, 5, p=0.03)
    assert alone.is_significant
    assert not Difference(1.0, 0.9, 5, p=0.03, p_holm=0.06).is_significant
    assert not Difference(1.0, None, 1).is_significant


@pytest.mark.parametrize(("effect", "pairs"), [(0.5, 34), (0.8, 15), (0.2, 199), (-0.5, 34)])
def test_seeds_needed_are_those_of_the_tables_of_power(effect: float, pairs: int) -> None:
    needed = seeds_needed(effect)
    assert needed is not None
    assert abs(needed - pairs) <= 1, "Cohen's tables, by the noncentral distribution"


def test_no_number_of_seeds_shows_what_is_not_there() -> None:
    assert seeds_needed(0.0) is None
    assert seeds_needed(1e-6) is None
    assert seeds_needed(math.inf) == 2


def test_the_front_has_what_no_other_beats() -> None:
    points = [(3.0, 1.0), (1.0, 3.0), (2.0, 2.0), (2.5, 2.0), (3.0, 2.5), (4.0, 1.0)]
    assert front(points) == [(1.0, 3.0), (2.0, 2.0), (3.0, 1.0)]
    assert front([(1.0, 1.0), (1.0, 1.0)]) == [(1.0, 1.0)]
    assert front([]) == []
