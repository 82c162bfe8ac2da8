"""The emulation's part of a cluster that changes: what it does with the processes of a node, without any process."""

from __future__ import annotations

import itertools
import socket
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from testbed import topologies
from testbed.emulation.cluster import Cluster
from testbed.emulation.faults.act import LossCounters
from testbed.errors import ToolError
from testbed.policies.orchestrator import Orchestrator
from testbed.records.events import AddOrdered, DrainOrdered, StageOfLife
from testbed.units import NS_PER_S
from tests.test_cluster_changes import scenario

ABSENT, JOINING, SERVING, DRAINING, LEAVING = StageOfLife


class StandInProcess:
    """A process of a node as its parent sees it: ready when the test says so, ended when it was asked to and may."""

    def __init__(self, name: str) -> None:
        self.name, self.asked, self.may_end, self.died = name, False, True, False
        self._ours, self._theirs = socket.socketpair()

    def fileno(self) -> int:
        return self._ours.fileno()

    def be_ready(self) -> None:
        self._theirs.send(b"r")

    def die(self) -> None:
        self.died = True
        self._theirs.close()

    def close(self) -> None:
        self._ours.close()
        self._theirs.close()

    def take(self) -> None:
        if self._ours.recv(1) != b"r":
            raise ToolError(f"starting {self.name}", "it ended", "read logs/trial.log")

    def stop(self) -> None:
        self.asked = True

    def ended(self) -> bool:
        return self.died or (self.asked and self.may_end)


class StandInProcesses:
    """Forks stand-ins and keeps what was asked of it."""

    def __init__(self) -> None:
        self.forked: dict[str, list[list[StandInProcess]]] = defaultdict(list)
        self.absent: tuple[str, ...] = ()
        self.running: dict[str, list[StandInProcess]] = {}
        self.released: list[str] = []

    def fork_node(self, node: str, _buffers: Any) -> list[StandInProcess]:
        made = [StandInProcess(f"{kind} {node}") for kind in ("agent", "mesh")]
        self.forked[node].append(made)
        return made

    def take_in(self, processes: list[StandInProcess], _t0_ns: int) -> None:
        self.running[processes[0].name.split()[1]] = processes

    def of_node(self, node: str) -> list[StandInProcess]:
        return self.running.get(node, [])

    def release_memory(self, node: str, _why: str) -> None:
        self.released.append(node)

    def close(self) -> None:
        for lives in self.forked.values():
            for process in itertools.chain.from_iterable(lives):
                process.close()


class Trial:
    """A cluster ten seconds into its run, whose orders until then are due at the first turn."""

    def __init__(self, *orders: dict[str, Any]) -> None:
        spec = scenario(*orders, duration="20s")
        network = topologies.describe(spec.topology)
        self.orchestrator = Orchestrator(spec, network, lambda _from, _to: 0)
        self.processes, self.lines = StandInProcesses(), []
        self.programs = {node.name: SimpleNamespace(crashed=False) for node in network.nodes}
        self.announced = 0
        self.cluster = Cluster(
            self.orchestrator,
            SimpleNamespace(announce=self._announce),  # type: ignore[arg-type]
            self.processes,  # type: ignore[arg-type]
            SimpleNamespace(programs=self.programs, restore_limit=lambda _node: None),  # type: ignore[arg-type]
            LossCounters(),
            time.monotonic_ns() - 10 * NS_PER_S,
            self.lines.append,
            network.spare_nodes,
        )

    def _announce(self, _stages: Any) -> None:
        self.announced += 1

    def stage(self, node: str) -> StageOfLife:
        stages = self.orchestrator.stages
        return StageOfLife(int(np.array(stages.stage)[stages.nodes.index(node)]))

    def order(self, event: Any) -> None:
        now_ns = time.monotonic_ns() - self.cluster._t0_ns
        self.cluster._carry_out(self.orchestrator.tell(event, now_ns), now_ns)

    def kinds(self, *wanted: str) -> list[tuple[str, str]]:
        return [(one.line["kind"], one.line.get("reason", "")) for one in self.lines if one.line["kind"] in wanted]


