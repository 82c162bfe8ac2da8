"""What nodes and balancer need outside the emulation: their file, their names and addresses, what they answer."""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from testbed.controllers import pipeline
from testbed.controllers.table_numbers import Table
from testbed.deployment import tunnels
from testbed.deployment.balancer import balancer_config
from testbed.deployment.clock import ClusterClock
from testbed.deployment.cluster import Cluster, load, node_of
from testbed.deployment.discovery import Directory, Unknown
from testbed.deployment.external_scaler import Messages
from testbed.deployment.reporter import Reporter
from testbed.deployment.web import Gauges, answering, served
from testbed.emulation.processes.notifier import Notifier
from testbed.errors import InputError, ToolError
from testbed.openmetrics.live import LiveMetrics
from testbed.policies.balancer import make_balancer
from testbed.policies.base import require_progress
from testbed.policies.membership import BALANCER
from testbed.policies.readiness import KEEPALIVE_NS
from testbed.records.events import NodesNotified, NotifyBalancer, RestoreNode, StageOfLife, StagesAnnounced
from testbed.scenario.balancer import BalancerSpec
from testbed.units import NS_PER_S
from testbed.wire.mesh_messages import ORCHESTRATOR
from testbed.wire.node_report import Answer, Report, decode_answer, decode_report, encode_answer, encode_report
from testbed.wire.sealing import Channel, Opener, RunSecret, Sealer

FILE: dict[str, Any] = {
    "version": 1,
    "name": "demo",
    "nodes": 3,
    "node_host": "buffer-{number}.buffer",
    "balancer_host": "balancer",
    "backend_host": "backend",
    "rate": "100Mbit",
    "ports": [9000],
    "secret": "key",
    "buffer": {"policy": "reactive"},
}


ZERO = np.zeros(1, dtype=np.int64)
NOTICE = NotifyBalancer(
    nodes=("n0",), limit_bytes=ZERO, backlog_bytes=ZERO, predicted_bytes=ZERO, severity_ratio=np.zeros(1),
    arrived_bps=ZERO,
)  # fmt: skip


def written(folder: Path, **changed: Any) -> Path:
    path = folder / "cluster.yaml"
    path.write_text(yaml.safe_dump({**FILE, **changed}), encoding="utf-8")
    (folder / "key").write_bytes(bytes(range(32)))
    return path


# -------------------------------------------------------------------------------------------------------- its file


def test_a_file_says_who_there_is_and_where(tmp_path: Path) -> None:
    cluster = load(written(tmp_path))

    assert cluster.nodes == ("n0", "n1", "n2")
    assert cluster.host_of("n2") == "buffer-2.buffer"
    assert cluster.spec.controller.standby


def test_hosts_may_be_listed(tmp_path: Path) -> None:
    cluster = load(written(tmp_path, node_host=None, node_hosts=["a", "b", "c"]))

    assert cluster.host_of("n1") == "b"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"node_hosts": ["a", "b", "c"]}, "either node_host or node_hosts"),
        ({"node_host": "buffer"}, "does not contain {number}"),
        ({"node_host": None, "node_hosts": ["a"]}, "1 entries for 3 nodes"),
        ({"nodes": 201}, "200"),
        ({"ports": [0]}, "no port"),
        ({"ports": []}, "ports"),
        ({"rat": "1Mbit"}, "rate"),
        ({"buffer": {"policy": "oracle"}}, "oracle"),
        ({"buffer": {"policy": "reactive", "deflect": True}}, "deflect"),
        ({"buffer": {"policy": "reactive", "pool": "5MB"}}, "pool"),
        ({"autoscaler": {"policy": "oracle"}}, "oracle"),
        ({"balancer": {"policy": "per-flow"}}, "per-flow"),
        ({"mesh": {"dissemination": "gossip"}}, "gossip"),
        ({"vip": "fd00::1"}, "vip"),
        ({"vip": "host"}, "vip"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, changed: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        load(written(tmp_path, **changed))


def test_keys_are_of_the_secret_and_the_members(tmp_path: Path) -> None:
    path = written(tmp_path)
    one, other = load(path).ring("n0"), load(path).ring("n1")
    (tmp_path / "key").write_bytes(bytes(32))

    assert one.to["n1"] == other.of["n0"]
    assert load(path).ring("n0").to["n1"] != one.to["n1"]


def test_a_short_or_missing_secret_is_refused(tmp_path: Path) -> None:
    cluster = load(written(tmp_path))
    (tmp_path / "key").write_bytes(b"short")
    with pytest.raises(InputError, match="fewer than 32"):
        cluster.ring("n0")

    (tmp_path / "key").unlink()
    with pytest.raises(InputError, match="no such file"):
        cluster.ring("n0")


@pytest.mark.parametrize(
    ("given", "environment", "node"),
    [
        ("n1", {"POD_NAME": "buffer-2"}, "n1"),
        ("", {"POD_NAME": "buffer-2", "HOSTNAME": "x"}, "n2"),
        ("", {"TESTBED_NODE": "n0", "POD_NAME": "buffer-2"}, "n0"),
        ("", {"HOSTNAME": "buffer-0"}, "n0"),
        ("", {"HOSTNAME": "2"}, "n2"),
    ],
)
def test_a_node_is_known_by_its_pod(tmp_path: Path, given: str, environment: dict[str, str], node: str) -> None:
    assert node_of(load(written(tmp_path)), given, environment) == node


@pytest.mark.parametrize("name", ["", "buffer", "buffer-3", "buffer-x", "n1-"])
def test_a_name_that_is_none_of_the_nodes_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="TESTBED_NODE"):
        node_of(load(written(tmp_path)), name, {})


