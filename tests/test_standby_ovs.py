"""Primary and standby on a real Open vSwitch: one dies, one hangs and wakes up, with its connection or not, both die.

Three trials, each run once a framework.  Each test asserts one thing of what they saw.
"""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import pytest

from testbed.system import commands
from tests.balancer_on_ovs import (
    LISTEN_PORT,
    MB,
    NODES,
    PATIENCE_S,
    REVALIDATION_S,
    STANDBY_PORT,
    Balancer,
    Trial,
    build,
    flow_of,
    is_kind,
    pair,
    run_in_sandbox,
    shares,
)

pytestmark = pytest.mark.requires("root", "ovs")

FRAMEWORKS = ["os-ken", pytest.param("ryu", marks=pytest.mark.requires("ryu"))]
OLD, NEW, LATE = range(10_000, 10_200), range(20_000, 20_200), range(30_000, 30_200)


class PairTrial(Trial):
    LISTEN_PORTS = (LISTEN_PORT, STANDBY_PORT)

    def begin(self) -> tuple[Balancer, Balancer]:
        primary, standby = pair(self.config, self.notify_socket)
        primary.wait_for(is_kind("BalancerReady"))
        standby.wait_for(is_kind("StandbyReady"))
        self.ovs.widen_buffers("s1", "s1-c1")
        self.notifier.start()
        primary.wait_for(is_kind("NodesNotified"))
        self.notifier.limit_bytes = {"n1": 2 * MB, "n2": 2 * MB, "n3": 4 * MB}
        primary.wait_in_force(shares(16, 16, 32))
        return primary, standby

    def send_until(self, balancer: Balancer, kind: str) -> dict[str, Any]:
        """Send old flows until the balancer has told of `kind`; note what became of them."""
        frames = [build(flow) for flow in OLD]
        sent, got, deadline, over = 0, [], time.monotonic() + PATIENCE_S, False
        while not over:
            assert time.monotonic() < deadline, f"no {kind}"
            over = any(is_kind(kind)(record) for record in balancer.records)
            got += self.wire.exchange("c1", frames, len(frames), NODES)
            sent += len(frames)
        return {"sent": sent, "arrived": sum(flow_of(frame) in OLD for _, frame in got)}


class Deaths(PairTrial):
    def run(self) -> dict[str, Any]:
        primary, standby = self.begin()
        commands.run("down", ["ip", "link", "set", "n2-eth0", "down"])
        primary.wait_in_force(is_kind("RemoveNode", node="n2"))
        self.send_flows("before", OLD, packets=2)
        self.seen["slots before"] = [r["slots"] for r in primary.records if r["kind"] == "SetSlots"][-1]
        primary.end(signal.SIGKILL)
        self.seen["meanwhile"] = self.send_until(standby, "BalancerReady")
        self._judge_takeover(standby)
        commands.run("up", ["ip", "link", "set", "n2-eth0", "up"])
        standby.wait_in_force(is_kind("RestoreNode", node="n2"))
        self.send_flows("n2 back", LATE)
        standby.end(signal.SIGKILL)
        self.send_flows("old flows, both dead", OLD)
        self.send_flows("new flows, both dead", range(40_000, 40_200), packets=2)
        self.notifier.end()
        return self.seen

    def _judge_takeover(self, standby: Balancer) -> None:
        ready = next(record for record in standby.records if is_kind("BalancerReady")(record))
        self.seen["reason"] = next(r["reason"] for r in standby.records if r["kind"] == "ControllerTookOver")
        self.seen["slots after"] = ready["slots"]
        self.seen["said before"] = [r["kind"] for r in standby.records[: standby.records.index(ready)]]
        self.send_flows("after", OLD)
        self.send_flows("new", NEW, packets=2)


class Hanging(PairTrial):
    def run(self) -> dict[str, Any]:
        primary, standby = self.begin()
        self.send_flows("before", OLD)
        os.kill(primary.pid, signal.SIGSTOP)
        os.waitpid(primary.pid, os.WUNTRACED)  # it stands still from here on
        stopped_ns = self.config.now_ns()
        self.seen["meanwhile"] = self.send_until(standby, "BalancerReady")
        self.seen["reason"] = next(r["reason"] for r in standby.records if r["kind"] == "ControllerTookOver")
        told = len(primary.records)
        os.kill(primary.pid, signal.SIGCONT)
        primary.wait_for(is_kind("ControllerDeposed"))
        said = [(record["t_ns"], record["kind"]) for record in primary.records[told:]]
        self.seen["said on waking"] = [kind for t_ns, kind in said if t_ns >= stopped_ns]
        self.seen["under way"] = len({t_ns for t_ns, _ in said if t_ns < stopped_ns})
        self.send_flows("after", OLD)
        self.notifier.limit_bytes = {"n1": 4 * MB, "n2": 2 * MB, "n3": 2 * MB}
        standby.wait_in_force(shares(32, 16, 16))
        self.notifier.end()
        self.seen["statuses"] = [primary.end(signal.SIGTERM), standby.end(signal.SIGTERM)]
        return self.seen


