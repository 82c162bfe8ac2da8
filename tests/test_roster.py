"""The roster of a cluster outside the emulation, in virtual time."""

from __future__ import annotations

from typing import Any

from testbed.deployment.roster import GONE_NS, LOST_NS, Roster
from testbed.records.events import Action, Event, StageOfLife
from testbed.scenario.autoscaler import AutoscalerSpec
from testbed.units import NS_PER_MS, NS_PER_S
from testbed.wire.node_report import INTERVAL_NS, Answer, Report

NODES = ("n0", "n1", "n2", "n3")
IDLE_NS = 2 * NS_PER_S
RATE_BPS = 100 * 10**6
SERVING, DRAINING, LEAVING, ABSENT = (
    StageOfLife.SERVING, StageOfLife.DRAINING, StageOfLife.LEAVING, StageOfLife.ABSENT
)  # fmt: skip


class Nodes:
    """Some nodes that report, each with a rate at which packets of 1000 bytes reach it."""

    def __init__(self, **autoscaler: Any) -> None:
        self.notes: list[tuple[str, Event | Action]] = []
        spec = AutoscalerSpec.model_validate({"drain_deadline": "5s", **autoscaler})
        self.roster = Roster(NODES, spec, IDLE_NS, RATE_BPS, lambda policy, record: self.notes.append((policy, record)))
        self.now_ns = 1_800_000_000 * NS_PER_S
        self.pps: dict[str, int] = {}
        self.pkts: dict[str, int] = {}
        self.draining: set[str] = set()
        self.backlog: dict[str, int] = {}
        self.answers: dict[str, Answer] = {}

    def begin(self, *names: str, pps: int = 0) -> None:
        self.pps |= dict.fromkeys(names, pps)
        self.pkts |= dict.fromkeys(names, 0)

    def end(self, name: str) -> None:
        del self.pps[name]

    def run(self, lasts_ns: int) -> None:
        end_ns = self.now_ns + lasts_ns
        while self.now_ns < end_ns:
            self.now_ns += INTERVAL_NS
            for name, pps in self.pps.items():
                self.pkts[name] += pps * INTERVAL_NS // NS_PER_S
                pkts = self.pkts[name]
                report = Report(name in self.draining, pkts, 1000 * pkts, self.backlog.get(name, 0))
                self.answers[name] = self.roster.hear(name, report, self.now_ns)
            self.roster.wake(self.now_ns)

    def stage(self, name: str) -> StageOfLife:
        return self.answers[name].stage


def test_a_node_that_reports_serves_at_once() -> None:
    nodes = Nodes(boot="15s")
    nodes.begin("n1")

    nodes.run(INTERVAL_NS)

    assert nodes.answers["n1"] == Answer(SERVING, 1)
    assert nodes.roster.stages.stage.tolist() == [ABSENT, SERVING, ABSENT, ABSENT]


def test_a_node_leaves_when_its_flows_are_silent_and_its_queue_is_empty() -> None:
    nodes = Nodes()
    nodes.begin("n0", "n1", pps=1000)
    nodes.run(NS_PER_S)
    nodes.draining.add("n1")
    nodes.run(NS_PER_S)
    assert nodes.stage("n1") is DRAINING

    nodes.pps["n1"], nodes.backlog["n1"] = 0, 5000
    nodes.run(IDLE_NS + 200 * NS_PER_MS)
    assert nodes.stage("n1") is LEAVING
    nodes.backlog["n1"] = 0
    nodes.run(200 * NS_PER_MS)

    assert nodes.stage("n1") is ABSENT
    nodes.run(NS_PER_S)
    assert nodes.stage("n1") is ABSENT, "it is about to end, and does not join again"


def test_flows_that_go_on_are_moved_after_the_deadline() -> None:
    nodes = Nodes()
    nodes.begin("n0", "n1", pps=1000)
    nodes.run(NS_PER_S)
    nodes.draining.add("n1")

    nodes.run(4900 * NS_PER_MS)
    assert nodes.stage("n1") is DRAINING
    nodes.run(300 * NS_PER_MS)

    assert nodes.stage("n1") is LEAVING


