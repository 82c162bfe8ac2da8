"""What a node makes of its peers' precursors: heard, joined with its own, recorded, replayed."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from testbed.emulation.processes.shared_state import PeersState, SharedPeers
from testbed.policies.brain import NodeBrain
from testbed.policies.membership import Membership
from testbed.policies.peers import PEER_WEIGHT, joined
from testbed.policies.sharing import FRESH_NS, SEVERE_STEP
from testbed.records.events import DeadlineReached, ForecastMade, PeersAssessed, RequestLimit, SendStates, StatesHeard
from testbed.scenario.buffer import BufferSpec
from testbed.scenario.mesh import MeshSpec
from testbed.simulation.agenda import Agenda
from testbed.simulation.peers import Peers
from testbed.trials.replay import replay
from testbed.units import NS_PER_MS
from tests import simulated_run
from tests.test_brain import sample

SYNC_NS, MESSAGE_NS = 100 * NS_PER_MS, NS_PER_MS
ALL = slice(0, 3)


class Needs:
    """A forecaster that needs 2 MB within 50 ms."""

    horizon_ns = (50 * NS_PER_MS,)

    def step(self, sample: object, now_ns: int) -> ForecastMade:
        nodes = sample.nodes  # type: ignore[attr-defined]
        return ForecastMade(
            nodes=nodes,
            horizon_ns=self.horizon_ns,
            need_bytes=np.full((len(nodes), 1), 2 * 10**6),
            onset_ratio=np.zeros(len(nodes)),
        )


def wanted_bytes(policy: str, *peers: float) -> list[int]:
    """Return what nodes ask of the pool when their peers announce so much."""
    nodes = tuple(f"n{i + 1}" for i in range(len(peers)))
    spec = BufferSpec.model_validate({"policy": policy, "precursor_gain": 1.0})
    brain = NodeBrain(nodes, spec, np.full(len(nodes), 10**8), Needs())
    assert brain.handle(PeersAssessed(nodes=nodes, severity_ratio=np.array(peers)), 1) == []
    asked = [action for action in brain.handle(sample(*[0] * len(nodes)), 2) if isinstance(action, RequestLimit)]
    assert brain.severity_ratio.tolist() == [0.0] * len(nodes), "what it tells others is its own"
    return asked[0].wanted_bytes.tolist()


# ------------------------------------------------------------------------------------------------------- policies


def test_severities_are_joined_as_independent_evidence() -> None:
    assert joined(0.37, 0.0) == 0.37
    assert joined(0.0, 1.0) == PEER_WEIGHT
    assert joined(0.5, 1.0) == pytest.approx(1 - 0.5 * (1 - PEER_WEIGHT))
    assert joined(1.0, 0.4) == 1.0


def test_a_peers_precursors_raise_how_far_a_predicted_need_is_met() -> None:
    calm, warned, alarmed = wanted_bytes("lstm", 0.0, 0.5, 1.0)
    assert calm < warned < alarmed
    assert [wanted_bytes("lstm", peers)[0] for peers in (0.0, 0.5, 1.0)] == [calm, warned, alarmed]
    floor_bytes = 500_000
    assert (alarmed - floor_bytes) / (calm - floor_bytes) == pytest.approx(1 + PEER_WEIGHT, rel=0.1)


def test_policies_that_heed_no_severity_heed_no_peers() -> None:
    assert len(set(wanted_bytes("oracle", 0.0, 1.0))) == 1
    for policy, heeds in (("lstm", True), ("holt", True), ("oracle", False), ("reactive", False)):
        spec = BufferSpec.model_validate({"policy": policy})
        assert NodeBrain(("n1",), spec, np.array([10**8]), Needs()).heeds_peers is heeds


def test_a_severity_that_rises_is_told_at_once() -> None:
    def state(taken_ns: int, severity: float) -> StatesHeard:
        one = np.array([1])
        return StatesHeard(
            nodes=("n1",),
            taken_ns=np.array([taken_ns]),
            limit_bytes=one,
            backlog_bytes=one,
            predicted_bytes=one,
            severity_ratio=np.array([severity]),
        )

    member = Membership("n1", ("n1", "n2"), MeshSpec.model_validate({}), random.Random(0))
    member.handle(DeadlineReached(), 0)
    assert member.handle(state(1, SEVERE_STEP / 2), 1) == []
    (told,) = member.handle(state(2, SEVERE_STEP), 2)
    assert isinstance(told, SendStates)
    assert told.severity_ratio.tolist() == [SEVERE_STEP]
    assert member.handle(state(3, 1.5 * SEVERE_STEP), 3) == [], "little more than was told"


# ------------------------------------------------------------------------------------------------- between processes


def test_shared_peers_are_whole_or_absent() -> None:
    shared = SharedPeers()
    assert shared.read() is None
    shared.publish(PeersState(5, 0.25))
    assert shared.read() == PeersState(5, 0.25)
    shared._words[0] |= 1  # a writer was killed while it wrote
    assert shared.read() is None


# ------------------------------------------------------------------------------------------------------ virtual time


def until(agenda: Agenda, ns: int) -> None:
    while agenda.next_ns() <= ns:
        agenda.step()


def peers_of_three() -> tuple[Agenda, Peers]:
    agenda = Agenda()
    return agenda, Peers(("n1", "n2", "n3"), SYNC_NS, MESSAGE_NS, agenda)


def test_others_hear_what_rose_at_once_and_the_rest_with_the_sync() -> None:
    agenda, peers = peers_of_three()
    peers.assess(ALL, np.array([0.8, 0.1, 0.0]))
    assert peers.heard(ALL).tolist() == [0.0, 0.0, 0.0]
    until(agenda, MESSAGE_NS)
    assert peers.heard(ALL).tolist() == [0.0, 0.8, 0.8], "its own does not count"
    until(agenda, SYNC_NS + MESSAGE_NS)
    assert peers.heard(ALL).tolist() == [0.1, 0.8, 0.8]


def test_what_a_stopped_node_told_grows_old() -> None:
    agenda, peers = peers_of_three()
    peers.assess(ALL, np.array([0.8, 0.1, 0.0]))
    until(agenda, FRESH_NS - 1)
    assert peers.heard(slice(1, 2)).tolist() == [0.8]
    until(agenda, FRESH_NS + SYNC_NS)
    assert peers.heard(slice(1, 2)).tolist() == [0.0]


@pytest.mark.parametrize("sync_ms", [100, 400, 2000])
def test_what_a_living_node_told_counts_until_it_speaks_again(sync_ms: int) -> None:
    agenda = Agenda()
    peers = Peers(("n1", "n2"), sync_ms * NS_PER_MS, MESSAGE_NS, agenda)
    for ms in range(0, 3 * sync_ms, 10):
        peers.assess(slice(0, 2), np.array([0.8, 0.0]))
        until(agenda, (ms + 10) * NS_PER_MS)
        assert peers.heard(slice(1, 2)).tolist() == [0.8]


def test_nothing_is_heard_across_a_partition() -> None:
    agenda, peers = peers_of_three()
    peers.divide((("n1",), ("n2", "n3")), apart=True)
    peers.assess(ALL, np.array([0.8, 0.5, 0.0]))
    until(agenda, MESSAGE_NS)
    assert peers.heard(ALL).tolist() == [0.0, 0.0, 0.5]
    peers.divide((("n1",), ("n2", "n3")), apart=False)
    assert peers.heard(ALL).tolist() == [0.5, 0.8, 0.8]


@pytest.mark.parametrize(("nodes", "cohorts"), [(3, None), (3, 1), (70, 1)])
def test_a_simulated_run_records_what_was_heard_and_replays(tmp_path: Path, nodes: int, cohorts: int | None) -> None:
    spec = simulated_run.scenario("holt", nodes=nodes, node_rate=f"{60 // nodes + 1}Mbit", pool="20MB")
    options = {} if cohorts is None else {"cohorts": cohorts}
    path = simulated_run.write(spec, tmp_path / "run", **options)
    assert '"PeersAssessed"' in (path / "events.jsonl").read_text()
    assert replay(path) is None
