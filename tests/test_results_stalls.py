"""Stalls: each stage is held to the longest time it stood still; causes are named; a fault that was ordered is none."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from testbed.records.changes import Change
from testbed.records.evidence import Evidence
from testbed.records.histogram import Histogram
from testbed.records.samples import by_node
from testbed.records.stages import OrderedFault, Stage, StageKind, Stall, longest_stalls, unordered
from testbed.results.fidelity import Fidelity, judge
from testbed.units import NS_PER_MS
from tests import synthetic_run

KINDS: list[tuple[StageKind, str, str]] = [
    ("send", "c1", "the sender of c1"),
    ("stamp", "n2", "some packets that reached n2"),
    ("way", "n2", "n2"),
    ("queue", "n2", "the egress of n2"),
    ("agent", "n2", "the agent of n2"),
    ("mesh", "n2", "the mesh member of n2"),
    ("controller", "balancer", "the balancer"),
    ("tcp", "TCP sink", "the TCP sink"),
]


@pytest.fixture(scope="module")
def good() -> synthetic_run.Made:
    return synthetic_run.make(synthetic_run.facts("static-min", seconds=4))


def stall(began_ms: float, lasted_ms: float) -> Stall:
    return Stall(round(began_ms * NS_PER_MS), round(lasted_ms * NS_PER_MS))


def fault(kind: str, node: str, began_ms: float, over_ms: float | None, late_ms: float = 0) -> OrderedFault:
    began_ns = round(began_ms * NS_PER_MS)
    over_ns = None if over_ms is None else round(over_ms * NS_PER_MS)
    return OrderedFault(kind, (node,) if node else (), began_ns - round(late_ms * NS_PER_MS), began_ns, over_ns)


def judged(made: synthetic_run.Made, *stages: Stage, ordered: tuple[OrderedFault, ...] = ()) -> Fidelity:
    """Judge a run whose stages are those given, where they differ from an undisturbed run's."""
    given = {(stage.kind, stage.place): stage for stage in stages}
    kept = tuple(stage for stage in made.evidence.stages if (stage.kind, stage.place) not in given)
    evidence = replace(made.evidence, stages=(*kept, *stages), ordered=ordered)
    return judge(evidence, by_node(made.samples), made.facts)


@pytest.mark.parametrize(("kind", "place", "who"), KINDS)
def test_a_stall_of_any_stage_is_seen_and_named(
    good: synthetic_run.Made, kind: StageKind, place: str, who: str
) -> None:
    def verdict(lasted_ms: float) -> Fidelity:
        return judged(good, Stage(kind, place, (stall(1520, lasted_ms), stall(3000, 3))))

    assert verdict(5).verdict == "VALID"
    assert (verdict(30).verdict, verdict(300).verdict) == ("DEGRADED", "INVALID")
    (reason,) = verdict(300).reasons
    assert who in reason
    assert "for 300 ms from 1.520 s on" in reason


@pytest.mark.parametrize(
    ("waiting", "cause"), [(("n1", "n2", "n3"), "ovs-vswitchd"), (("n2",), "between the switch and n2")]
)
def test_where_all_nodes_wait_it_is_the_switch_and_where_one_does_its_link(
    good: synthetic_run.Made, waiting: tuple[str, ...], cause: str
) -> None:
    late = [Stage("way", node, (stall(1000 + k, 300 - k),)) for k, node in enumerate(waiting)]
    (reason,) = judged(good, *late).reasons
    assert cause in reason
    assert "whole machine" not in reason


def test_what_stood_still_together_is_the_machine(good: synthetic_run.Made) -> None:
    places: list[tuple[StageKind, str]] = [("send", "c1"), ("way", "n1"), ("agent", "n1")]
    reasons = judged(good, *(Stage(kind, place, (stall(1000, 200),)) for kind, place in places)).reasons
    assert len(reasons) == 3
    assert all("the whole machine stalled" in reason for reason in reasons)


def test_a_stop_by_a_signal_is_named_as_the_cause(good: synthetic_run.Made) -> None:
    def worst(began_ms: float, name: str, value: str) -> str:
        change = Change("", "process", name, ("running", value), first_ns=1040 * NS_PER_MS, last_ns=1040 * NS_PER_MS)
        made = replace(good, evidence=replace(good.evidence, changes=(change,)))
        return judged(made, *(Stage("way", node, (stall(began_ms, 300),)) for node in ("n1", "n2", "n3"))).reasons[0]

    told = worst(1000, "ovs-vswitchd state", "stopped, for 300 ms")
    assert "did not forward for 300 ms from 1.000 s on (seen at n1, n2, n3); ovs-vswitchd was stopped by a sig" in told
    assert "by a signal" not in worst(2000, "ovs-vswitchd state", "stopped, for 300 ms")
    assert "by a signal" not in worst(1000, "ovs-vswitchd scheduling", "SCHED_OTHER 0 on cores 0-1")


USUAL: list[tuple[StageKind, float, str]] = [
    *(("way", 4, "VALID"), ("way", 10, "DEGRADED"), ("way", 30, "INVALID")),
    *(("queue", 0.5, "VALID"), ("queue", 3, "DEGRADED"), ("queue", 8, "INVALID")),
]


