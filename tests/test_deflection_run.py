"""Deflection on the real kernel: one flow overruns one node, and every packet is counted where it went."""

from __future__ import annotations

from pathlib import Path

import pytest

from testbed.trials.replay import replay
from tests import written_run
from tests.written_run import Written, constant

pytestmark = pytest.mark.requires("root", "bpf", "ovs", "mininet")

DEFLECTING = {**written_run.BASE["buffer"], "deflect": True}


@pytest.fixture(scope="module")
def relieved(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """One flow of 30 Mbit/s at a node of 20, the other idle."""
    return written_run.run(tmp_path_factory.mktemp("run"), "relieved", buffer=DEFLECTING, traffic=[constant("30Mbit")])


@pytest.fixture(scope="module")
def overrun(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """One flow of 80 Mbit/s: more than both nodes serve together."""
    return written_run.run(tmp_path_factory.mktemp("run"), "overrun", buffer=DEFLECTING, traffic=[constant("80Mbit")])


def full_and_sibling(written: Written) -> tuple[dict[str, int], dict[str, int]]:
    """Return the evidence of the node that had the flow and of the other."""
    full, sibling = sorted(written.evidence["nodes"], key=lambda node: -int(node["deflected_pkts"]))
    return full, sibling


def test_an_idle_sibling_takes_what_a_full_node_would_drop(relieved: Written, tmp_path: Path) -> None:
    alone = written_run.run(tmp_path, "alone", traffic=[constant("30Mbit")])
    without = alone.summary["traffic"]["dropped_packets"]["buffer"]
    assert without > 500
    assert "deflected_packets" not in alone.summary["buffer"]
    assert relieved.summary["buffer"]["deflected_packets"] > 500
    assert relieved.summary["traffic"]["dropped_packets"]["buffer"] < without / 4


@pytest.mark.parametrize("name", ["relieved", "overrun"])
def test_each_packet_is_counted_once_wherever_it_went(name: str, request: pytest.FixtureRequest) -> None:
    written: Written = request.getfixturevalue(name)
    full, sibling = full_and_sibling(written)
    sent = written.summary["traffic"]["sent_packets"]
    assert written.summary["traffic"]["unaccounted_packets"] == 0
    assert full["arrived_pkts"] == sent
    assert full["arrived_pkts"] == full["delivered_pkts"] + full["dropped_pkts"] + full["deflected_pkts"]
    assert sibling["arrived_pkts"] == sibling["deflected_in_pkts"] == full["deflected_pkts"] > 0
    assert sibling["arrived_pkts"] == sibling["delivered_pkts"] + sibling["dropped_pkts"]
    assert written.total("duplicate_pkts") == 0
    dropped = full["dropped_pkts"] + sibling["dropped_pkts"]
    assert written.summary["buffer"]["loss_ratio"] == dropped / sent


def test_no_packet_is_deflected_twice(overrun: Written) -> None:
    _, sibling = full_and_sibling(overrun)
    assert sibling["dropped_pkts"] > 0, "the sibling was never full, so this shows nothing"
    assert sibling["deflected_pkts"] == 0


def test_samples_tell_what_was_deflected(relieved: Written) -> None:
    import pyarrow.parquet as pq

    sampled = sum(pq.read_table(relieved.path / "samples.parquet")["deflected_pkts"].to_pylist())
    assert 0 < sampled <= relieved.total("deflected_pkts")


def test_names_are_recorded_and_replay_says_the_same(relieved: Written) -> None:
    kinds = {(event["kind"], event.get("policy")) for event in relieved.events}
    assert {("NodesNotified", "deflection"), ("NameSiblings", "deflection"), ("SiblingSet", None)} <= kinds
    assert replay(relieved.path) is None
