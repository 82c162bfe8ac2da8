"""At which end each packet was seen: the sets of real sink and node programs, held against what the senders sent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from testbed import topologies
from testbed.emulation.dataplane.packet_ends import fates_of
from testbed.emulation.dataplane.xdp import NodeProgram, SinkProgram
from testbed.records.evidence import ClientEvidence, Evidence, NodeEvidence
from testbed.records.fates import FateEvidence
from testbed.results.accounting import account
from testbed.results.fidelity import judge
from testbed.scenario.model import Scenario
from testbed.traffic.frames import ProbeHeader
from testbed.traffic.numbers import PacketNumbers
from testbed.traffic.plan import PacketPlan, make_plan
from tests import synthetic_run

pytestmark = pytest.mark.requires("root", "bpf", "clang")

RUN = 7
HEAD = Ether(dst="02:03:00:00:00:01") / IP(src="10.0.16.2", dst="10.0.0.100") / UDP(dport=9000, chksum=0)
SCENARIO = {
    **{"version": 1, "name": "ends", "duration": "1s", "topology": {"family": "cluster", "nodes": 2, "clients": 1}},
    "traffic": [{"name": "load", "from": "c1", "shape": "constant", "rate": "1Mbit", "flows": 3, "packet": "625B"}],
}


class Ends:
    """Two backends and their nodes, as far as packets end there."""

    def __init__(self) -> None:
        scenario = Scenario.model_validate(SCENARIO)
        self.plan: PacketPlan = make_plan(scenario, topologies.describe(scenario.topology), Path())
        self.numbers = PacketNumbers.of_plan(self.plan)
        self.sinks = {name: SinkProgram(RUN, self.numbers) for name in ("n1", "n2")}
        self.programs = {name: NodeProgram(10**6, 0, 0, run=RUN, numbers=self.numbers) for name in self.sinks}

    def frame(self, number: int) -> bytes:
        return bytes(HEAD / ProbeHeader(run=RUN, flow=int(self.plan.flow[number]), seq=int(self.plan.seq[number])))

    def deliver(self, *numbers: int, to: str) -> None:
        for number in numbers:
            self.sinks[to].run(self.frame(number))

    def drop(self, *numbers: int, at: str) -> None:
        for number in numbers:
            self.programs[at].run(self.frame(number))

    def fates(self) -> FateEvidence:
        report = SimpleNamespace(sent=np.packbits(np.ones(len(self.plan), bool), bitorder="little").tobytes())
        no_faults: Any = SimpleNamespace(swallowed_by_links=dict, cut_off=dict, cut_pkts=dict)
        buffers: Any = SimpleNamespace(numbers=self.numbers, programs=self.programs, sinks=self.sinks)
        counts = fates_of(self.plan, [{"client": "c1", "report": report}], buffers, no_faults).counts()
        return FateEvidence(unplanned_pkts=0, **counts)

    def evidence(self) -> Evidence:
        sent = len(self.plan)
        nodes = []
        for name, sink in self.sinks.items():
            counted, dropped = sink.snapshot(), self.programs[name].snapshot().dropped_pkts
            came = counted.delivered_pkts + dropped
            nodes.append(
                NodeEvidence(name, came, came, dropped, dropped, counted.delivered_pkts, counted.delivered_pkts)
            )
        client = ClientEvidence("c1", sent, sent, sent)
        return Evidence("emulation", 10**9, (client,), tuple(nodes), fates=self.fates(), switch_dropped_pkts=0)

    def close(self) -> None:
        for program in (*self.sinks.values(), *self.programs.values()):
            program.close()


@pytest.fixture
def ends() -> Iterator[Ends]:
    made = Ends()
    yield made
    made.close()


def found(ends: Ends) -> tuple[int, int, list[str]]:
    """Return unaccounted and repeated packets, and the reasons of an INVALID verdict that speak of packets."""
    evidence = ends.evidence()
    checks = judge(evidence, {}, synthetic_run.facts()).checks
    names = ("unaccounted packets", "duplicated packets", "packets that nobody sent")
    bad = [check.name for check in checks if check.verdict == "INVALID" and check.name in names]
    assert evidence.fates is not None
    return account(evidence).unaccounted_pkts, evidence.fates.repeated_pkts, bad


def test_all_that_is_delivered_once_is_in_order(ends: Ends) -> None:
    n = len(ends.plan)
    ends.deliver(*range(n // 2), to="n1")
    ends.deliver(*range(n // 2, n), to="n2")
    assert found(ends) == (0, 0, [])


def test_one_lost_and_another_delivered_twice_at_the_other_backend_is_not_valid(ends: Ends) -> None:
    lost, twice, n = 17, 42, len(ends.plan)
    ends.deliver(*(k for k in range(n) if k != lost), to="n1")
    ends.deliver(twice, to="n2")
    evidence = ends.evidence()
    assert sum(node.delivered_pkts for node in evidence.nodes) == n, "by counts alone nothing is missing"
    assert found(ends) == (1, 1, ["unaccounted packets", "duplicated packets"])


def test_one_lost_and_another_delivered_twice_at_its_backend_is_not_valid(ends: Ends) -> None:
    ends.deliver(*(k for k in range(len(ends.plan)) if k != 17), 42, to="n1")
    assert found(ends) == (1, 1, ["unaccounted packets", "duplicated packets"])


def test_one_lost_and_another_dropped_by_one_node_and_delivered_by_the_other_is_not_valid(ends: Ends) -> None:
    ends.deliver(*(k for k in range(len(ends.plan)) if k != 17), to="n1")
    ends.drop(42, at="n2")
    assert found(ends) == (1, 1, ["unaccounted packets", "duplicated packets"])


def test_what_a_full_node_dropped_is_accounted_for(ends: Ends) -> None:
    ends.deliver(*range(100), to="n1")
    ends.drop(*range(100, len(ends.plan)), at="n2")
    assert found(ends) == (0, 0, [])