# ----------------------------------------------------------------------------------------------------- time and place


def test_the_clock_goes_on_from_the_time_of_day_without_its_steps() -> None:
    monotonic, day = [5_000], [1_000_000]
    clock = ClusterClock(lambda: monotonic[0], lambda: day[0])

    monotonic[0], day[0] = 6_000, 0

    assert clock.now_ns() == 1_001_000
    assert clock.t0_ns == -995_000


class Names:
    """A DNS; names without an address are not known."""

    def __init__(self, **ips: str) -> None:
        self.ips = ips

    def __call__(self, host: str) -> str:
        if host not in self.ips:
            raise OSError("not known")
        return self.ips[host]


def test_a_name_that_is_not_known_yet_is_like_a_host_that_is_down() -> None:
    directory = Directory({"n1": ("one", 7)}, Names())
    directory.look()

    with pytest.raises(Unknown):
        directory["n1"]
    with pytest.raises(KeyError):
        directory["n2"]
    assert isinstance(Unknown(), OSError)


def test_a_pod_that_is_replaced_is_found_and_a_silent_dns_forgets_nobody() -> None:
    names, changes = Names(one="10.0.0.1"), list[tuple[str, str]]()
    directory = Directory({"n1": ("one", 7)}, names)
    directory.on_change(lambda name, ip: changes.append((name, ip)))
    directory.look()
    directory.look()
    names.ips["one"] = "10.0.0.2"
    directory.look()
    del names.ips["one"]
    directory.look()

    assert directory["n1"] == ("10.0.0.2", 7)
    assert changes == [("n1", "10.0.0.1"), ("n1", "10.0.0.2")]


def test_what_could_not_follow_an_address_tries_again(capsys: pytest.CaptureFixture[str]) -> None:
    tries: list[str] = []

    def changed(_name: str, ip: str) -> None:
        tries.append(ip)
        if len(tries) == 1:
            raise ToolError("connecting the tunnel", "busy")

    directory = Directory({"n1": ("one", 7)}, Names(one="10.0.0.1"))
    directory.on_change(changed)
    directory.look()
    directory.look()
    directory.look()

    assert tries == ["10.0.0.1", "10.0.0.1"]
    assert "busy" in capsys.readouterr().err


def _ring(owner: str) -> Any:
    return RunSecret(bytes(range(32))).ring(owner, 7, ("n0", BALANCER, ORCHESTRATOR))


def _listening() -> socket.socket:
    line = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    line.bind(("127.0.0.1", 0))
    line.setblocking(False)
    return line


def test_notifications_follow_the_balancer() -> None:
    with _listening() as one, _listening() as other:
        where: list[Callable[[], tuple[str, int]]] = [_unknown, one.getsockname, other.getsockname]

        def balancer() -> tuple[str, int]:
            return where[0]()

        notifier = Notifier([(os.getpid(), _ring("n0"))], balancer, lambda: 1)
        notifier.begin()
        lost = [notifier.send(NOTICE)]
        for _ in range(2):
            del where[0]
            lost.append(notifier.send(NOTICE))

        assert lost == [["n0"], [], []]
        assert one.recv(1000)
        assert other.recv(1000)
        notifier.close()


