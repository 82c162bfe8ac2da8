"""Reserved memory of nodes that crash: so much as the pool keeps for their return."""

from __future__ import annotations

from typing import Any

import pytest

from testbed.records.samples import NodeSamples, by_node, table_of
from testbed.results.reserved import crashes, reserved_byte_ns
from testbed.units import NS_PER_MS, NS_PER_S
from tests import simulated_run, synthetic_run
from tests.test_simulation_faults import steady

MB = 10**6
END_NS = 5 * NS_PER_S


def samples(limits: dict[int, int]) -> NodeSamples:
    """Return samples of one node: time in ms → limit in MB."""
    made = synthetic_run.make(synthetic_run.facts("static-min", seconds=1, nodes=1))
    row = {name: values[0] for name, values in made.columns.items()}
    changed = [{**row, "t_ns": ms * NS_PER_MS, "limit_bytes": round(mb * MB)} for ms, mb in limits.items()]
    return by_node(table_of({name: [row[name] for row in changed] for name in row}))["n1"]


def reserved(limits: dict[int, int], *down: tuple[int, int | None]) -> float:
    """Return MB·s of a node with these samples, that was down from and to these ms."""
    spans = [(begin * NS_PER_MS, None if end is None else end * NS_PER_MS) for begin, end in down]
    return reserved_byte_ns(samples(limits), spans, MB // 2, END_NS) / MB / NS_PER_S


def test_a_limit_counts_until_the_next_and_the_last_until_the_end() -> None:
    assert reserved({10: 1, 1000: 3, 2000: 1}) == pytest.approx(1 + 3 + 3 * 1)
    assert reserved({10: 1, 6000: 9}) == pytest.approx(5 * 1), "what comes after the traffic does not count"


def test_a_crashed_node_reserves_its_first_limit_until_it_is_restarted() -> None:
    assert reserved({10: 1, 1000: 4}, (2000, None)) == pytest.approx(1 + 4 + 3 * 1)
    assert reserved({10: 1, 1000: 4, 4000: 2}, (2000, 3000)) == pytest.approx(1 + 4 + 1 + 1 + 2)
    assert reserved({10: 4, 1000: 1}, (2000, None)) == pytest.approx(4 + 4 * 1), "the lower of the two"


def test_a_node_that_crashed_before_it_was_sampled_is_not_free() -> None:
    assert reserved_byte_ns(None, [(20 * NS_PER_MS, None)], MB // 2, END_NS) == MB // 2 * END_NS


def test_crashes_are_read_from_the_lines_of_faults() -> None:
    def command(fault: int, what: str, node: str, at_ns: int) -> dict[str, Any]:
        return {"kind": "FaultCommanded", "fault": fault, "what": what, "nodes": [node], "t_commanded_ns": at_ns}

    lines = [
        command(0, "crash", "n1", 5),
        {"kind": "FaultHealed", "fault": 0, "t_ns": 9},
        command(1, "pause", "n2", 6),
        command(2, "crash", "n1", 11),
    ]
    assert crashes(lines) == {"n1": [(5, 9), (11, None)]}


def test_a_dead_node_is_charged_no_last_limit_whether_it_returns_or_not() -> None:
    """Five nodes of 0.5 MB for 3 s; one crashes after 1 s, for good or for a second."""
    for heal in ({}, {"for": "1s"}):
        run = simulated_run.run(steady({"at": "1s", "crash": "n2", **heal}, policy="static-min"))
        names = run.recorded.columns[0]
        rows = by_node(table_of({name: run.recorded.column(name) for name in names}))
        end_ns = 3 * NS_PER_S
        down = crashes([event for event in run.recorded.events if event["kind"].startswith("Fault")])
        held = [reserved_byte_ns(rows[node], down.get(node, ()), MB // 2, end_ns) for node in rows]
        assert sum(held) == 5 * MB // 2 * end_ns
