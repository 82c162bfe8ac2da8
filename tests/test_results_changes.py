"""Changes that the scenario did not order: named in the verdict with thing, place, values and time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from testbed.records.changes import Change
from testbed.records.evidence import Evidence
from testbed.records.samples import by_node
from testbed.results.fidelity import Fidelity, judge
from testbed.units import NS_PER_MS
from tests import synthetic_run

MTU = Change("c1", "link", "c1-eth0 mtu", ("1500", "700", "1500"), 2, 1200 * NS_PER_MS, 1220 * NS_PER_MS)
STOPPED = Change("", "process", "ovsdb-server state", ("running", "stopped, for 5 ms"), 1, 7 * NS_PER_MS, 7 * NS_PER_MS)


@pytest.fixture(scope="module")
def good() -> synthetic_run.Made:
    return synthetic_run.make(synthetic_run.facts("static-min", seconds=4))


def judged(made: synthetic_run.Made, *changes: Change) -> Fidelity:
    return judge(replace(made.evidence, changes=changes), by_node(made.samples), made.facts)


def test_a_change_of_what_packets_meet_voids_the_run_though_it_was_undone(good: synthetic_run.Made) -> None:
    fidelity = judged(good, MTU)
    assert fidelity.verdict == "INVALID"
    (reason,) = fidelity.reasons
    assert "link c1-eth0 mtu in c1: 1500 → 700 → 1500 from 1.200 s to 1.220 s" in reason


def test_a_change_beside_the_way_of_packets_is_a_caveat(good: synthetic_run.Made) -> None:
    fidelity = judged(good, STOPPED)
    assert fidelity.verdict == "DEGRADED"
    assert "process ovsdb-server state: running → stopped, for 5 ms at 0.007 s" in fidelity.reasons[0]


def test_of_many_changes_the_first_are_named_and_the_others_counted(good: synthetic_run.Made) -> None:
    changes = [replace(MTU, thing=f"c1-eth{k} mtu") for k in range(9)]
    (reason,) = judged(good, *changes).reasons
    assert "c1-eth0" in reason
    assert "c1-eth3" not in reason
    assert "and 6 more in evidence.json" in reason


def test_what_an_engine_did_not_watch_is_not_checked(good: synthetic_run.Made) -> None:
    fidelity = judge(replace(good.evidence, changes=None), by_node(good.samples), good.facts)
    assert {"changes of what packets meet", "changes beside the way of packets"} <= set(fidelity.not_checked)


def test_changes_are_read_as_they_were_written(good: synthetic_run.Made) -> None:
    evidence = replace(good.evidence, changes=(MTU, STOPPED))
    assert Evidence.from_record(evidence.to_record()).changes == (MTU, STOPPED)
    assert Evidence.from_record({**good.evidence.to_record(), "changes": None}).changes is None
