"""Faults as data: what a scenario may ask for, what they cost, and what the summary makes of them."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyroute2 import IPRoute
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import ARP, Ether

from testbed.controllers.liveness import MeshAccess, MeshReceiver
from testbed.emulation.dataplane.link_meter import LinkMeter
from testbed.emulation.dataplane.xdp import NodeProgram
from testbed.emulation.faults.hogs import Hogs
from testbed.emulation.network import shaping
from testbed.emulation.processes.shared_state import NodeState, SharedState
from testbed.errors import InputError
from testbed.policies.membership import BALANCER
from testbed.records.events import NodeLeft, NotifyBalancer, SendSuspicions
from testbed.results.failover import Failure, FaultLines, failover_section, failures
from testbed.scenario.fault import FaultSpec
from testbed.scenario.fault_timeline import astray, timeline
from testbed.scenario.loading import load
from testbed.scenario.mesh import MeshSpec
from testbed.system import places
from testbed.units import NS_PER_MS, NS_PER_S
from testbed.wire.mesh_messages import Codec
from tests import sealed
from tests.own_network import in_own_network, veth

XDP_DROP, XDP_PASS = 1, 2
BASE = (places.scenarios() / "smoke.yaml").read_text(encoding="utf-8")


def faults(folder: Path, lines: str) -> Any:
    path = folder / "faults.yaml"
    path.write_text(f"{BASE}faults:\n{lines}", encoding="utf-8")
    return load(path)


# ------------------------------------------------------------------------------------------------------- scenario


def test_every_kind_is_read(tmp_path: Path) -> None:
    lines = """
  - {at: 1s, crash: n2}
  - {at: 1s, link_down: s1-n3}
  - {at: 1s, partition: [[n1], [n2, n3]], for: 1s}
  - {at: 1s, kill: controller}
  - {at: 1s, pause: n1, for: 30ms}
  - {at: 1500ms, restart: n2}
  - {at: 1500ms, link_up: s1-n3}
  - {at: 1s, flap: s1-n1, period: 100ms, for: 1s}
  - {at: 1s, loss: s1-n2, ratio: 0.01}
  - {at: 1s, cpu_hog: 2, for: 500ms}
