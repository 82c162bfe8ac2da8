"""A cluster outside Mininet: the processes of the containers, each in a network namespace of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from testbed.deployment.external_scaler import SERVICE, Messages
from testbed.system import kernel
from tests.balancer_on_ovs import run_in_sandbox
from tests.pods import Pods, Traffic


class Course:
    """Starts everything, kills a node, drains another one, and notes what was seen."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def run(self) -> dict[str, Any]:
        pods = Pods(self._folder)
        try:
            return self._seen(pods)
        except BaseException as error:
            logs = {name: pods.log(name) for name in pods.processes}
            raise AssertionError(f"{error!r}; {json.dumps(logs, indent=1)}") from error
        finally:
            pods.end()

    def _seen(self, pods: Pods) -> dict[str, Any]:
        pods.start_rest()
        pods.start_balancer()
        for number in range(3):
            pods.start_node(number)
        pods.wait_ready("balancer", "n0", "n1", "n2")
        traffic, seen = Traffic(pods.pid("client"), pods.pid("backend")), dict[str, Any]()
        traffic.run(2.0)
        seen["flows"] = {"sent": len(traffic.sent_ns), "lost": traffic.lost(), "unanswered": traffic.unanswered()}
        seen["arrived"] = [self._value(pods, f"n{number}", "testbed_node_arrived_packets_total") for number in range(3)]
        seen["scaler"] = self._asked_scaler(pods)
        seen["health"] = [pods.asked(name, "/healthz") for name in ("balancer", "n0")]
        seen["kill"] = self._kill(pods, traffic)
        seen["drain"] = self._drain(pods, traffic)
        return seen

    def _drain(self, pods: Pods, traffic: Traffic) -> dict[str, Any]:
        first = len(traffic.sent_ns)
        traffic.run(4.0, lambda: pods.drain("n2"))
        pods.processes["n2"].wait(timeout=20)
        return {
            "lost": traffic.lost(first),
            "status": pods.processes["n2"].returncode,
            "sent": len(traffic.sent_ns) - first,
        }

    def _kill(self, pods: Pods, traffic: Traffic) -> dict[str, Any]:
        first = len(traffic.sent_ns)
        killed_ns = traffic.run(3.0, lambda: pods.kill("n1"))
        lost = traffic.lost(first)
        outage_ms = max((traffic.sent_ns[key] - killed_ns for key in lost), default=0) / 1e6
        moved = not traffic.lost(len(traffic.sent_ns) - 500)  # of the last second
        return {
            "lost": len(lost),
            "outage_ms": outage_ms,
            "sent": len(traffic.sent_ns) - first,
            "moved": moved,
            "removed": self._value(pods, "balancer", "testbed_balancer_nodes_removed_total"),
        }

    def _value(self, pods: Pods, name: str, metric: str) -> float:
        _, text = pods.asked(name, "/metrics")
        return next((float(line.split()[-1]) for line in text.splitlines() if line.startswith(metric + "{")), -1.0)

    def _asked_scaler(self, pods: Pods) -> list[tuple[str, float]]:
        import grpc

        messages = Messages()
        with kernel.network_of(pods.pid("balancer")), grpc.insecure_channel("127.0.0.1:9465") as channel:
            ask = channel.unary_unary(
                f"/{SERVICE}/GetMetrics",
                request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=messages["GetMetricsResponse"].FromString,
            )
            answer = ask(messages["GetMetricsRequest"](metricName="any"), timeout=5)
        return [(value.metricName, value.metricValueFloat) for value in answer.metricValues]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("pods")
    return run_in_sandbox(lambda: Course(folder))  # type: ignore[arg-type, return-value]


pytestmark = pytest.mark.requires("root", "bpf", "ovs")


def test_every_packet_of_a_client_reaches_the_backend_and_is_answered(seen: dict[str, Any]) -> None:
    assert seen["flows"]["sent"] > 800
    assert seen["flows"]["lost"] == []
    assert seen["flows"]["unanswered"] == []


def test_the_flows_are_spread_over_all_nodes(seen: dict[str, Any]) -> None:
    assert min(seen["arrived"]) > 0
    assert sum(seen["arrived"]) >= seen["flows"]["sent"]


def test_the_autoscaler_answers_how_many_nodes_it_wants(seen: dict[str, Any]) -> None:
    assert seen["scaler"] == [["testbed-wanted-nodes", 1.0]], "the load needs one"


def test_probes_say_that_the_loops_come_round(seen: dict[str, Any]) -> None:
    assert seen["health"] == [[200, "ok\n"], [200, "ok\n"]]


def test_a_node_that_is_asked_to_end_loses_nothing(seen: dict[str, Any]) -> None:
    assert seen["drain"]["sent"] > 1500
    assert seen["drain"]["lost"] == []
    assert seen["drain"]["status"] == 0


def test_flows_of_a_node_that_is_killed_move_to_the_others(seen: dict[str, Any]) -> None:
    assert seen["kill"]["lost"] < seen["kill"]["sent"] / 10
    assert seen["kill"]["moved"], seen["kill"]
    assert seen["kill"]["removed"] >= 1, "by the balancer"