@pytest.mark.parametrize(("kind", "p99_ms", "verdict"), USUAL)
def test_what_the_way_takes_as_a_rule_is_bounded(
    good: synthetic_run.Made, kind: StageKind, p99_ms: float, verdict: str
) -> None:
    taken = [Stage(kind, node, (), Histogram.of([round(p99_ms * NS_PER_MS)] * 100)) for node in ("n1", "n2", "n3")]
    assert judged(good, *taken).verdict == verdict


def test_packets_past_the_buffer_are_invalid(good: synthetic_run.Made) -> None:
    first, *others = good.evidence.nodes
    evidence = replace(good.evidence, nodes=(replace(first, unbuffered_pkts=3), *others))
    fidelity = judge(evidence, by_node(good.samples), good.facts)
    assert fidelity.verdict == "INVALID"
    assert "sinks of n1 that no buffer had admitted" in fidelity.reasons[0]


# kind of fault, the node it hits, what it stops there
HITS: list[tuple[str, str, set[tuple[StageKind, str]]]] = [
    ("pause", "n2", {("agent", "n2"), ("mesh", "n2")}),
    ("crash", "n2", {("agent", "n2"), ("mesh", "n2"), ("way", "n2"), ("stamp", "n2"), ("queue", "n2")}),
    ("link_down", "n2", {("way", "n2")}),
    ("flap", "n2", {("way", "n2")}),
    ("loss", "n2", set()),
    ("partition", "n2", set()),
    ("kill", "", set()),
]


@pytest.mark.parametrize(("kind", "node", "hit"), HITS)
def test_a_fault_explains_what_it_hits_and_nothing_else(
    good: synthetic_run.Made, kind: str, node: str, hit: set[tuple[StageKind, str]]
) -> None:
    ordered = (fault(kind, node, 1000, 1300),)
    for stage in good.evidence.stages:
        still = replace(stage, stalls=(stall(1005, 300),))
        assert (judged(good, still, ordered=ordered).verdict == "VALID") == ((stage.kind, stage.place) in hit), stage


def test_a_cpu_hog_is_ordered_to_disturb_everything(good: synthetic_run.Made) -> None:
    still = [replace(stage, stalls=(stall(1005, 300),)) for stage in good.evidence.stages]
    assert judged(good, *still, ordered=(fault("cpu_hog", "", 1000, 1300),)).verdict == "VALID"


@pytest.mark.parametrize(
    ("began_ms", "lasted_ms", "left"),
    [
        (1000, 300, []),
        (1000, 315, []),  # what ends soon after the fault is its end
        (900, 300, [(900, 100)]),
        (1100, 420, [(1320, 200)]),
        (900, 900, [(900, 100), (1320, 480)]),
        (1400, 100, [(1400, 100)]),
        (500, 100, [(500, 100)]),
    ],
)
def test_what_a_stall_has_beyond_the_fault_stays(
    began_ms: float, lasted_ms: float, left: list[tuple[float, float]]
) -> None:
    stage = Stage("agent", "n1", (stall(began_ms, lasted_ms),))
    assert unordered(stage, [fault("pause", "n1", 1000, 1300)]) == tuple(stall(*part) for part in left)


def test_a_fault_that_never_ends_explains_all_that_follows() -> None:
    stage = Stage("way", "n1", (stall(900, 200), stall(5000, 900)))
    assert unordered(stage, [fault("link_down", "n1", 1000, None)]) == (stall(900, 100),)


def test_a_fault_that_came_late_is_told(good: synthetic_run.Made) -> None:
    def verdict(late_ms: float) -> str:
        return judged(good, ordered=(fault("pause", "n1", 1000, 1300, late_ms),)).verdict

    assert (verdict(5), verdict(40), verdict(200)) == ("VALID", "DEGRADED", "INVALID")


def test_of_packets_that_were_held_together_the_worst_stands_for_all() -> None:
    held = [stall(1000 + k, 300 - k) for k in range(300)]
    assert longest_stalls([*held, stall(2000, 10), stall(100, 20)]) == (
        stall(100, 20),
        stall(1000, 300),
        stall(2000, 10),
    )
    assert longest_stalls([stall(k * 10, k % 5 + 1) for k in range(50)], kept=10) == tuple(
        stall(k * 10, 5) for k in range(4, 50, 5)
    )


def test_an_engine_that_watches_no_stage_says_so(good: synthetic_run.Made) -> None:
    fidelity = judge(replace(good.evidence, stages=()), by_node(good.samples), good.facts)
    assert "longest stall of the way from client to node" in fidelity.not_checked
    assert "longest stall of a TCP endpoint" not in fidelity.not_checked  # there is none


def test_stages_and_faults_survive_the_file(good: synthetic_run.Made) -> None:
    delays = Histogram.of([10, 10**8])
    evidence = replace(
        good.evidence,
        stages=(Stage("way", "n1", (stall(1, 2),), delays),),
        ordered=(fault("pause", "n1", 1, 2), fault("kill", "", 3, None)),
    )
    read = Evidence.from_record(json.loads(json.dumps(evidence.to_record())))
    assert read.ordered == evidence.ordered
    assert (read.stages[0].kind, read.stages[0].stalls) == ("way", (stall(1, 2),))
    assert read.stages[0].delays is not None
    assert read.stages[0].delays.total == 2