"""
    read = faults(tmp_path, lines).scenario
    assert [(fault.kind, fault.node) for fault in read.faults] == [
        ("crash", "n2"),
        ("link_down", "n3"),
        ("partition", ""),
        ("kill", ""),
        ("pause", "n1"),
        ("restart", "n2"),
        ("link_up", "n3"),
        ("flap", "n1"),
        ("loss", "n2"),
        ("cpu_hog", ""),
    ]
    assert read.model_validate(read.resolved()) == read


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{at: 1s, crash: n9}", "no node 'n9'"),
        ("{at: 9s, crash: n1}", "after the end of the run"),
        ("{at: 1s, link_down: s2-n1}", "no link 's2-n1'"),
        ("{at: 1s, link_down: s1-n7}", "no node 'n7'"),
        ("{at: 1s, partition: [[n1], [n2]]}", "every node exactly once"),
        ("{at: 1s, partition: [[n1, n2, n3]]}", "does not divide the nodes"),
        ("{at: 1s}", "exactly one of"),
        ("{at: 1s, crash: n1, pause: n2}", "exactly one of"),
        ("{at: 1s, pause: n1}", "pause needs for; add for: 30ms"),
        ("{at: 1s, kill: controller, for: 1s}", "kill does not take for"),
        ("{at: 1s, restart: n1, for: 1s}", "restart does not take for"),
        ("{at: 1s, flap: s1-n1, for: 1s}", "add period: 400ms"),
        ("{at: 1s, flap: n1, for: 1s, period: 1s}", "no link 'n1'"),
        ("{at: 1s, loss: s1-n1}", "add ratio: 0.01"),
        ("{at: 1s, loss: s1-n1, ratio: 1.5}", "faults.0.ratio"),
        ("{at: 1s, crash: n1, ratio: 0.5}", "crash does not take ratio"),
        ("{at: 1s, cpu_hog: 2}", "cpu_hog needs for; add for: 2s"),
        ("{at: 1s, restart: n1}", "n1 is running at that time; give a time after the crash"),
        ("{at: 1s, link_up: s1-n1}", "s1-n1 is up at that time; give a time after the link_down"),
        ("{at: 1s, kill: switch}", "faults.0.kill"),
    ],
)
def test_what_cannot_be_is_refused_with_its_line(tmp_path: Path, line: str, said: str) -> None:
    with pytest.raises(InputError) as refused:
        faults(tmp_path, f"  - {line}\n")
    assert said in str(refused.value)
    assert "faults.yaml:26" in str(refused.value)


@pytest.mark.parametrize(
    ("standby", "kills", "refused"),
    [
        (False, ["controller"], False),
        (False, ["controller", "controller"], True),
        (True, ["controller", "controller"], False),
        (True, ["controllers", "controller"], True),
    ],
)
def test_only_controllers_that_live_can_be_killed(
    tmp_path: Path, standby: bool, kills: list[str], refused: bool
) -> None:
    lines = [f"  - {{at: {1000 + 100 * n}ms, kill: {target}}}\n" for n, target in enumerate(kills)]
    text = "".join(lines) + ("controller: {standby: true}\n" if standby else "")
    if not refused:
        assert len(faults(tmp_path, text).scenario.faults) == len(kills)
        return
    with pytest.raises(InputError, match="no controller is left at that time"):
        faults(tmp_path, text)


def specs(*faults: dict[str, Any]) -> tuple[FaultSpec, ...]:
    return tuple(FaultSpec.model_validate(fault) for fault in faults)


def test_faults_end_after_their_length_or_by_what_heals_them() -> None:
    found = timeline(
        specs(
            {"at": "5s", "restart": "n1"},
            {"at": "1s", "crash": "n1"},
            {"at": "2s", "link_down": "s1-n1", "for": "3s"},
            {"at": "9s", "crash": "n1"},
            {"at": "5s", "pause": "n2", "for": "1s"},
        )
    )
    assert [(step.at_ns // NS_PER_S, step.begins, step.fault) for step in found] == [
        (1, True, 1),
        (2, True, 2),
        (5, False, 1),
        (5, False, 2),
        (5, True, 4),
        (6, False, 4),
        (9, True, 3),
    ]


def test_a_flap_goes_down_once_a_period_and_ends_up() -> None:
    found = timeline(specs({"at": "1s", "flap": "s1-n1", "period": "400ms", "for": "900ms"}))
    assert [(step.at_ns // NS_PER_MS, step.begins, step.turn) for step in found] == [
        (1000, True, 0),
        (1200, False, 0),
        (1400, True, 1),
        (1600, False, 1),
        (1800, True, 2),
        (1900, False, 2),
    ]
    again = {"at": "1500ms", "link_down": "s1-n1"}
    assert [n for n, _ in astray(specs({"at": "1s", "flap": "s1-n1", "period": "400ms", "for": "900ms"}, again))] == [1]


@pytest.mark.parametrize("fault", ["link_down: s1-n1", "flap: s1-n1, period: 400ms, for: 800ms", "crash: n1"])
def test_any_fault_may_be_beside_tcp(tmp_path: Path, fault: str) -> None:
    tcp = "traffic:\n  - {name: bulk, from: c1, shape: tcp}\n"
    path = tmp_path / "faults.yaml"
    path.write_text(BASE.replace("traffic:\n", tcp) + f"faults:\n  - {{at: 1s, {fault}}}\n", encoding="utf-8")
    assert len(load(path).scenario.faults) == 1


def test_what_is_broken_cannot_break_again_before_it_heals() -> None:
    crash, again = {"at": "1s", "crash": "n1"}, {"at": "2s", "crash": "n1"}
    assert [n for n, _ in astray(specs(crash, again))] == [1]
    assert list(astray(specs({**crash, "for": "1s"}, again))) == []
    assert list(astray(specs(crash, {"at": "1500ms", "restart": "n1"}, again))) == []
    assert list(astray(specs(crash, {"at": "2s", "link_down": "s1-n1"}))) == []
    paused = [{"at": at, "pause": "n1", "for": "30ms"} for at in ("1s", "1010ms")]
    assert list(astray(specs(*paused))) == [(1, "n1 is paused already at that time")]


# -------------------------------------------------------------------------------------------------------- summary


def command(number: int, what: str, node: str, at_ms: int, for_ms: int | None = None) -> dict[str, Any]:
    for_ns = None if for_ms is None else for_ms * NS_PER_MS
    at_ns = at_ms * NS_PER_MS
    return {"kind": "FaultCommanded", "fault": number, "what": what, "nodes": [node], "t_commanded_ns": at_ns,
            "for_ns": for_ns, "t_ns": at_ns}  # fmt: skip


def line(kind: str, at_ms: int, **fields: Any) -> dict[str, Any]:
    return {"kind": kind, "t_ns": at_ms * NS_PER_MS, **fields}


def test_section_tells_times_from_the_command() -> None:
    section = failover_section(
        [
            command(0, "crash", "n2", 1000),
            line("NodeLeft", 1050, node="n2", reason="mesh"),
            line("RemoveNode", 1050, node="n2"),
            line("ActionsAcknowledged", 1054, removed=["n2"]),
            line("FaultObserved", 1002, fault=0, took_ms=2.0),
            line(
                "FaultLosses",
                5000,
                fault=0,
                lost_pkts=7,
                first_lost_ns=1001 * NS_PER_MS,
                last_lost_ns=1049 * NS_PER_MS,
                first_good_ns=1051 * NS_PER_MS,
            ),
        ]
    )
    assert section == {
        "count": 1,
        "detected_ms": {"p50": 50.0, "max": 50.0},
        "rerouted_ms": {"p50": 54.0, "max": 54.0},
        "recovered_ms": {"p50": 49.0, "max": 49.0},
        "lost_packets": 7,
        "false_suspicions": 0,
        "faults": [
            {
                "what": "crash",
                "nodes": ["n2"],
                "commanded_ms": 1000.0,
                "observed_ms": 2.0,
                "first_effect_ms": 1.0,
                "first_good_ms": 51.0,
                "last_lost_ms": 49.0,
                "lost_packets": 7,
                "detected_ms": 50.0,
                "rerouted_ms": 54.0,
                "verified": True,
            }
        ],
    }


def test_a_failure_nobody_noticed_leaves_no_times_that_could_pass_for_good_ones() -> None:
    section = failover_section([command(0, "crash", "n2", 1), command(1, "link_down", "n3", 2)])
    assert section is not None
    assert [fault.pop("verified") for fault in section.pop("faults")] == [False, False]
    assert section == {"count": 2, "false_suspicions": 0}


def test_a_takeover_counts_from_the_kill_to_the_pipeline_of_the_standby() -> None:
    first, second = command(0, "kill", "", 1000), command(1, "kill", "", 4000)
    section = failover_section(
        [
            line("BalancerReady", 0),
            first,
            line("ControllerTookOver", 1002, reason="died"),
            line("BalancerReady", 1012),
            second,
        ]
    )
    assert section is not None
    assert section["takeover_ms"] == {"p50": 12.0, "max": 12.0}
    assert "takeover_ms" not in (failover_section([first, second]) or {})


def test_each_failure_is_told_by_itself() -> None:
    told = failures(
        [
            command(0, "crash", "n2", 1000),
            line("NodeLeft", 1050, node="n2", reason="mesh"),
            command(1, "pause", "n1", 1100, 30),
            command(2, "link_down", "n3", 2000),
            line("FaultLosses", 5000, fault=2, lost_pkts=0, last_lost_ns=None),
        ]
    )
    assert told == [Failure("crash", "n2", 50.0, None, None, None), Failure("link_down", "n3", None, None, 0.0, 0)]


def test_suspicions_without_a_cause_are_false() -> None:
    def suspect(at_ms: int, node: str) -> dict[str, Any]:
        return line("NodeLeft", at_ms, node=node, reason="mesh")

    def false(*lines: dict[str, Any]) -> int:
        section = failover_section(lines)
        assert section is not None
        return int(section["false_suspicions"])

    assert false(suspect(10, "n1")) == 1
    assert false(suspect(10, "n1"), line("RemoveNode", 10, node="n1")) == 1
    assert false(line("RemoveNode", 10, node="n1")) == 1, "missing notifications tell the balancer, and nobody else"
    assert (
        false(line("NodeLeft", 10, node="n1", reason="port"), line("RemoveNode", 10, node="n1"), suspect(20, "n2")) == 1
    )
    assert false(command(0, "crash", "n1", 5), line("RemoveNode", 500, node="n1")) == 0
    assert false(command(0, "pause", "n1", 5, 30), suspect(60, "n1")) == 1
    assert false(command(0, "pause", "n1", 5, 300), suspect(60, "n1")) == 0
    assert false(command(0, "pause", "n1", 5, 300), suspect(60, "n2")) == 1
    assert false(command(0, "crash", "n1", 5), line("FaultHealed", 500, fault=0), suspect(900, "n1")) == 0
    assert false(command(0, "crash", "n1", 5), line("FaultHealed", 500, fault=0), suspect(1501, "n1")) == 1
    assert false(command(0, "crash", "n1", 50), suspect(20, "n1")) == 1
    assert failover_section([]) is None


def test_only_the_balancers_own_lines_are_kept() -> None:
    kept = FaultLines()
    lines = [line("NodeLeft", 1, node="n1", policy="deflection"), line("NodeLeft", 2, node="n1", policy="balancer")]
    assert list(kept.passing(lines)) == lines
    assert kept.lines == lines[1:]


# -------------------------------------------------------------------------------------------- the balancer's ear


def test_balancer_needs_two_and_takes_only_genuine_report() -> None:
    nodes, told = ("n1", "n2", "n3"), []
    access = MeshAccess(nodes, MeshSpec.model_validate({}))
    ear = MeshReceiver(access, sealed.ring(BALANCER, nodes), lambda _t, record: told.append(record))
    times = itertools.count()
    ends = {name: Codec(sealed.ring(name, nodes), lambda: next(times)) for name in ("n1", "n3")}

    def word(end: Codec, silent: int) -> bytes:
        ((_, datagram),) = end.datagrams(
            [SendSuspicions(to=(BALANCER,), nodes=("n2",), incarnation=np.array([1]), silent=np.array([silent]))]
        )
        return datagram

    assert [ear.hear(word(end, 0), 0) for end in ends.values()] == [[], []]
    first = word(ends["n1"], 1)
    assert ear.hear(first, 1) == []
    assert ear.hear(first, 2) == []
    forger = Codec(sealed.ring("n3", nodes, secret=sealed.SECRET[::-1]), lambda: next(times))
    assert ear.hear(word(forger, 1), 3) == []
    assert ear.hear(word(ends["n3"], 1), 4) == [NodeLeft(node="n2", reason="mesh")]
    assert (ear.ignored["replayed"], ear.ignored["forged"]) == (1, 1)
    assert [record["kind"] for record in told] == ["SuspicionsChanged"] * 4


def test_mesh_messages_are_told_from_notifications() -> None:
    none = np.zeros(0, np.int64)
    codec = Codec(sealed.ring("n1", ("n1",)), lambda: 0)
    ((_, datagram),) = codec.datagrams([SendSuspicions(to=(BALANCER,), nodes=(), incarnation=none, silent=none)])
    assert MeshReceiver.concerns(datagram)
    one = np.ones(1, dtype=np.int64)
    news = NotifyBalancer(
        nodes=("n1",),
        limit_bytes=one,
        backlog_bytes=one,
        predicted_bytes=one,
        severity_ratio=np.zeros(1),
        arrived_bps=one,
    )
    assert not MeshReceiver.concerns(sealed.Notifying(("n1",))(news))
    assert not MeshReceiver.concerns(b"")


def test_shared_state_is_whole_or_absent() -> None:
    shared = SharedState()
    assert shared.read() is None
    state = NodeState(5, 1, 2, 3, 0.5)
    shared.publish(state)
    assert shared.read() == state
    shared._words[0] |= 1  # a writer was killed while it wrote
    assert shared.read() is None
    shared.publish(state)
    assert shared.read() == state


# --------------------------------------------------------------------------------------------------------- kernel


@pytest.mark.requires("root")
def test_discarding_a_queue_counts_every_packet_and_a_new_one_holds_again() -> None:
    def body() -> None:
        veth("va", "vb")
        shaping.shape("va", 8000, 10**6)
        reader = shaping.QdiscReader("va")
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
            sender.bind(("va", 0x800))
            for _ in range(50):
                sender.send(bytes.fromhex("020000000001020000000002") + b"\x08\x00" + bytes(986))
        waiting = reader.read().backlog_pkts
        shaping.discard_queue("va")
        after = reader.read()
        shaping.renew_queue("va")
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
            sender.bind(("va", 0x800))
            for _ in range(20):
                sender.send(bytes.fromhex("020000000001020000000002") + b"\x08\x00" + bytes(986))
        seen.append((waiting, after.backlog_pkts, after.dropped_pkts, reader.read().backlog_pkts))
        reader._socket.close()

    seen: list[tuple[int, int, int, int]] = []
    in_own_network(body)
    ((waiting, left, dropped, renewed),) = seen
    assert waiting > 40
    assert left == 0
    assert waiting <= dropped <= 50, "and nothing else; the kernel's own frames may have joined the queue"
    assert renewed >= 20


@pytest.mark.requires("root", "bpf")
def test_crashed_node_passes_nothing_and_counts_what_it_would_have_queued() -> None:
    to_vip = bytes(Ether(dst="02:02:00:00:00:01") / IP(src="10.0.16.2", dst="10.0.0.100") / UDP(sport=1, dport=9000))
    arp = bytes(Ether(dst="ff:ff:ff:ff:ff:ff") / ARP(pdst="10.0.32.2"))
    with NodeProgram(10**8, 0, 10**6) as node:
        assert [node.run(packet).verdict for packet in (to_vip, arp)] == [XDP_PASS, XDP_PASS]
        node.set_crashed(True)
        assert [node.run(packet, 3).verdict for packet in (to_vip, arp)] == [XDP_DROP, XDP_DROP]
        assert node.fault_pkts().tolist() == [3, 0, 0, 0, 0, 0, 0, 0]
        assert node.snapshot().arrived_pkts == 1
        node.forget_queue()
        assert node.backlog_bytes(0) == 0
        node.set_crashed(False)
        assert node.run(to_vip).verdict == XDP_PASS


@pytest.mark.requires("root", "bpf")
def test_lossy_link_loses_its_share_and_the_same_packets_again() -> None:
    to_vip = bytes(Ether(dst="02:02:00:00:00:01") / IP(src="10.0.16.2", dst="10.0.0.100") / UDP(sport=1, dport=9000))
    arp = bytes(Ether(dst="ff:ff:ff:ff:ff:ff") / ARP(pdst="10.0.32.2"))

    def verdicts(ratio: float, seed: int, count: int = 400) -> list[int]:
        with NodeProgram(10**8, 0, 10**6) as node:
            node.set_loss(ratio, seed)
            found = [node.run(to_vip).verdict for _ in range(count)]
            assert node.run(arp).verdict == XDP_PASS
            lost = found.count(XDP_DROP)
            assert node.loss() == ((count, lost) if ratio else (0, 0))
            assert node.fault_pkts().tolist() == [lost, 0, 0, 0, 0, 0, 0, 0]
            assert node.snapshot().arrived_pkts == count - lost
            assert node.seen_pkts() == count + 1
            return found

    assert verdicts(0.25, 7) == verdicts(0.25, 7) != verdicts(0.25, 8)
    assert 70 <= verdicts(0.25, 7).count(XDP_DROP) <= 130
    assert set(verdicts(1.0, 7)) == {XDP_DROP}
    assert set(verdicts(0.0, 7)) == {XDP_PASS}


@pytest.mark.requires("root", "bpf")
def test_link_meter_counts_what_a_dead_link_is_given() -> None:
    def body() -> None:
        veth("va", "vb")
        with IPRoute() as netlink:
            meter = LinkMeter("va")
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
                sender.bind(("va", 0x800))
                for state in ("up", "down", "up"):
                    meter.cut(state == "down")
                    netlink.link("set", index=socket.if_nametoindex("vb"), state=state)
                    before = meter.given_pkts()
                    for _ in range(10):
                        sender.send(bytes(60))
                    seen.append(meter.given_pkts() - before)
        meter.close()

    seen: list[int] = []
    in_own_network(body)
    assert all(10 <= count <= 13 for count in seen), "and few frames of the kernel's own"
    assert len(seen) == 3


@pytest.mark.requires("root", "bpf")
def test_a_cut_link_swallows_what_it_is_given_and_counts_it() -> None:
    def body() -> None:
        veth("va", "vb")
        meter = LinkMeter("va")
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender, far_end() as receiver:
            sender.bind(("va", 0x800))
            for cut in (False, True, False):
                meter.cut(cut)
                before = meter.given_pkts()
                for _ in range(10):
                    sender.send(bytes(12) + b"\x88\xb5" + bytes(46))
                seen.append((meter.given_pkts() - before >= 10, received(receiver)))
        meter.close()

    def far_end() -> socket.socket:
        receiver = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.htons(0x88B5))
        receiver.bind(("vb", 0x88B5))
        return receiver

    def received(receiver: socket.socket) -> int:
        count = 0
        with contextlib.suppress(BlockingIOError):
            while receiver.recv(100):
                count += 1
        return count

    seen: list[tuple[bool, int]] = []
    in_own_network(body)
    assert seen == [(True, 10), (True, 0), (True, 10)]


@pytest.mark.requires("root")
def test_hogs_burn_until_they_end() -> None:
    hogs = Hogs(2)
    pids = list(hogs.pids)
    deadline = time.monotonic() + 20
    while not all(hogs.burnt_s()) and time.monotonic() < deadline:
        os.sched_yield()
    assert all(hogs.burnt_s())
    hogs.end()
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