ADD = {"at": "1s", "add": "n4"}
Made = Callable[..., Trial]


@pytest.fixture
def made() -> Iterator[Made]:
    """Make trials, and close the sockets of their processes at the end."""
    trials: list[Trial] = []

    def make(*orders: dict[str, Any]) -> Trial:
        trials.append(Trial(*orders))
        return trials[-1]

    yield make
    for trial in trials:
        trial.processes.close()


def test_a_node_serves_when_both_its_processes_are_ready(made: Made) -> None:
    trial = made(ADD)
    trial.cluster.turn()
    ((agent, mesh),) = trial.processes.forked["n4"]
    agent.be_ready()
    trial.cluster.turn()
    assert trial.stage("n4") == JOINING
    assert trial.cluster.filenos() == [mesh.fileno()]
    mesh.be_ready()
    trial.cluster.turn()
    trial.cluster.turn()
    assert trial.stage("n4") == SERVING
    assert trial.cluster.runs("n4")
    assert trial.processes.running["n4"] == [agent, mesh]


def test_a_process_that_dies_before_it_is_ready_ends_the_other_and_the_node_is_absent(made: Made) -> None:
    trial = made(ADD)
    trial.cluster.turn()
    ((agent, mesh),) = trial.processes.forked["n4"]
    agent.be_ready()
    mesh.die()
    trial.cluster.turn()
    assert trial.kinds("StopNode") == [("StopNode", "failed")]
    assert trial.stage("n4") == ABSENT
    assert agent.asked
    assert not trial.cluster.runs("n4")
    assert trial.cluster.filenos() == []


def test_a_node_is_forked_again_only_when_the_processes_of_its_last_life_have_ended(made: Made) -> None:
    trial = made(ADD)
    trial.cluster.turn()
    ((agent, mesh),) = trial.processes.forked["n4"]
    agent.may_end = mesh.may_end = False
    trial.order(DrainOrdered(node="n4"))
    assert trial.kinds("StopNode") == [("StopNode", "cancelled")]
    trial.order(AddOrdered(node="n4"))
    trial.cluster.turn()
    assert len(trial.processes.forked["n4"]) == 1
    agent.may_end = mesh.may_end = True
    trial.cluster.turn()
    assert len(trial.processes.forked["n4"]) == 2


def test_a_node_whose_crash_is_not_over_is_not_forked_until_it_is(made: Made) -> None:
    trial = made(ADD)
    trial.programs["n4"].crashed = True
    trial.cluster.turn()
    assert trial.stage("n4") == JOINING
    assert not trial.processes.forked["n4"]
    trial.programs["n4"].crashed = False
    trial.cluster.turn()
    assert len(trial.processes.forked["n4"]) == 1


def test_a_node_that_dies_while_it_drains_has_left_with_its_memory(made: Made) -> None:
    trial = made({"at": "9900ms", "drain": "n1"})
    trial.cluster.turn()
    assert trial.stage("n1") == DRAINING
    trial.cluster.failed("n1")
    assert trial.kinds("StopNode") == [("StopNode", "failed")]
    assert (trial.stage("n1"), trial.processes.released) == (ABSENT, ["n1"])


def test_two_orders_at_one_time_are_carried_out_in_one_turn_and_each_finds_what_the_other_left(made: Made) -> None:
    trial = made(ADD, {"at": "1s", "drain": "n1"}, {"at": "2s", "add": "n1"})
    trial.cluster.turn()  # both times are past: the drain of n1 is taken back
    assert trial.stage("n1") == SERVING
    assert trial.kinds("StartNode", "StopNode", "RefuseOrder") == [("StartNode", "")]
    assert trial.announced == 1


def test_at_the_end_a_node_that_is_not_ready_is_not_waited_for(made: Made) -> None:
    trial = made(ADD)
    trial.cluster.turn()
    ((agent, mesh),) = trial.processes.forked["n4"]
    trial.cluster.end()
    assert agent.asked
    assert mesh.asked
    assert trial.cluster.filenos() == []
