"""Alarms and bursts as events, by cases counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from testbed.results.alarms import Watched, alarm_figures, announced, announcing, first_alarms_ns
from testbed.results.queues import Spans
from testbed.units import NS_PER_MS


def spans(*pairs: tuple[int, int]) -> Spans:
    times = np.array(pairs, dtype=np.int64).reshape(-1, 2) * NS_PER_MS
    return Spans(times[:, 0], times[:, 1])


def node(bursts: Spans, alarms: Spans, seconds: int = 10) -> Watched:
    return Watched(bursts, alarms, seconds * 1000 * NS_PER_MS)


BURSTS = spans((2000, 2200), (5000, 5400), (5900, 6000))


def test_an_alarm_announces_what_begins_within_the_window_after_it() -> None:
    made = node(BURSTS, spans((1001, 1100), (4000, 4100), (5000, 5100), (7000, 7100)))
    assert announced(made).tolist() == [True, False, True], "4000 is a window before 5000, 5000 is the onset itself"
    assert announcing(made).tolist() == [True, False, True, False], "5000 announces 5900"


def test_the_first_alarm_may_be_late_and_belongs_to_one_burst() -> None:
    made = node(BURSTS, spans((1500, 1600), (1900, 2100), (5200, 5300), (5450, 5500)))
    assert (first_alarms_ns(made) / NS_PER_MS).tolist() == [500, -200, 450]
    assert first_alarms_ns(node(BURSTS, spans((2200, 2300)))).tolist() == [], "the burst is over"


def test_an_alarm_without_end_earns_nothing() -> None:
    found = alarm_figures([node(BURSTS, spans((0, 10_000)))], recall=1.0)
    assert found == {
        "event_recall": 0.0, "event_precision": 0.0, "time_in_alarm_ratio": 1.0, "recall_over_chance": 0.0,
    }  # fmt: skip


def test_figures_are_those_of_all_nodes_together() -> None:
    good, silent = node(BURSTS, spans((1500, 2500))), node(BURSTS, spans())
    found = alarm_figures([good, silent], recall=1 / 6)
    assert (found["event_recall"], found["event_precision"]) == (pytest.approx(1 / 6), 1.0)
    assert found["first_alarm_ms"] == {"p50": 500.0}
    assert found["time_in_alarm_ratio"] == pytest.approx(1 / 20)
    assert found["recall_over_chance"] == pytest.approx(1 / 6 - 1 / 20)


def test_what_has_no_case_is_left_out() -> None:
    assert alarm_figures([node(spans(), spans(), seconds=0)], None) == {}
    assert alarm_figures([node(spans(), spans())], None) == {"time_in_alarm_ratio": 0.0}