class Returning(PairTrial):
    """A primary that hangs until its connection is gone wakes up and connects again, full of what was true before."""

    def run(self) -> dict[str, Any]:
        primary, standby = self.begin()
        os.kill(primary.pid, signal.SIGSTOP)
        os.waitpid(primary.pid, os.WUNTRACED)
        standby.wait_for(is_kind("BalancerReady"))
        self.notifier.speaking = {"n2", "n3"}
        standby.wait_in_force(is_kind("RemoveNode", node="n1"))
        self._listen_to(STANDBY_PORT)  # what the switch does by itself when the primary has not answered for long
        self._listen_to(LISTEN_PORT, STANDBY_PORT)
        os.kill(primary.pid, signal.SIGCONT)
        primary.wait_for(is_kind("ControllerDeposed"))
        time.sleep(REVALIDATION_S)
        self.send_flows("new", NEW)
        self.notifier.speaking = set(NODES)
        standby.wait_in_force(is_kind("RestoreNode", node="n1"))
        self.send_flows("n1 back", LATE)
        told = len(standby.records)
        self._listen_to(LISTEN_PORT)
        self._listen_to(LISTEN_PORT, STANDBY_PORT)
        standby.wait_for(is_kind("BalancerReady"), since=told)
        self.notifier.end()
        self.seen["kinds"] = [record["kind"] for record in primary.records]
        self.seen["statuses"] = [primary.end(signal.SIGTERM), standby.end(signal.SIGTERM)]
        return self.seen

    def _listen_to(self, *ports: int) -> None:
        commands.run("controllers", ["ovs-vsctl", "set-controller", "s1", *(f"tcp:127.0.0.1:{port}" for port in ports)])
        time.sleep(REVALIDATION_S)


@pytest.fixture(scope="module", params=FRAMEWORKS)
def returning(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    logs = tmp_path_factory.mktemp("logs")
    return run_in_sandbox(lambda: Returning(logs, request.param))


@pytest.fixture(scope="module", params=FRAMEWORKS)
def deaths(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    logs = tmp_path_factory.mktemp("logs")
    return run_in_sandbox(lambda: Deaths(logs, request.param))


@pytest.fixture(scope="module", params=FRAMEWORKS)
def hanging(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    logs = tmp_path_factory.mktemp("logs")
    return run_in_sandbox(lambda: Hanging(logs, request.param))


def test_the_standby_notices_the_death_and_has_said_nothing_before(deaths: dict[str, Any]) -> None:
    assert deaths["reason"] == "died"
    assert deaths["said before"][:2] == ["StandbyReady", "ControllerTookOver"]


@pytest.mark.parametrize("name", ["meanwhile", "new", "n2 back", "old flows, both dead", "new flows, both dead"])
def test_no_packet_is_lost_whoever_dies(deaths: dict[str, Any], name: str) -> None:
    assert deaths[name]["arrived"] == deaths[name]["sent"] > 0


def test_the_standby_goes_on_with_the_slots_of_the_primary(deaths: dict[str, Any]) -> None:
    assert deaths["slots after"] == deaths["slots before"]


def test_no_flow_moves_at_a_takeover_nor_when_both_are_dead(deaths: dict[str, Any]) -> None:
    assert deaths["after"]["nodes"] == deaths["before"]["nodes"]
    assert deaths["old flows, both dead"]["nodes"] == deaths["before"]["nodes"]


def test_the_standby_knows_who_was_removed_and_brings_it_back(deaths: dict[str, Any]) -> None:
    assert set(deaths["new"]["nodes"].values()) == {"n1", "n3"}
    assert set(deaths["n2 back"]["nodes"].values()) == set(NODES)


def test_a_hanging_primary_is_replaced(hanging: dict[str, Any]) -> None:
    assert hanging["reason"] == "hung"
    assert hanging["meanwhile"]["arrived"] == hanging["meanwhile"]["sent"] > 0


def test_a_primary_that_wakes_up_too_late_touches_nothing(hanging: dict[str, Any]) -> None:
    assert hanging["said on waking"] == ["StandbyLost", "ControllerDeposed"]
    assert hanging["under way"] <= 1  # the input that it was stopped in; the switch refuses what that leads to
    assert hanging["after"]["nodes"] == hanging["before"]["nodes"]
    assert hanging["statuses"] == [0, 0]


def test_a_primary_that_comes_back_over_a_new_connection_orders_nothing(returning: dict[str, Any]) -> None:
    assert returning["new"]["arrived"] == returning["new"]["sent"]
    assert set(returning["new"]["nodes"].values()) == {"n2", "n3"}  # n1 was removed while the primary stood still
    assert returning["kinds"].count("BalancerReady") == 1
    assert returning["statuses"] == [0, 0]


def test_the_standby_steers_on_and_is_granted_its_role_on_every_connection(returning: dict[str, Any]) -> None:
    assert set(returning["n1 back"]["nodes"].values()) == set(NODES)
