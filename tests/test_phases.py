"""The phases of a set-up: together they are all of it."""

import pytest

from testbed.records.phases import Phases, longest, set_up_lines
from testbed.units import NS_PER_S


def test_phases_add_up_to_the_whole_set_up() -> None:
    phases = Phases(2 * NS_PER_S, "starting")
    phases.begin("making the network", 5 * NS_PER_S)
    phases.begin("starting", 6 * NS_PER_S)
    lasted = phases.lasted_s(10 * NS_PER_S)
    assert lasted == {"starting": 7.0, "making the network": 1.0}
    assert sum(lasted.values()) == pytest.approx(phases.since_s(10 * NS_PER_S))


def test_a_set_up_in_words_has_its_phases_in_their_order_and_processes_by_the_time_they_were_ready() -> None:
    record = {"phases_s": {"b": 0.5, "a": 2.0, "c": 1.0}, "ready_s": {"mesh": 2.0, "agents": 1.5}}
    assert set_up_lines(record) == [
        "set-up:   0.500 s b",
        "set-up:   2.000 s a",
        "set-up:   1.000 s c",
        "set-up: agents was ready after 1.500 s",
        "set-up: mesh was ready after 2.000 s",
    ]
    assert longest(record, 2) == "a 2.00 s, c 1.00 s"


def test_a_run_without_a_set_up_has_no_lines() -> None:
    assert set_up_lines({}) == []