def test_the_last_node_is_not_drained() -> None:
    nodes = Nodes()
    nodes.begin("n0")
    nodes.run(NS_PER_S)
    nodes.draining.add("n0")

    nodes.run(10 * NS_PER_S)

    assert nodes.stage("n0") is SERVING


def test_a_node_that_restarts_while_it_drained_serves_again() -> None:
    for passed_ns in (NS_PER_S, IDLE_NS + 200 * NS_PER_MS):  # while it drains, and while it leaves
        nodes = Nodes()
        nodes.begin("n0", "n1", pps=1000)
        nodes.run(NS_PER_S)
        nodes.draining.add("n1")
        nodes.pps["n1"], nodes.backlog["n1"] = 0, 1
        nodes.run(passed_ns)

        nodes.draining.clear()
        nodes.begin("n1")
        nodes.run(100 * NS_PER_MS)

        assert nodes.stage("n1") is SERVING


def test_a_draining_node_that_dies_has_left() -> None:
    nodes = Nodes()
    nodes.begin("n0", "n1", pps=1000)
    nodes.run(NS_PER_S)
    nodes.draining.add("n1")
    nodes.run(NS_PER_S)

    nodes.end("n1")
    nodes.run(LOST_NS + INTERVAL_NS)

    assert nodes.roster.at(ABSENT) == ["n1", "n2", "n3"]


def test_a_serving_node_that_dies_may_come_back_and_is_given_up_later() -> None:
    nodes = Nodes()
    nodes.begin("n0", "n1")
    nodes.run(NS_PER_S)

    nodes.end("n1")
    nodes.run(GONE_NS - NS_PER_S)
    assert nodes.roster.at(SERVING) == ["n0", "n1"]
    nodes.run(2 * NS_PER_S)

    assert nodes.roster.at(SERVING) == ["n0"]


def test_the_autoscaler_wants_what_the_load_needs() -> None:
    nodes = Nodes(policy="hpa", min=1, max=4, period="1s", stabilisation="0ms")
    nodes.begin("n0", pps=12_000)  # 96 Mbit/s, of 70 that a node is to be used for

    nodes.run(1100 * NS_PER_MS)

    assert nodes.roster.decided is not None
    assert nodes.roster.decided.load_bps == 96_000_000
    assert nodes.roster.wanted == 2


def test_counters_that_begin_anew_are_no_negative_load() -> None:
    nodes = Nodes(policy="hpa", min=1, max=4, period="1s")
    nodes.begin("n0", pps=10_000)
    nodes.run(1500 * NS_PER_MS)

    nodes.begin("n0", pps=10_000)
    nodes.run(600 * NS_PER_MS)

    assert nodes.roster.decided is not None
    assert 75_000_000 < nodes.roster.decided.load_bps <= 80_000_000, "a report's worth is lost at most"


def test_who_was_there_before_the_roster_counts_from_its_first_report() -> None:
    nodes = Nodes(policy="hpa", min=1, max=4, period="1s")
    nodes.begin("n0", pps=1000)
    nodes.pkts["n0"] = 10**9

    nodes.run(1100 * NS_PER_MS)

    assert nodes.roster.decided is not None
    assert nodes.roster.decided.load_bps < 9_000_000


def test_before_a_decision_it_wants_what_there_is() -> None:
    nodes = Nodes(policy="predictive", period="10s")
    nodes.begin("n0", "n1")

    nodes.run(NS_PER_S)

    assert nodes.roster.wanted == 2


def test_a_node_that_does_not_report_is_no_capacity() -> None:
    nodes = Nodes(policy="hpa", min=1, max=4, period="1s", stabilisation="0ms")
    nodes.begin("n0", "n1", pps=7000)
    nodes.run(2 * NS_PER_S)
    nodes.end("n1")

    nodes.run(LOST_NS + 1100 * NS_PER_MS)

    assert nodes.roster.decided is not None
    assert nodes.roster.decided.current == 1


def test_every_input_and_output_of_the_policies_is_noted() -> None:
    nodes = Nodes(policy="fixed")
    nodes.begin("n0")

    nodes.run(INTERVAL_NS)

    assert [(policy, type(record).__name__) for policy, record in nodes.notes] == [
        ("lifecycle", "AddOrdered"), ("lifecycle", "StartNode"), ("lifecycle", "NodeReady"),
    ]  # fmt: skip
