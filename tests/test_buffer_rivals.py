"""Rules of the literature by small cases computed by hand, and the cap that a delay target sets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from testbed.policies.arithmetic import Numbers
from testbed.policies.brain import NodeBrain
from testbed.policies.buffer_credence import guaranteed_bytes
from testbed.policies.buffer_pie import PieRule
from testbed.policies.buffer_rules import make_rule
from testbed.policies.fluid import serve_bin
from testbed.records.events import Ints, RequestLimit, SetBufferLimit, TrafficSampled
from testbed.records.samples import by_node, table_of
from testbed.scenario.buffer import BufferSpec
from testbed.scenario.model import Scenario
from tests import simulated_run
from tests.traffic_samples import of_columns

KB, MB, MS = 1000, 10**6, 1_000_000
RATE_BPS = 40_000_000  # 5,000 bytes a ms


def ints(*values: int) -> Ints:
    return np.array(values, dtype=np.int64)


def sample(*backlog: int, arrived: int = 0, ms: int = 10) -> TrafficSampled:
    zero = ints(*[0] * len(backlog))
    numbers = [zero + arrived, zero, zero, zero, ints(*backlog), zero + MB, zero, zero, zero]
    return of_columns(tuple(f"n{k + 1}" for k in range(len(backlog))), ms * MS, *numbers)


def spec(policy: str, **keys: Any) -> BufferSpec:
    return BufferSpec.model_validate({"policy": policy, "min": "0.01MB", "max": "1MB", **keys})


def wishes(rule: Any, *samples: TrafficSampled) -> list[int]:
    none = np.zeros(1)
    return [int(rule.wish_bytes(seen, seen.backlog_bytes, none)[0]) for seen in samples]


# --------------------------------------------------------------------------------------------------------- bdp


def test_bdp_is_what_a_node_serves_in_a_round_trip() -> None:
    rates = ints(RATE_BPS, RATE_BPS // 2)
    assert make_rule(spec("bdp"), rates, 2).initial_bytes().tolist() == [500 * KB, 250 * KB]
    of_four = spec("bdp", options={"flows": 4, "rtt": "50ms"})
    assert make_rule(of_four, rates, 2).initial_bytes().tolist() == [125 * KB, 62_500]


def test_bdp_keeps_to_floor_cap_and_its_share_of_the_pool() -> None:
    rate = ints(RATE_BPS)
    assert make_rule(spec("bdp", max="0.4MB"), rate, 1).initial_bytes().tolist() == [400 * KB]
    assert make_rule(spec("bdp", min="0.6MB"), rate, 1).initial_bytes().tolist() == [600 * KB]
    assert make_rule(spec("bdp", pool="0.9MB"), rate, 3).initial_bytes().tolist() == [300 * KB]


# ------------------------------------------------------------------------------------------------------- codel


def test_codel_excuses_an_interval_and_steps_down_by_the_root_of_the_count() -> None:
    rule = make_rule(spec("codel"), ints(RATE_BPS), 1)  # target 5 ms: 25,000 bytes
    stays = [sample(125 * KB)] * 29
    found = wishes(rule, *stays)
    assert found[:9] == [MB] * 9, "less than 100 ms above the target"
    assert found[9:19] == [125 * KB] * 10, "the first step: no longer than it was"
    assert found[19:27] == [25 * KB + 70_710] * 8, "100 ms later: T + 100,000 / √2"
    assert found[27:] == [25 * KB + 57_735] * 2, "70.7 ms later: T + 100,000 / √3"


def test_codel_ends_with_one_sample_at_the_target_and_goes_on_where_it_ended() -> None:
    rule = make_rule(spec("codel"), ints(RATE_BPS), 1)
    assert wishes(rule, *[sample(125 * KB)] * 40, sample(25 * KB))[-1] == MB
    resumed = wishes(rule, *[sample(125 * KB)] * 10)[-1]
    assert resumed == 25 * KB + 50_000, "it added four to the first, in 300 ms: it resumes at T + 100,000 / √4"
    wishes(rule, *[sample(0)] * 160)
    assert wishes(rule, *[sample(125 * KB)] * 10)[-1] == 125 * KB, "after 16 intervals it begins anew"


# --------------------------------------------------------------------------------------------------------- pie


def test_pie_moves_its_share_by_the_delay_and_its_change() -> None:
    rule = make_rule(spec("pie", options={"burst": "0ms"}), ints(RATE_BPS), 1)
    assert isinstance(rule, PieRule)
    late = sample(575 * KB, arrived=150 * KB, ms=15)  # 115 ms, 100 above the target
    (limit,) = wishes(rule, late)
    first = (0.125 * 0.1 + 1.25 * 0.115) / 2048
    assert rule.ratio[0] == pytest.approx(first)
    assert limit == int(575 * KB + (1 - first) * 150 * KB - 75 * KB)
    wishes(rule, late)
    assert rule.ratio[0] == pytest.approx(first + 0.125 * 0.1 / 128)


def test_pie_drops_nothing_in_a_burst_nor_in_a_short_queue() -> None:
    rule = make_rule(spec("pie"), ints(RATE_BPS), 1)
    late = sample(575 * KB, arrived=150 * KB, ms=15)
    assert wishes(rule, *[late] * 9) == [MB] * 9, "150 ms are ten steps"
    assert wishes(rule, late)[0] < MB
    assert wishes(rule, *[sample(0, ms=15)] * 2)[-1] == MB


@pytest.mark.parametrize("ratio", [0.05, 0.5, 0.8, 1.0])
def test_the_limit_of_pie_admits_its_share(ratio: float) -> None:
    rule = make_rule(spec("pie", options={"burst": "0ms", "update": "1s"}), ints(RATE_BPS), 1)
    assert isinstance(rule, PieRule)
    rule.ratio, rule._before_ns = np.array([ratio]), np.array([115e6])
    (limit,) = wishes(rule, sample(575 * KB, arrived=150 * KB, ms=15))
    queue, admitted = 575_000.0, 0
    for _ in range(1500):  # packets of 100 bytes, 50 of them served between two
        queue = max(0.0, queue - 50)
        if queue + 100 <= limit:
            queue, admitted = queue + 100, admitted + 100
    assert admitted == pytest.approx((1 - ratio) * 150 * KB, abs=200)


# ---------------------------------------------------------------------------------------------------- credence


def test_credence_has_its_guarantee_whatever_is_forecast_and_forecasts_beyond_it() -> None:
    shared = spec("credence", max="8MB", pool="12MB", options={"guarantee": 0.5})
    assert guaranteed_bytes(shared, 3) == 2 * MB
    rule = make_rule(shared, ints(RATE_BPS), 3)
    assert rule.initial_bytes().tolist() == [2 * MB]
    none = np.zeros(1)
    assert rule.wish_bytes(sample(0), ints(0), none)[0] == 2 * MB
    assert rule.wish_bytes(sample(0), ints(4 * MB), none)[0] >= 5 * MB, "the margin of 1.25 is kept"


def test_without_a_pool_the_guarantee_is_of_the_cap() -> None:
    assert guaranteed_bytes(spec("credence", options={"guarantee": 0.25}), 3) == 250 * KB
    assert guaranteed_bytes(spec("credence", min="0.3MB", options={"guarantee": 0.25}), 3) == 300 * KB


@given(st.lists(st.integers(0, 400), min_size=1, max_size=60), st.integers(1, 100), st.integers(1, 300))
def test_a_guarantee_bounds_what_any_larger_buffer_could_admit_more(
    arrivals: list[int], guarantee: int, more: int
) -> None:
    def admitted(limit: int) -> float:
        backlog, dropped = np.zeros(1), 0.0
        for count in arrivals:
            backlog, lost = serve_bin(backlog, np.array([count]), np.array([20.0]), ints(limit))
            dropped += float(lost[0])
        return sum(arrivals) - dropped

    most = guarantee + more
    assert admitted(most) * guarantee <= admitted(guarantee) * most + 1e-6


# ---------------------------------------------------------------------------------------------- delay target


def test_a_delay_target_caps_every_node_by_its_rate() -> None:
    capped = spec("static-max", max="10MB", delay_target="125ms")
    brain = NodeBrain(("n1", "n2"), capped, ints(RATE_BPS, 2 * RATE_BPS))
    assert brain.initial_limit_bytes().tolist() == [625 * KB, 1250 * KB]
    assert brain.handle(sample(600 * KB, 600 * KB), 10 * MS)[0].nodes == ("n1", "n2"), "a notification, no request"
    assert brain.limit_bytes.tolist() == [625 * KB, 1250 * KB]


def test_no_rule_asks_for_more_than_the_target_allows() -> None:
    brain = NodeBrain(("n1",), spec("reactive", max="10MB", delay_target="125ms"), ints(RATE_BPS))
    asked = [action for k in range(9) for action in brain.handle(sample(620 * KB), k * 10 * MS)]
    wanted = [action.wanted_bytes.tolist() for action in asked if isinstance(action, RequestLimit)]
    assert max(wanted) == [625 * KB]


def test_a_target_below_the_floor_of_the_slowest_node_is_refused() -> None:
    made = simulated_run.scenario().resolved()
    made["topology"] |= {"node_rates": ["20Mbit", "40Mbit", "5Mbit"]}
    del made["topology"]["node_rate"]
    made["buffer"] |= {"delay_target": "50ms"}
    with pytest.raises(ValidationError, match=r"delay_target \(50ms\) lets a node of 5Mbit hold 31.25kB, less than"):
        Scenario.model_validate(made)


def test_no_packet_waits_longer_than_the_target() -> None:
    run = simulated_run.run(simulated_run.scenario("static-max", delay_target="60ms", duration="1s"))
    rows = by_node(table_of({name: run.recorded.column(name) for name in run.recorded.columns[0]}))
    assert max(int(node.backlog_bytes.max()) for node in rows.values()) <= 150 * KB
    waited = [node.delay.max_ns for node in run.evidence.nodes if node.delay and node.delay.max_ns]
    assert 50 * MS < max(waited) < 61 * MS, "the way to the node takes some more"
    assert sum(node.dropped_pkts for node in run.evidence.nodes) > 0


# ------------------------------------------------------------------------------------------------------- shedding


def test_what_sheds_is_in_force_at_once_and_below_the_backlog() -> None:
    brain = NodeBrain(("n1",), spec("codel"), ints(RATE_BPS))
    assert brain._ops is Numbers
    actions = [action for k in range(20) for action in brain.handle(sample(125 * KB), k * 10 * MS)]
    limits = [action.limit_bytes.tolist() for action in actions if isinstance(action, SetBufferLimit)]
    assert limits == [[125 * KB], [25 * KB + 70_710]]


@pytest.mark.parametrize("policy", ["codel", "pie"])
def test_what_sheds_takes_no_pool(policy: str) -> None:
    with pytest.raises(ValidationError, match="exclude each other"):
        spec(policy, pool="3MB")
