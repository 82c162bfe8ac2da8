"""The autoscaler in virtual time: each rule by its formula, and the bounds that all have in common."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from testbed import topologies
from testbed.policies.autoscaler import Autoscaler, make_autoscaler
from testbed.policies.autoscaler_target import HIGH_PERIODS, LOW_PERIODS
from testbed.policies.base import replay
from testbed.records.events import LoadMeasured, ScaleDecided
from testbed.scenario.autoscaler import AutoscalerSpec
from testbed.scenario.tables import AUTOSCALER_POLICIES
from testbed.traffic.plan import make_plan
from testbed.traffic.planned_load import ahead_of
from testbed.units import NS_PER_S
from tests import simulated_run

MBIT = 10**6
PERIOD_NS = NS_PER_S


def scaler(policy: str, ahead: Any = lambda _from, _to: 0, **keys: Any) -> Autoscaler:
    given = {"min": 1, "max": 20, "period": "1s", "utilisation": 0.5, "stabilisation": "0ms", **keys}
    spec = AutoscalerSpec.model_validate({"policy": policy, **given})
    return make_autoscaler(spec, 20 * MBIT, ahead)  # a node is to serve 10 Mbit/s


def decided(policy: Autoscaler, load_mbit: float, at_s: int, serving: int, joining: int = 0) -> ScaleDecided:
    load = LoadMeasured(load_bps=round(load_mbit * MBIT), serving=serving, joining=joining)
    (answer,) = policy.handle(load, at_s * NS_PER_S)
    assert isinstance(answer, ScaleDecided)
    return answer


def followed(policy: Autoscaler, loads_mbit: Iterable[float], serving: int = 3) -> list[int]:
    """Return the sizes over a series of loads, each order being carried out at once."""
    sizes = []
    for at_s, load in enumerate(loads_mbit, 1):
        serving = decided(policy, load, at_s, serving).size
        sizes.append(serving)
    return sizes


@pytest.mark.parametrize("name", AUTOSCALER_POLICIES.names)
def test_every_rule_decides_once_a_period_and_says_why(name: str) -> None:
    policy = scaler(name)
    answer = decided(policy, 30, 1, 3)
    assert answer.current == 3
    assert answer.reason
    assert policy.next_deadline_ns() is None


@pytest.mark.parametrize("name", AUTOSCALER_POLICIES.names)
def test_a_recorded_history_gives_the_same_decisions(name: str) -> None:
    loads = [LoadMeasured(load_bps=(7 * k % 90) * MBIT, serving=3, joining=k % 2) for k in range(40)]
    history = [(k * PERIOD_NS, load) for k, load in enumerate(loads)]
    assert replay(scaler(name), history) == replay(scaler(name), history)


def test_nodes_are_added_at_once_as_many_as_the_load_needs() -> None:
    answer = decided(scaler("predictive"), 61, 1, 3)
    assert (answer.size, answer.required) == (7, math.ceil(61 / 10))


def test_bounds_hold_and_are_named() -> None:
    answer = decided(scaler("predictive", max=5), 90, 1, 3)
    assert (answer.size, answer.required, answer.reason) == (5, 9, "load, at max")
    answer = decided(scaler("predictive", min=3), 1, 1, 3)
    assert (answer.size, answer.required, answer.reason) == (3, 1, "load, at min")
    answer = decided(scaler("predictive", step=2), 90, 1, 3)
    assert (answer.size, answer.reason) == (5, "load, step")


def test_after_a_change_nothing_changes_for_the_cooldown() -> None:
    policy = scaler("predictive", cooldown="2s")
    assert decided(policy, 50, 1, 3).size == 5
    assert decided(policy, 90, 2, 5).reason.endswith("cooldown")
    assert decided(policy, 90, 3, 5).size > 5


def test_nodes_are_removed_only_to_what_was_enough_for_the_whole_window() -> None:
    policy = scaler("predictive", stabilisation="3s", error=1000.0)
    sizes = followed(policy, [80, 10, 10, 10, 10, 10, 10, 10], serving=8)
    assert sizes[:3] == [8, 8, 8]
    assert sizes[-1] == 1


@pytest.mark.parametrize("policy", ["predictive", "hpa"])
def test_what_is_there_at_the_first_decision_stays_for_the_window(policy: str) -> None:
    sizes = followed(scaler(policy, stabilisation="3s"), [10] * 6, serving=8)
    assert sizes == [8, 8, 8, 1, 1, 1]


def test_one_node_too_many_is_tolerated_two_are_not() -> None:
    policy = scaler("predictive")
    assert decided(policy, 20, 1, 3).size == 3
    assert decided(scaler("predictive"), 10, 1, 3).size == 1


def test_the_slack_may_be_none() -> None:
    assert decided(scaler("predictive", slack=0), 20, 1, 3).size == 2


def test_after_a_jump_the_forecast_overshoots_by_no_more_than_half_of_it() -> None:
    policy = scaler("predictive", boot="2s")  # three periods ahead
    expected = [decided(policy, load, at_s, 20).expected_bps for at_s, load in enumerate([20] * 9 + [60] * 9, 1)]
    assert 60 * MBIT <= max(expected) <= (60 + 40 / 2) * MBIT
    assert expected[-1] == pytest.approx(60 * MBIT, rel=0.02)


def test_a_rising_load_is_met_ahead_of_time_by_the_forecast_and_not_by_the_load_alone() -> None:
    rising = [20 + 4 * k for k in range(12)]
    ahead, behind = scaler("predictive", boot="3s"), scaler("hpa", tolerance=0.0)
    sizes, reactive = followed(ahead, rising), followed(behind, rising)
    assert sizes[-1] >= math.ceil((rising[-1] + 3 * 4) / 10)
    assert sizes[-1] > reactive[-1]


def test_while_forecasts_are_bad_the_load_decides() -> None:
    policy = scaler("predictive", boot="2s", error=0.05)
    wild = [20, 90, 10, 95, 5, 90, 10, 95, 5, 90]
    reasons = [decided(policy, load, at_s, 5).reason for at_s, load in enumerate(wild, 1)]
    assert "forecasts are off" in reasons[-1]
    last = decided(policy, 40, 11, 5)
    assert last.expected_bps == 40 * MBIT


@pytest.mark.parametrize(
    ("load_mbit", "serving", "expected"),
    [(30, 3, 3), (32, 3, 3), (34, 3, 4), (60, 3, 6), (15, 3, 2), (27, 3, 3), (26, 3, 3)],
)
def test_hpa_follows_its_documented_formula(load_mbit: float, serving: int, expected: int) -> None:
    """Ceil(current × metric / target), and nothing within a tolerance of a tenth."""
    assert decided(scaler("hpa"), load_mbit, 1, serving).size == expected


def test_hpa_counts_joining_nodes_as_idle_when_it_adds() -> None:
    assert decided(scaler("hpa"), 60, 1, serving=3, joining=3).size == 6
    answer = decided(scaler("hpa"), 50, 1, serving=3, joining=3)
    assert (answer.size, answer.reason) == (6, "joining nodes will do")


def test_hpa_waits_five_minutes_by_default_before_it_removes() -> None:
    assert AutoscalerSpec(policy="hpa").stabilisation_ns == 300 * NS_PER_S
    policy = scaler("hpa", stabilisation="300s")
    sizes = [decided(policy, load, at_s, 6).size for at_s, load in ((1, 60), (299, 10), (301, 10))]
    assert sizes == [6, 6, 1]


def test_target_tracking_waits_for_three_periods_above_and_fifteen_below() -> None:
    policy = scaler("target-tracking")
    up = [decided(policy, 60, at_s, 3).size for at_s in range(1, HIGH_PERIODS + 1)]
    assert up == [3] * (HIGH_PERIODS - 1) + [6]
    policy = scaler("target-tracking")
    down = [decided(policy, 10, at_s, 6).size for at_s in range(1, LOW_PERIODS + 1)]
    assert down == [6] * (LOW_PERIODS - 1) + [1]


def test_the_oracle_asks_the_plan_as_far_as_a_decision_reaches() -> None:
    asked: list[tuple[int, int]] = []

    def ahead(from_ns: int, to_ns: int) -> int:
        asked.append((from_ns, to_ns))
        return 75 * MBIT

    answer = decided(scaler("oracle", ahead, boot="2s", warm_up="1s"), 5, 1, 3)
    assert answer.size == 8
    assert asked == [(NS_PER_S, 5 * NS_PER_S)]


def test_the_planned_load_is_that_of_the_busiest_period_in_the_span() -> None:
    spec = simulated_run.scenario(duration="4s")
    plan = make_plan(spec, topologies.describe(spec.topology), Path())
    ahead = ahead_of(plan, NS_PER_S)
    inside = [(plan.t_ns >= begin) & (plan.t_ns < begin + NS_PER_S) for begin in range(0, 3 * NS_PER_S, NS_PER_S // 10)]
    whole = [plan.size_bytes[chosen].sum() * 8 for chosen in inside]
    assert ahead(0, 4 * NS_PER_S) == pytest.approx(max(whole), rel=0.1)
    last = int(np.max(plan.t_ns))
    assert ahead(last + NS_PER_S, last + 2 * NS_PER_S) == 0
