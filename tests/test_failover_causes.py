"""Times of a failover are those of its own fault: whose acknowledgement, whose removal, whose flows."""

from __future__ import annotations

from typing import Any

import pytest

from testbed.results.failover import AFTERMATH_NS, broken_flows, failures
from testbed.units import NS_PER_MS


def command(number: int, what: str, node: str, at_ms: int) -> dict[str, Any]:
    at_ns = at_ms * NS_PER_MS
    return {"kind": "FaultCommanded", "fault": number, "what": what, "nodes": [node], "t_commanded_ns": at_ns,
            "for_ns": None, "t_ns": at_ns}  # fmt: skip


def line(kind: str, at_ms: float, **fields: Any) -> dict[str, Any]:
    return {"kind": kind, "t_ns": round(at_ms * NS_PER_MS), **fields}


def left(node: str, at_ms: int) -> list[dict[str, Any]]:
    return [line("NodeLeft", at_ms, node=node, reason="mesh"), line("RemoveNode", at_ms, node=node)]


def rerouted_ms(*lines: dict[str, Any]) -> list[float | None]:
    return [failure.rerouted_ms for failure in failures(lines)]


CRASH = command(0, "crash", "n2", 1000)


def test_only_the_acknowledgement_of_the_removal_counts() -> None:
    others = [line("ActionsAcknowledged", at_ms, removed=[]) for at_ms in (1051, 1052)]
    foreign = line("ActionsAcknowledged", 1053, removed=["n3"])
    own = line("ActionsAcknowledged", 1090, removed=["n2"])
    assert rerouted_ms(CRASH, *left("n2", 1050), *others, foreign, own) == [90.0]
    assert rerouted_ms(CRASH, *left("n2", 1050), *others, foreign) == [None], "nothing says that it came into force"


def test_an_acknowledgement_of_an_earlier_removal_does_not_count() -> None:
    earlier = [*left("n2", 500), line("ActionsAcknowledged", 510, removed=["n2"])]
    assert rerouted_ms(*earlier, CRASH, *left("n2", 1050)) == [None]


def test_a_pipeline_without_the_node_counts_and_one_with_it_does_not() -> None:
    whole, without = line("BalancerReady", 1060), line("BalancerReady", 1070, removed=["n2"])
    assert rerouted_ms(CRASH, *left("n2", 1050), whole, without) == [70.0]


def test_what_happens_after_the_next_fault_of_the_node_is_not_the_work_of_the_first() -> None:
    unnoticed = [CRASH, line("FaultHealed", 1020, fault=0), command(1, "crash", "n2", 1500)]
    noticed = [*left("n2", 1550), line("ActionsAcknowledged", 1554, removed=["n2"])]
    first, second = failures([*unnoticed, *noticed])
    assert (first.detected_ms, first.rerouted_ms) == (None, None)
    assert (second.detected_ms, second.rerouted_ms) == (50.0, 54.0)


def test_what_happens_long_after_it_healed_is_not_the_work_of_a_fault() -> None:
    healed = [CRASH, line("FaultHealed", 1020, fault=0)]
    late_ms = 1020 + AFTERMATH_NS // NS_PER_MS
    for at_ms, detected_ms in ((late_ms - 1, late_ms - 1001.0), (late_ms, None)):
        (failure,) = failures([*healed, *left("n2", at_ms)])
        assert failure.detected_ms == detected_ms


REROUTED = [CRASH, *left("n2", 1050), line("ActionsAcknowledged", 1054, removed=["n2"])]
HEALED = line("FaultHealed", 3000, fault=0)


@pytest.mark.parametrize(
    ("lines", "began_ms", "broken"),
    [
        (REROUTED, 1030, 0),
        (REROUTED, 999, 1),
        (REROUTED, 1055, 1),  # the fault is never healed, and excuses nobody any more
        ([*REROUTED, HEALED], 2000, 1),
        ([CRASH, HEALED], 2000, 0),  # nothing was rerouted: it goes back when the node has healed
        ([CRASH, HEALED], 3001, 1),
        ([CRASH], 2000, 1),
        ([], 2000, 1),
    ],
)
def test_a_fault_excuses_the_flows_that_begin_until_it_is_rerouted(
    lines: list[dict[str, Any]], began_ms: int, broken: int
) -> None:
    assert broken_flows([began_ms * NS_PER_MS], lines) == broken
