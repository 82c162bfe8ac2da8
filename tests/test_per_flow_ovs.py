"""The policy `per-flow` on a real Open vSwitch: every flow is asked about, and the switch's books tell what was lost.

One trial, run once a framework.
"""

from __future__ import annotations

import signal
from typing import Any

import pytest

from testbed.controllers.pipeline import ANSWERED_COOKIE
from tests.balancer_on_ovs import NODES, Balancer, Trial, alone, is_kind, run_in_sandbox

pytestmark = pytest.mark.requires("root", "ovs")

FLOWS = range(10_000, 10_050)


class PerFlowTrial(Trial):
    POLICY = "per-flow"

    def run(self) -> dict[str, Any]:
        balancer = alone(self.config, self.notify_socket)
        balancer.wait_for(is_kind("BalancerReady"))
        self.ovs.widen_buffers("s1", "s1-c1")
        self.ovs.count_packet_ins("s1")
        self.notifier.start()
        self._send_gently("first", FLOWS)
        self._send_gently("again", FLOWS)
        self._send_gently("ipv6 tcp", range(20_000, 20_050), kind="tcp", ip6=True)
        balancer.wait_for(lambda _: self._placed(balancer) == 2 * len(FLOWS))
        balancer.end(signal.SIGKILL)
        self.send_flows("old flows, controller dead", FLOWS)
        self.send_flows("new flows, controller dead", range(30_000, 30_050))
        self.notifier.end()
        self.seen["asked"] = self.ovs.packet_ins("s1")
        self.seen["answered"] = self.ovs.matched_pkts("s1", ANSWERED_COOKIE)
        self.seen["placed"] = self._placed(balancer)
        return self.seen

    def _send_gently(self, name: str, flows: range, **kind: Any) -> None:
        """Send a few flows at a time: the way to the controller may lose what comes all at once."""
        seen: dict[str, Any] = {"sent": 0, "arrived": 0, "nodes": {}}
        for first in range(flows.start, flows.stop, 10):
            self.send_flows(name, range(first, first + 10), **kind)
            part = self.seen[name]
            seen["sent"] += part["sent"]
            seen["arrived"] += part["arrived"]
            seen["nodes"] |= part["nodes"]
        self.seen[name] = seen

    def _placed(self, balancer: Balancer) -> int:
        return sum(record["kind"] == "PlaceFlow" for record in balancer.records)


@pytest.fixture(scope="module", params=["os-ken", pytest.param("ryu", marks=pytest.mark.requires("ryu"))])
def seen(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    logs = tmp_path_factory.mktemp("logs")
    return run_in_sandbox(lambda: PerFlowTrial(logs, request.param))


@pytest.mark.parametrize("name", ["first", "again", "ipv6 tcp"])
def test_every_packet_arrives_and_every_flow_has_one_node(seen: dict[str, Any], name: str) -> None:
    assert seen[name]["arrived"] == seen[name]["sent"]
    assert set(seen[name]["nodes"].values()) == set(NODES)
    assert seen["placed"] == 100


def test_a_flow_stays_where_it_was_placed(seen: dict[str, Any]) -> None:
    assert seen["again"]["nodes"] == seen["first"]["nodes"] == seen["old flows, controller dead"]["nodes"]


def test_what_nobody_answers_is_lost_and_the_switch_knows_how_much(seen: dict[str, Any]) -> None:
    parts = [part for part in seen.values() if isinstance(part, dict)]
    assert seen["new flows, controller dead"]["arrived"] == 0
    assert seen["asked"] - seen["answered"] == sum(part["sent"] - part["arrived"] for part in parts) >= 50
