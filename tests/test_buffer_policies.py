"""The sizing rules one by one: a sample in, a wish out; and what they share: shrink hold and actuation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.policies.actuation import Actuation
from testbed.policies.buffer import GRAINS, Range, ShrinkHold, SizingRule
from testbed.policies.buffer_rules import make_rule
from testbed.policies.buffer_static import static_size_bytes
from testbed.records.events import TrafficSampled
from testbed.scenario.buffer import BufferSpec
from testbed.scenario.model import Scenario
from testbed.scenario.tables import BUFFER_POLICIES
from tests.traffic_samples import of_columns

KB, MB, MS = 1000, 10**6, 1_000_000
POLICIES = [name for name in BUFFER_POLICIES.names if not BUFFER_POLICIES[name].needs_model]
ALL = slice(None)
RATES = np.array([40_000_000], dtype=np.int64)


def spec(policy: str = "reactive", **keys: object) -> BufferSpec:
    return BufferSpec.model_validate({"policy": policy, **keys})


def ints(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def sample(backlog: int, dropped: int = 0) -> TrafficSampled:
    zero = ints(0)
    numbers = [ints(n) for n in (100_000, 100, dropped, dropped // 1000, backlog)]
    return of_columns(("n1",), 10 * MS, *numbers, ints(500 * KB), zero, zero, zero)


def wish(rule: SizingRule, backlog: int = 0, dropped: int = 0, predicted: int = 0, severity: float = 0.0) -> int:
    (size,) = rule.wish_bytes(sample(backlog, dropped), ints(predicted), np.array([severity]))
    return int(size)


# ------------------------------------------------------------------------------------------------------ static


@pytest.mark.parametrize(
    ("policy", "size"), [("static-min", 500 * KB), ("static-mean", 5250 * KB), ("static-max", 10 * MB)]
)
def test_a_static_size_is_what_its_name_says(policy: str, size: int):
    rule = make_rule(spec(policy), RATES, 1)
    assert rule.initial_bytes().tolist() == [size]
    assert wish(rule, backlog=400 * KB, dropped=5000, predicted=10 * MB, severity=1.0) == size


def test_static_mean_takes_the_mean_it_is_given():
    assert static_size_bytes(spec("static-mean", mean="1.7MB"), 3) == 1700 * KB


@pytest.mark.parametrize(
    ("policy", "size"), [("static-max", 4 * MB), ("static-mean", 4 * MB), ("static-min", 500 * KB)]
)
def test_a_small_pool_is_shared_fairly_by_static_sizes(policy: str, size: int):
    assert make_rule(spec(policy, pool="12MB"), RATES, 3).initial_bytes().tolist() == [size]


# ---------------------------------------------------------------------------------------------------- reactive


def test_reactive_doubles_above_the_high_watermark():
    rule = make_rule(spec(), RATES, 1)
    assert wish(rule, backlog=250 * KB) == 500 * KB
    assert wish(rule, backlog=251 * KB) == 1000 * KB


def test_reactive_doubles_on_a_drop():
    assert wish(make_rule(spec(), RATES, 1), dropped=1000) == 1000 * KB


def test_reactive_catches_up_with_a_backlog_beyond_its_size():
    assert wish(make_rule(spec(), RATES, 1), backlog=2 * MB) == 4 * MB


def test_reactive_halves_below_the_low_watermark_and_keeps_its_size_between():
    rule = make_rule(spec(), RATES, 1)
    wish(rule, backlog=2 * MB)
    assert wish(rule, backlog=500 * KB) == 4 * MB
    assert wish(rule, backlog=499 * KB) == 2 * MB
    assert wish(rule, backlog=499 * KB) == 2 * MB
    assert wish(rule) == 1 * MB


def test_reactive_stays_between_floor_and_cap():
    rule = make_rule(spec(), RATES, 1)
    assert [wish(rule, backlog=9 * MB) for _ in range(3)] == [10 * MB] * 3
    assert [wish(rule) for _ in range(8)][-2:] == [500 * KB] * 2


@given(st.integers(0, 10 * MB), st.integers(0, 10 * MB))
def test_a_doubling_is_not_undone_by_the_next_sample(first: int, second_part: int):
    rule = make_rule(spec(), RATES, 1)
    before = wish(rule)
    grown = wish(rule, backlog=first)
    if grown > before:
        assert wish(rule, backlog=first) >= grown or grown == 10 * MB


# ------------------------------------------------------------------------------------------- dynamic threshold


def test_dynamic_threshold_wishes_a_floor_more_than_it_holds():
    rule = make_rule(spec("dynamic-threshold", min="1MB", max="7.4MB"), RATES, 1)  # steps of 100 kB
    assert rule.initial_bytes().tolist() == [1 * MB]
    assert wish(rule) == 1 * MB
    assert wish(rule, backlog=1) == 1100 * KB
    assert wish(rule, backlog=2 * MB) == 3 * MB
    assert wish(rule, backlog=7 * MB) == 7400 * KB


def test_only_thresholds_on_the_free_pool_ask_the_pool_with_every_sample():
    assert [p for p in POLICIES if make_rule(spec(p), RATES, 1).asks_always] == ["dynamic-threshold", "abm"]


# -------------------------------------------------------------------------------------------------- predictive


def predictive(policy: str = "lstm", **keys: object) -> SizingRule:
    settings = {"min": "1MB", "max": "7.4MB", "margin": 1.0, "precursor_gain": 0.0, **keys}
    return make_rule(spec(policy, **settings), RATES, 1)


def test_a_predicted_need_is_met_in_steps():
    assert wish(predictive(), predicted=900 * KB) == 1 * MB
    assert wish(predictive(), predicted=2_000_001) == 2100 * KB
    assert wish(predictive(), predicted=2**40) == 7400 * KB


def test_the_margin_multiplies_the_need():
    assert wish(predictive(margin=1.5), predicted=2 * MB) == 3 * MB


def test_severity_scales_the_expansion_and_not_the_floor():
    rule = predictive(precursor_gain=0.5)
    assert wish(rule, predicted=3 * MB, severity=0.0) == 3 * MB
    assert wish(rule, predicted=3 * MB, severity=0.4) == 3400 * KB
    assert wish(rule, predicted=3 * MB, severity=1.0) == 4 * MB
    assert wish(rule, predicted=500 * KB, severity=1.0) == 1 * MB


def test_severity_does_not_scale_what_the_oracle_knows():
    assert wish(predictive("oracle", precursor_gain=0.5), predicted=3 * MB, severity=1.0) == 3 * MB


@given(st.lists(st.tuples(st.integers(0, 10 * MB), st.booleans(), st.integers(0, 2**50), st.floats(0, 1)), max_size=40))
def test_a_prediction_costs_memory_and_never_goes_below_the_reactive_floor(history):
    floor, rule = make_rule(spec(), RATES, 1), make_rule(spec("lstm"), RATES, 1)
    for backlog, dropped, predicted, severity in history:
        reactive = wish(floor, backlog, 1000 * dropped)
        assert reactive <= wish(rule, backlog, 1000 * dropped, predicted, severity) <= 10 * MB


# ---------------------------------------------------------------------------------------------- what all share


@given(st.floats(-1e12, 1e15), st.integers(1, 10**7), st.integers(0, 10**7))
def test_steps_lie_between_floor_and_cap_and_hold_what_is_needed(above: float, low: int, span: int):
    sizes = Range(spec(min=f"{low}B", max=f"{low + span}B"))
    (size,) = sizes.stepped(np.array([above]))
    assert low <= size <= low + span
    assert size >= min(low + above, low + span) - 1e-3
    if size not in (low, low + span):
        assert size - low - above <= max(1, span // GRAINS) + 1e-3


def test_a_size_grows_at_once_and_shrinks_after_the_hold():
    hold = ShrinkHold(ints(10), 100 * MS)
    sizes = [int(hold.held(ints(w), t * 10 * MS)[0]) for t, w in enumerate([10, 40, 30, 20, *[10] * 22])]
    assert sizes == [10, *[40] * 10, *[30] * 10, *[10] * 5]


def test_a_wish_that_comes_back_within_the_hold_starts_it_anew():
    hold = ShrinkHold(ints(40), 50 * MS)
    wishes = [40, 10, 10, 40] * 10
    assert {int(hold.held(ints(w), t * 10 * MS)[0]) for t, w in enumerate(wishes)} == {40}


def test_without_a_hold_a_size_follows_its_wish():
    hold = ShrinkHold(ints(40), 0)
    assert [int(hold.held(ints(w), t)[0]) for t, w in enumerate([10, 30, 20])] == [10, 30, 20]


@given(st.lists(st.integers(1, 100), min_size=1, max_size=80))
def test_a_held_size_covers_the_wishes_of_the_hold_and_of_no_more_than_two(wishes):
    hold = ShrinkHold(ints(1), 5)
    for now, wanted in enumerate(wishes):
        size = int(hold.held(ints(wanted), now)[0])
        assert size >= max(wishes[max(0, now - 4) : now + 1])
        assert size <= max([1, *wishes[max(0, now - 10) : now + 1]])


def test_nodes_hold_independently():
    hold = ShrinkHold(ints(40, 40), 20)
    assert [hold.held(ints(40, 10), t).tolist() for t in (0, 10, 20)] == [[40, 40], [40, 40], [40, 10]]


# --------------------------------------------------------------------------------------------------- actuation


def test_without_a_delay_a_grant_is_in_force_at_once():
    actuation = Actuation(ints(10, 10), 0)
    assert actuation.grant(ints(1), ints(30), 5).tolist() == [False, True]
    assert actuation.limit_bytes.tolist() == [10, 30]
    assert actuation.next_ready_ns is None


def test_an_expansion_waits_and_a_shrink_does_not():
    actuation = Actuation(ints(10, 40), 50)
    assert actuation.grant(ALL, ints(30, 20), 100).tolist() == [False, True]
    assert actuation.limit_bytes.tolist() == [10, 20]
    assert actuation.next_ready_ns == 150
    assert not actuation.release(149).any()
    assert actuation.release(150).tolist() == [True, False]
    assert actuation.limit_bytes.tolist() == [30, 20]


def test_each_expansion_waits_its_own_delay():
    actuation = Actuation(ints(10), 50)
    for now, granted in ((0, 20), (10, 30), (20, 40)):
        actuation.grant(ALL, ints(granted), now)
    limits = [(actuation.release(now), int(actuation.limit_bytes[0]))[1] for now in (49, 50, 59, 60, 70)]
    assert limits == [10, 20, 20, 30, 40]
    assert actuation.next_ready_ns is None


def test_a_repeated_grant_does_not_start_another_wait():
    actuation = Actuation(ints(10), 50)
    actuation.grant(ALL, ints(20), 0)
    actuation.grant(ALL, ints(20), 30)
    actuation.release(50)
    assert actuation.next_ready_ns is None


def test_an_expansion_taken_back_while_it_waits_has_to_wait_again():
    actuation = Actuation(ints(10), 50)
    actuation.grant(ALL, ints(90), 0)
    assert not actuation.give_up(ints(20)).any()
    actuation.grant(ALL, ints(90), 10)
    limits = [(actuation.release(now), int(actuation.limit_bytes[0]))[1] for now in (50, 59, 60)]
    assert limits == [20, 20, 90]


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 100), st.integers(0, 30)), max_size=50), st.integers(0, 100))
def test_the_limit_never_exceeds_the_grant(moves, delay):
    actuation, now = Actuation(ints(10), delay), 0
    for grows, size, passed in moves:
        now += passed
        actuation.release(now)
        if grows:
            actuation.grant(ALL, ints(size), now)
        else:
            actuation.give_up(ints(size))
        assert actuation.limit_bytes[0] <= actuation.granted_bytes[0]
    actuation.release(now + delay)
    assert actuation.limit_bytes[0] == actuation.granted_bytes[0]


# ---------------------------------------------------------------------------------------------------- scenario


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"mean": "20MB"}, "mean (20MB) is not between min (500kB) and max (10MB)"),
        ({"pool": "100kB"}, "pool (100kB) does not hold one node's min (500kB)"),
        ({"actuation_delay": "101ms"}, "less than or equal to 100000000"),
        ({"margin": 0.9}, "greater than or equal to 1"),
        ({"alpha": 0}, "greater than 0"),
        ({"horizon": "0ms"}, "greater than 0"),
    ],
)
def test_an_impossible_buffer_is_refused(keys: dict[str, object], message: str):
    with pytest.raises(ValueError, match="validation error") as error:
        spec(**keys)
    assert message in str(error.value)


def test_a_pool_that_does_not_hold_every_floor_is_refused():
    scenario = {
        "version": 1,
        "name": "x",
        "duration": "1s",
        "topology": {"family": "cluster", "nodes": 4},
        "traffic": [{"name": "a", "from": "c1", "shape": "poisson", "rate": "1Mbit"}],
    }
    Scenario.model_validate({**scenario, "buffer": {"pool": "2MB"}})
    with pytest.raises(ValueError, match=r"buffer.pool \(1\.9MB\) is less than topology.nodes × buffer.min \(2MB\)"):
        Scenario.model_validate({**scenario, "buffer": {"pool": "1.9MB"}})
