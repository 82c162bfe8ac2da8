"""Elasticity: what a run's records say of how the number of nodes followed the load."""

from __future__ import annotations

from typing import Any

import pytest

from testbed.results.elasticity import elasticity
from testbed.units import NS_PER_S

RATE_BPS = 10


def measured(*periods: tuple[int, int]) -> list[dict[str, Any]]:
    """Return the records of periods of 1 s: their load and the nodes that served, after a first one of no length."""
    rows = [(0, 1), *periods]
    return [
        {"kind": "LoadMeasured", "t_ns": k * NS_PER_S, "load_bps": load, "serving": serving, "joining": 0}
        for k, (load, serving) in enumerate(rows)
    ]


def test_too_few_and_too_many_count_by_time_and_by_amount() -> None:
    found = elasticity(measured((40, 2), (40, 4), (11, 4), (0, 1)), RATE_BPS)  # needed: 4, 4, 2, 1
    assert found is not None
    assert (found.under_time_ratio, found.over_time_ratio) == (0.25, 0.25)
    assert found.under_ratio == pytest.approx(2 / 11)
    assert found.over_ratio == pytest.approx(2 / 11)
    assert found.overload_s == 1


def test_jitter_is_above_0_where_nodes_change_under_a_steady_load_and_below_where_they_do_not_follow() -> None:
    steady, deaf = measured((20, 2), (20, 3), (20, 2)), measured((20, 2), (40, 2), (20, 2))
    assert elasticity(steady, RATE_BPS).jitter_per_min == pytest.approx(40)  # type: ignore[union-attr]
    assert elasticity(deaf, RATE_BPS).jitter_per_min == pytest.approx(-40)  # type: ignore[union-attr]


def test_without_two_measurements_there_are_no_figures() -> None:
    assert elasticity(measured(), RATE_BPS) is None
    assert elasticity([{"kind": "NodeLeft", "t_ns": 0}], RATE_BPS) is None
