"""The sender: what it hands to the kernel, when, and whether its report is true.

Trials on a real interface run in a network namespace of their own: this file, run as a program with the name of a
trial, makes one, does the trial and writes what it found as JSON.
"""

from __future__ import annotations

import ctypes
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from testbed.emulation.processes import packet_socket, sender
from testbed.errors import MachineError, ToolError
from testbed.scenario.network import Host
from testbed.system import kernel
from testbed.traffic.frames import build_frames, read_probe
from testbed.traffic.plan import FlowTable, PacketPlan

ROOT = Path(__file__).resolve().parent.parent
CLIENT = Host("c1", "client")
NEAR, FAR = "c1-eth0", "far0"
RUN = 77
MS = 10**6


def _plan(count: int, gap_ns: int, sizes: tuple[int, ...] = (74, 1000, 1514)) -> PacketPlan:
    index = np.arange(count)
    source = (index % len(sizes)).astype(np.int16)
    names = tuple(f"s{k}" for k in range(len(sizes)))
    table = np.arange(len(sizes), dtype=np.int16)
    return PacketPlan(
        duration_ns=count * gap_ns + 1,
        clients=("c1",),
        sources=names,
        flows=FlowTable(table * 0, table, table + np.int32(10_000), table + np.int32(9_000)),
        t_ns=index.astype(np.int64) * gap_ns,
        source=source,
        flow=source.astype(np.int32),
        seq=(index // len(sizes)).astype(np.int32),
        size_bytes=np.array(sizes, np.int32)[source],
    )


# ------------------------------------------------------------------------------------------------ without a kernel


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Msghdr(ctypes.Structure):
    _fields_ = (
        *(("name", ctypes.c_void_p), ("namelen", ctypes.c_uint32)),
        *(("iov", ctypes.POINTER(_Iovec)), ("iovlen", ctypes.c_size_t)),
        *(("control", ctypes.c_void_p), ("controllen", ctypes.c_size_t), ("flags", ctypes.c_int)),
    )


class _Mmsghdr(ctypes.Structure):
    _fields_ = (("header", _Msghdr), ("length", ctypes.c_uint))


def test_the_kernel_structures_lead_to_the_frames() -> None:
    frames = build_frames(_plan(50, 1000), CLIENT, RUN)
    iovecs, messages = packet_socket.message_headers(frames)
    array = (_Mmsghdr * 50).from_address(messages.ctypes.data)
    assert messages.nbytes == ctypes.sizeof(array)
    for index, message in enumerate(array):
        header = message.header
        assert (header.name, header.namelen, header.control, header.controllen, header.flags) == (None, 0, None, 0, 0)
        parts = [ctypes.string_at(header.iov[k].base, header.iov[k].length) for k in range(header.iovlen)]
        assert b"".join(parts) == frames.frame(index)
    assert iovecs.nbytes == 50 * 32


def test_waiting_never_spins_when_packets_are_dense(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[int] = []
    monkeypatch.setattr(kernel, "sleep_until", slept.append)
    for ahead_ns in (1, 10_000, sender.SPIN_NS):
        sender._wait(10**18 + ahead_ns, 10**18)
    assert slept == [10**18 + sender.COALESCE_NS] * 3


def test_waiting_sleeps_to_just_before_the_instant(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[int] = []
    monkeypatch.setattr(kernel, "sleep_until", slept.append)
    monkeypatch.setattr(time, "monotonic_ns", lambda: 10**18)
    sender._wait(10**18, 10**18 - 30 * MS)
    assert slept == [10**18 - sender.SPIN_NS]
    assert sender.SPIN_NS <= 50_000


def test_waiting_long_wakes_up_now_and_then_to_be_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[int] = []
    monkeypatch.setattr(kernel, "sleep_until", slept.append)
    sender._wait(10**18 + 10**12, 10**18)
    assert slept == [10**18 + 50 * MS]


def test_more_than_memory_holds_is_refused() -> None:
    with pytest.raises(MachineError, match=r"preparing 1,000,000,000,000 packets: they take \d+.* GB are free"):
        sender._check_memory(10**12)


def test_the_worst_of_each_millisecond() -> None:
    worst = sender._worst_per_ms(np.array([0, 999_999, 1_000_000, 3_500_000]), np.array([5, 9, 2, 7]))
    assert worst.tolist() == [9, 2, 0, 7]
    assert len(sender._worst_per_ms(worst[:0], worst[:0])) == 0


# ---------------------------------------------------------------------------------------- trials, in a namespace


def _make_pair(mtu: int = 1500) -> socket.socket:
    """Make a veth pair and return a socket at its far end that keeps all that arrives."""
    from pyroute2 import IPRoute

    kernel.unshare(kernel.CLONE_NEWNET)
    with IPRoute() as netlink:
        netlink.link("add", ifname=NEAR, kind="veth", peer={"ifname": FAR})
        for name in (NEAR, FAR):
            netlink.link("set", index=netlink.link_lookup(ifname=name)[0], state="up", mtu=mtu)
    far = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    far.bind((FAR, 3))
    far.setsockopt(socket.SOL_SOCKET, 33, 2**26)
    return far


def _set_state(state: str) -> None:
    from pyroute2 import IPRoute

    with IPRoute() as netlink:
        netlink.link("set", index=netlink.link_lookup(ifname=NEAR)[0], state=state)


def _arrived(far: socket.socket) -> list[bytes]:
    far.setblocking(False)
    frames = []
    while True:
        try:
            frames.append(far.recv(2048))
        except BlockingIOError:
            return [frame for frame in frames if read_probe(frame)]


def _told(report: sender.SendReport) -> dict[str, Any]:
    """Return a report as plain values that fit through a pipe."""
    long = ("lateness", "worst_ns_per_ms", "sent", "stamps_ns")
    plain = {field.name: getattr(report, field.name) for field in fields(report) if field.name not in long}
    histogram = report.lateness
    return {
        **plain,
        "late_pkts": histogram.total,
        "late_p50": histogram.quantile_ns(0.5),
        "late_max": histogram.max_ns,
    }


def _trial_every_frame() -> dict[str, Any]:
    far, plan = _make_pair(), _plan(600, 100_000)
    one = sender.Sender(NEAR, plan, RUN, CLIENT)
    t0_ns = time.monotonic_ns() + 20 * MS
    report = one.run(t0_ns)
    end_ns = time.monotonic_ns()
    frames = _arrived(far)
    probes = [probe for frame in frames if (probe := read_probe(frame))]
    lateness = [probe.sent_ns - t0_ns - probe.planned_ns for probe in probes]
    return {
        "report": _told(report),
        "same_bytes": frames == [one.frames.frame(index) for index in range(len(plan))],
        "runs": sorted({probe.run for probe in probes}),
        "stamps_ascend": all(a.sent_ns <= b.sent_ns for a, b in itertools.pairwise(probes)),
        "earliest_ns": min(lateness),
        "within": max(probe.sent_ns for probe in probes) <= end_ns,
        "stamped_worst_ns": max(lateness),
        "per_ms": len(report.worst_ns_per_ms),
        "total_bytes": plan.total_bytes,
    }


def _trial_late_start() -> dict[str, Any]:
    far = _make_pair()
    report = sender.Sender(NEAR, _plan(3000, 0), RUN, CLIENT).run(time.monotonic_ns() - 50 * MS)
    return {"report": _told(report), "arrived": len(_arrived(far))}


def _trial_sigterm() -> dict[str, Any]:
    far = _make_pair()
    one = sender.Sender(NEAR, _plan(60_000, MS), RUN, CLIENT)
    handler = signal.getsignal(signal.SIGTERM)
    threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGTERM)).start()
    report = one.run(time.monotonic_ns())
    early = sender.Sender(NEAR, _plan(60_000, MS), RUN, CLIENT)
    early.stop()
    frames = _arrived(far)
    return {
        "report": _told(report),
        "early": _told(early.run(time.monotonic_ns())),
        "arrived": len(frames),
        "arrived_bytes": sum(len(frame) for frame in frames),
        "handler_restored": signal.getsignal(signal.SIGTERM) is handler,
    }


def _trial_interface_down() -> dict[str, Any]:
    far = _make_pair()
    sender.GIVE_UP_NS = 20 * MS
    one = sender.Sender(NEAR, _plan(400, MS), RUN, CLIENT)
    _set_state("down")
    threading.Timer(0.2, lambda: _set_state("up")).start()
    report = one.run(time.monotonic_ns())
    frames = _arrived(far)
    size = sum(len(frame) for frame in frames)
    return {"report": _told(report), "arrived": len(frames), "arrived_bytes": size}


def _trial_frame_too_long() -> dict[str, Any]:
    far = _make_pair(mtu=900)
    report = sender.Sender(NEAR, _plan(300, 0, (500, 600, 1000)), RUN, CLIENT).run(time.monotonic_ns())
    return {"report": _told(report), "arrived": len(_arrived(far))}


def _trial_signs() -> dict[str, Any]:
    _make_pair()
    signs: list[int] = []
    t0_ns = time.monotonic_ns()
    sender.Sender(NEAR, _plan(23, 50 * MS), RUN, CLIENT, alive=lambda: signs.append(time.monotonic_ns())).run(t0_ns)
    return {"signs_ns": [t_ns - t0_ns for t_ns in signs]}


def _trial_real_time() -> dict[str, Any]:
    _make_pair()
    one = sender.Sender(NEAR, _plan(10, MS), RUN, CLIENT, priority=5)
    report = one.run(time.monotonic_ns())
    return {"report": _told(report), "policy": os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK}


def _trial_nothing_to_send() -> dict[str, Any]:
    _make_pair()
    report = sender.Sender(NEAR, _plan(9, 0).of_client("c7"), RUN, CLIENT).run(time.monotonic_ns())
    return {"report": _told(report)}


def _trial_no_interface() -> dict[str, Any]:
    _make_pair()
    try:
        sender.Sender("c9-eth0", _plan(9, 0), RUN, CLIENT)
    except ToolError as error:
        return {"error": str(error)}
    return {}


def _trial_no_permission() -> dict[str, Any]:
    _make_pair()
    os.setuid(65_534)
    try:
        sender.Sender(NEAR, _plan(9, 0), RUN, CLIENT)
    except MachineError as error:
        return {"error": str(error)}
    return {}


def _trial_prepare() -> dict[str, Any]:
    _make_pair()
    plan = _plan(200_000, 1000)
    started = time.process_time()
    sender.Sender(NEAR, plan, RUN, CLIENT)
    return {"cpu_s": time.process_time() - started}


def _run(trial: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    argv = [sys.executable, __file__, trial.__name__]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=environment, timeout=60)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.requires("root")
def test_every_frame_leaves_once_in_order_and_not_before_its_time() -> None:
    found = _run(_trial_every_frame)
    report = found["report"]
    assert found["same_bytes"]
    assert found["runs"] == [RUN]
    assert found["stamps_ascend"]
    assert found["within"]
    assert found["earliest_ns"] >= 0
    assert report["planned_pkts"] == report["sent_pkts"] == 600
    assert report["unsent_pkts"] == report["skipped_pkts"] == 0
    assert report["sent_bytes"] == found["total_bytes"]
    assert (report["stopped"], report["failure"]) == (False, "")
    assert report["late_pkts"] == 600
    assert report["late_max"] >= found["stamped_worst_ns"]
    assert found["per_ms"] == 60


@pytest.mark.requires("root")
def test_what_is_due_long_since_is_sent_at_once_and_reported_late() -> None:
    found = _run(_trial_late_start)
    assert found["report"]["sent_pkts"] == found["arrived"] == 3000
    assert found["report"]["late_p50"] >= 50 * MS


@pytest.mark.requires("root")
def test_sigterm_ends_it_with_a_true_report() -> None:
    found = _run(_trial_sigterm)
    report = found["report"]
    assert report["stopped"]
    assert report["sent_pkts"] == found["arrived"] == report["late_pkts"]
    assert 0 < report["sent_pkts"] < 60_000
    assert report["sent_pkts"] + report["skipped_pkts"] == 60_000
    assert report["sent_bytes"] == found["arrived_bytes"]
    assert found["handler_restored"]
    assert (found["early"]["stopped"], found["early"]["sent_pkts"]) == (True, 0), "it was stopped before it began"


@pytest.mark.requires("root")
def test_packets_refused_for_too_long_are_unsent_and_the_others_arrive() -> None:
    found = _run(_trial_interface_down)
    report = found["report"]
    assert report["refusals"]["ENETDOWN"] > 0
    assert report["unsent_pkts"] > 0
    assert report["sent_pkts"] == found["arrived"] == report["late_pkts"] > 0
    assert report["sent_bytes"] == found["arrived_bytes"]
    assert report["sent_pkts"] + report["unsent_pkts"] == 400
    assert not report["stopped"]


@pytest.mark.requires("root")
def test_a_frame_the_interface_cannot_take_ends_it_by_name() -> None:
    found = _run(_trial_frame_too_long)
    report = found["report"]
    assert "sending packet 2: Message too long (EMSGSIZE)" in report["failure"]
    assert report["sent_pkts"] == found["arrived"] == 2
    assert report["skipped_pkts"] == 298


@pytest.mark.requires("root")
def test_a_sender_gives_a_sign_of_life_each_second() -> None:
    (sign_ns,) = _run(_trial_signs)["signs_ns"]
    assert sign_ns >= 10**9


@pytest.mark.requires("root")
def test_a_fixed_priority_is_held_only_while_running() -> None:
    found = _run(_trial_real_time)
    assert found["report"]["real_time"]
    assert found["policy"] == os.SCHED_OTHER


@pytest.mark.requires("root")
def test_a_client_without_packets_reports_nothing_sent() -> None:
    report = _run(_trial_nothing_to_send)["report"]
    assert (report["planned_pkts"], report["sent_pkts"], report["sent_bytes"], report["stopped"]) == (0, 0, 0, False)


@pytest.mark.requires("root")
def test_an_unknown_interface_is_an_error_by_name() -> None:
    assert "opening a packet socket on c9-eth0: No such device" in _run(_trial_no_interface)["error"]


@pytest.mark.requires("root")
def test_without_the_right_it_says_so() -> None:
    assert "not permitted; run as root" in _run(_trial_no_permission)["error"]


@pytest.mark.requires("root")
def test_preparing_has_no_loop_over_packets() -> None:
    assert _run(_trial_prepare)["cpu_s"] < 2  # a Python loop over 200,000 packets would take longer


if __name__ == "__main__":
    sys.stdout.write(json.dumps(globals()[sys.argv[1]]()))
    sys.stdout.flush()
    os._exit(0)