def _unknown() -> tuple[str, int]:
    raise Unknown("not yet")


# ----------------------------------------------------------------------------------------------- reports and answers


def test_reports_and_answers_survive_the_way() -> None:
    report, answer = Report(True, 2**40, 2**50, 7), Answer(StageOfLife.DRAINING, 300)

    assert decode_report(encode_report(report)) == report
    assert decode_answer(encode_answer(answer)) == answer


@pytest.mark.parametrize("body", [b"", b"\1", bytes(26), b"\2" + bytes(25), b"\1\2" + bytes(24), b"\1\x09\0\0"])
def test_what_is_none_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match="no report of this version"):
        decode_report(body)
    with pytest.raises(ValueError, match="no answer of this version|is not a valid StageOfLife"):
        decode_answer(body)


def test_a_node_reports_in_intervals_and_takes_the_answer_that_is_meant_for_it() -> None:
    now = [10**9]
    with _listening() as roster:
        reporter = Reporter(_ring("n0"), roster.getsockname, lambda: Report(False, 1, 2, 3), lambda: now[0])
        reporter.turn()
        reporter.turn()
        datagram, sender = roster.recvfrom(1000)
        with pytest.raises(BlockingIOError):
            roster.recv(1000)
        opened = Opener(_ring(ORCHESTRATOR), Channel.REPORT).open(datagram)
        assert opened is not None
        assert decode_report(opened.body) == Report(False, 1, 2, 3)

        now[0] += 10**8
        seal = Sealer(_ring(ORCHESTRATOR), Channel.ANSWER, lambda: now[0]).seal
        ((_, answer),) = seal(encode_answer(Answer(StageOfLife.SERVING, 2)), ("n0",))
        to = ("127.0.0.1", sender[1])
        roster.sendto(b"nonsense", to)
        roster.sendto(answer, to)
        reporter.draining = True
        reporter.turn()

        assert reporter.answer == Answer(StageOfLife.SERVING, 2)
        assert reporter.unanswered_ns == 0
        opened = Opener(_ring(ORCHESTRATOR), Channel.REPORT).open(roster.recv(1000))
        assert opened is not None
        assert decode_report(opened.body).draining
        reporter.close()


# -------------------------------------------------------------------------------------------------------- the switch


def test_what_the_vip_answers_to_anybody_goes_to_the_gateway(tmp_path: Path) -> None:
    cluster: Cluster = load(written(tmp_path))
    ports = {name: number for number, name in enumerate((tunnels.GATEWAY_PORT, *cluster.nodes), start=1)}
    config = balancer_config(cluster, ports, ClusterClock())

    mods = pipeline.install(config, ("n0",) * 64, set(cluster.nodes))

    forward = [repr(mod) for mod in mods if getattr(mod, "table", None) == Table.FORWARD]
    answers = [mod for mod in forward if "'ipv4_src', '198.18.0.10'" in mod]
    assert len(answers) == 2, "one to the gateway itself, one to all who are behind it"
    assert sum("ipv4_dst" in mod for mod in answers) == 1


def test_addresses_are_translated_at_the_ports_of_the_service_alone() -> None:
    rules = tunnels.translation("198.18.0.10", (80, 443))

    assert "fib daddr type local udp dport { 80, 443 } dnat to 198.18.0.10" in rules
    assert "fib daddr type local tcp dport { 80, 443 } dnat to 198.18.0.10" in rules


# ----------------------------------------------------------------------------------------------------------- answers


def _asked(application: Any, path: str) -> tuple[str, bytes]:
    status: list[str] = []
    body = b"".join(application({"PATH_INFO": path}, lambda line, _headers: status.append(line)))
    return status[0] if status else "", body


def test_probes_say_why_not() -> None:
    why = ["late"]
    application = answering(lambda _environ, _start: [b"metrics"], {"/healthz": lambda: why[0], "/readyz": lambda: ""})

    assert _asked(application, "/healthz") == ("503 Service Unavailable", b"late\n")
    assert _asked(application, "/readyz") == ("200 OK", b"ok\n")
    assert _asked(application, "/metrics") == ("", b"metrics")
    why[0] = ""
    assert _asked(application, "/healthz")[0] == "200 OK"


def test_a_pod_serves_its_own_values_beside_those_of_its_processes() -> None:
    from urllib.request import urlopen

    metrics = LiveMetrics({"run": "demo"}, {}, 0, 10**9)
    metrics.append_columns({"t_ns": [3 * 10**9], "node": ["n0"], "backlog_bytes": [7.0]})
    gauges = Gauges({"run": "demo"}, [("testbed_nodes_wanted", "wanted", lambda: 3.0)])
    with served("127.0.0.1:0", metrics, gauges, str, str) as server, urlopen(str(server.address)) as got:
        text = got.read().decode()

    assert 'testbed_nodes_wanted{run="demo"} 3.0' in text
    assert 'testbed_node_backlog_bytes{node="n0",run="demo"} 7.0' in text
    assert 'testbed_run_time_seconds{run="demo"} 2.0' in text, "since the pod began, not since 1970"


ASKING_KEDA = """
import json, socket, sys
import grpc
from testbed.deployment.external_scaler import SERVICE, ExternalScaler, Messages
from testbed.errors import ToolError

wanted = [3]
scaler, messages, seen = ExternalScaler(lambda: wanted[0], "127.0.0.1:0"), Messages(), {}
channel = grpc.insecure_channel(f"127.0.0.1:{scaler.port}")

def asked(name, request, answer, of=channel.unary_unary):
    ask = of(
        f"/{SERVICE}/{name}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=messages[answer].FromString,
    )
    return ask(messages[request](), timeout=5)

seen["active"] = asked("IsActive", "ScaledObjectRef", "IsActiveResponse").result
(spec,) = asked("GetMetricSpec", "ScaledObjectRef", "GetMetricSpecResponse").metricSpecs
seen["spec"] = spec.metricName, spec.targetSize, spec.targetSizeFloat
wanted[0] = 5
(value,) = asked("GetMetrics", "GetMetricsRequest", "GetMetricsResponse").metricValues
seen["value"] = value.metricName, value.metricValue, value.metricValueFloat
stream = asked("StreamIsActive", "ScaledObjectRef", "IsActiveResponse", channel.unary_stream)
seen["stream"] = next(iter(stream)).result
stream.cancel()
with socket.socket() as taken:
    taken.bind(("127.0.0.1", 0))
    taken.listen()
    try:
        ExternalScaler(lambda: 1, f"127.0.0.1:{taken.getsockname()[1]}")
    except ToolError as error:
        seen["in use"] = str(error)
channel.close()
scaler.close()
json.dump(seen, sys.stdout)
"""


def test_keda_is_answered_what_the_policy_wants() -> None:
    """In a process of its own: one that has used gRPC cannot fork any more."""
    done = subprocess.run([sys.executable, "-c", ASKING_KEDA], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

    seen = json.loads(done.stdout)
    assert seen["active"] is True
    assert seen["spec"] == ["testbed-wanted-nodes", 1, 1.0]
    assert seen["value"] == ["testbed-wanted-nodes", 5, 5.0]
    assert seen["stream"] is True
    assert "external scaler" in seen["in use"]


def test_the_messages_are_those_of_keda() -> None:
    messages = Messages()
    reference = messages["ScaledObjectRef"](name="buffer", namespace="default", scalerMetadata={"a": "b"})

    assert reference.SerializeToString() == b"\n\x06buffer\x12\x07default\x1a\x06\n\x01a\x12\x01b"
    assert messages["MetricValue"](metricValueFloat=1.0).SerializeToString() == b"\x19" + bytes(6) + b"\xf0?"


@pytest.mark.parametrize("policy", ["ready-first", "round-robin", "cooperative", "hash"])
def test_a_balancer_begins_without_nodes_and_deals_slots_to_who_comes(policy: str) -> None:
    nodes = ("n0", "n1", "n2")
    balancer = make_balancer(BalancerSpec(policy=policy), nodes, random.Random(1), KEEPALIVE_NS, absent=nodes)
    said = dict.fromkeys(("limit_bytes", "backlog_bytes", "predicted_bytes", "arrived_bps"), ZERO)
    notice = NodesNotified(nodes=("n1",), severity_ratio=np.zeros(1), **said)
    now_ns = 10**18

    early = balancer.handle(notice, now_ns)
    require_progress("balancer", balancer, now_ns)
    stages = np.array([StageOfLife.ABSENT, StageOfLife.SERVING, StageOfLife.ABSENT])
    actions = balancer.handle(StagesAnnounced(nodes=nodes, stage=stages), now_ns + NS_PER_S)

    assert early == []
    assert RestoreNode(node="n1") in actions
    assert set(balancer.slots) == {"n1"}
