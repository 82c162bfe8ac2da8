"""What the node program costs a packet, a resize and a look, each beside its rivals.

Packets are given to the programs by BPF_PROG_TEST_RUN, which reports the mean time of a packet over a run, its own loop
included: the no-op program says how much that is here.  Runs are short and take turns, so that a slow phase of the
machine hits all alike; every figure is the median over the runs.  The floor of a program that needs the time is
"parse + clock": the same parser and one reading of the clock.

A resize is one store into a mapping shared with the kernel; its rivals change the limit of a qdisc, as a process and
by netlink.  Each is done many times and the 99th percentile taken.  All of it runs in a child process with a network
namespace of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from pyroute2 import IPRoute
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from testbed.bench import apart
from testbed.emulation.dataplane import libbpf
from testbed.emulation.dataplane.xdp import NodeProgram, SinkProgram
from testbed.emulation.network import shaping
from testbed.errors import ToolError
from testbed.scenario.network import VIP_IP, Host
from testbed.system import commands, kernel, places, probes
from testbed.traffic.frames import ProbeHeader
from testbed.traffic.numbers import PacketNumbers

Row = dict[str, Any]

NODE, CLIENT = Host("n1", "node"), Host("c1", "client")
_RATE_BPS = 10**12  # fast enough that the queue never fills: the whole way of an admitted packet
_LIMIT_BYTES = 10_000_000
_PACKET_BYTES = 1000
_RUN = 1
_ONE_PACKET = PacketNumbers(np.ones(1, dtype=np.int64))
_ROUNDS, _REPEAT = 60, 8_000
_RESIZES, _PROCESSES, _LOOKS = 5_000, 100, 2_000
_TEN_GBIT_64B_MPPS = 14.88
_INTERFACE = "probe0"
_ENVIRONMENT = probes.environment()
_CLOCK_MONOTONIC_COARSE = 6
_SHAPED_BPS, _BURST_BYTES = 100_000_000, 12_500


def run() -> list[Row]:
    """Measure, and return rows of name, value, unit, rival, rival_value, ratio (value / rival_value) and bar.

    Raises:
        TestbedError: what went wrong in the measuring process.
    """
    return apart.rows("testbed.bench.xdp")


def _measure(_folder: Path) -> list[Row]:
    """Measure in this process, whose network namespace becomes a new one."""
    kernel.unshare(kernel.CLONE_NEWNET)
    _make_shaped_interface()
    return _packet_rows() + _resize_rows() + _look_rows()


def _row(name: str, value: float, unit: str, rival: str, rival_value: float, bar: str = "") -> Row:
    return {
        **{"name": name, "value": round(value, 2), "unit": unit, "rival": rival},
        **{"rival_value": round(rival_value, 2), "ratio": float(f"{value / rival_value:.3g}"), "bar": bar},
    }


# ------------------------------------------------------------------------------------------------------ a packet


def _packet_rows() -> list[Row]:
    """Return what a packet costs; the node admits it."""
    noop, rivals = libbpf.BpfObject(places.bpf_object("pass")), libbpf.BpfObject(places.bpf_object("parse_only"))
    noop.load()
    rivals.load()
    with _node() as node, _node() as locked, SinkProgram(_RUN, _ONE_PACKET) as sink:
        locked.reload_locked()
        ns = _medians_ns(
            {
                "no-op": noop.program_fd("pass"),
                "parse": rivals.program_fd("parse_only"),
                "parse + clock": rivals.program_fd("parse_clock"),
                "parse + coarse clock": rivals.program_fd("parse_coarse_clock"),
                "node": node.program_fd,
                "node, spin lock": locked.program_fd,
                "sink": sink.program_fd,
            }
        )
        if node.snapshot().dropped_pkts or node.snapshot().arrived_pkts != _ROUNDS * _REPEAT:
            raise ToolError("measuring the node program", "it did not admit every packet", "report this")
    noop.close()
    rivals.close()
    cores = ns["node"] * _TEN_GBIT_64B_MPPS / 1e3
    coarse = f"a clock of {_tick_ms():g} ms"
    wanted = f"10 Gbit/s of 64 B: {1e3 / _TEN_GBIT_64B_MPPS:.0f} ns a packet, so {cores:.2f} cores"
    return [
        _row("xdp.node_packet", ns["node"], "ns", "no-op", ns["no-op"], "<= 50"),
        _row("xdp.node_packet", ns["node"], "ns", "parse", ns["parse"]),
        _row("xdp.node_packet", ns["node"], "ns", "parse + clock", ns["parse + clock"], "ratio <= 1.6"),
        _row("xdp.clock", ns["parse + clock"] - ns["parse"], "ns", coarse, ns["parse + coarse clock"] - ns["parse"]),
        _row("xdp.node_packet", ns["node"], "ns", "node with a spin lock", ns["node, spin lock"]),
        _row(
            "xdp.node_packet_without_the_test_loop",
            ns["node"] - ns["no-op"],
            "ns",
            "parse + clock, same",
            ns["parse + clock"] - ns["no-op"],
        ),
        _row("xdp.node_rate_of_a_core", 1e3 / ns["node"], "Mpps", wanted, _TEN_GBIT_64B_MPPS),
        _row("xdp.sink_packet", ns["sink"], "ns", "parse + clock", ns["parse + clock"]),
    ]


def _tick_ms() -> float:
    """Return how fine the coarse clock is: one tick of the kernel's timer."""
    return time.clock_getres(_CLOCK_MONOTONIC_COARSE) * 1e3


def _node() -> NodeProgram:
    """Return the program in a run that has begun."""
    local = [NODE.ip, NODE.ip6]
    node = NodeProgram(_RATE_BPS, 0, _LIMIT_BYTES, number=1, mac=NODE.mac, local_addresses=local, run=_RUN)
    node.begin(time.monotonic_ns())
    return node


def _frame() -> bytes:
    """Return a packet that has just been sent; a run is over before it counts as held, which is rare."""
    headers = (
        Ether(dst=NODE.mac, src=CLIENT.mac) / IP(src=CLIENT.ip, dst=VIP_IP) / UDP(sport=20_000, dport=9_000, chksum=0)
    )
    probe = ProbeHeader(run=_RUN, sent_ns=time.monotonic_ns())
    return bytes(headers / probe / Raw(bytes(_PACKET_BYTES - len(headers) - len(probe))))


def _medians_ns(programs: dict[str, int]) -> dict[str, float]:
    """Return the median time of a packet of each program; they take turns."""
    taken: dict[str, list[int]] = {name: [] for name in programs}
    for _ in range(_ROUNDS):
        for name, descriptor in programs.items():
            taken[name].append(libbpf.run_packet(descriptor, _frame(), _REPEAT).ns_per_run)
    return {name: float(median(values)) for name, values in taken.items()}


# ------------------------------------------------------------------------------------------------------ a resize


def _make_shaped_interface() -> None:
    with IPRoute() as netlink:
        netlink.link("add", ifname=_INTERFACE, kind="veth", peer={"ifname": "probe1"})
        index = netlink.link_lookup(ifname=_INTERFACE)[0]
        netlink.link("set", index=index, state="up")
    shaping.shape(_INTERFACE, _SHAPED_BPS, _LIMIT_BYTES)


def _resize_rows() -> list[Row]:
    with _node() as node:
        store_us = _p99_us(node.set_limit, _RESIZES)
        node.set_limit(_PACKET_BYTES - 1)
        if node.run(_frame()).verdict != libbpf.XDP_DROP:
            raise ToolError("measuring a resize", "the next packet did not see it", "report this")
    process_us = _p99_us(_resize_by_process, _PROCESSES)
    with IPRoute() as netlink:
        index = netlink.link_lookup(ifname=_INTERFACE)[0]
        netlink_us = _p99_us(
            lambda limit: netlink.tc(
                "change", "tbf", index=index, handle="1:", rate=_SHAPED_BPS // 8, burst=_BURST_BYTES, limit=limit
            ),
            _PROCESSES,
        )
    return [
        _row("xdp.resize_p99", store_us, "us", "tc qdisc change, a process", process_us, "<= 20"),
        _row("xdp.resize_p99", store_us, "us", "tc qdisc change, netlink", netlink_us, "<= 20"),
    ]


def _resize_by_process(limit_bytes: int) -> None:
    shape = ["rate", f"{_SHAPED_BPS}bit", "burst", str(_BURST_BYTES), "limit", str(limit_bytes)]
    argv = ["tc", "qdisc", "change", "dev", _INTERFACE, "handle", "1:", "root", "tbf", *shape]
    commands.run("resizing a qdisc", argv, env=_ENVIRONMENT)


def _p99_us(resize: Callable[[int], object], times: int) -> float:
    return float(np.percentile(_times_us(lambda k: resize(_LIMIT_BYTES + k), times), 99))


def _times_us(call: Callable[[int], object], times: int) -> list[float]:
    taken = []
    for k in range(times):
        start = time.perf_counter_ns()
        call(k)
        taken.append((time.perf_counter_ns() - start) / 1e3)
    return taken


# -------------------------------------------------------------------------------------------------------- a look


def _look_rows() -> list[Row]:
    """Return what an agent's sample costs: counters, backlog and interval statistics."""
    frame = _frame()
    with _node() as node:

        def look(_: int) -> None:
            node.look(time.monotonic_ns())

        node.run(frame)
        look_us = median(_times_us(look, _LOOKS))
    reader = shaping.QdiscReader(_INTERFACE)
    qdisc_us = median(_times_us(lambda _: reader.read(), _LOOKS))
    return [_row("xdp.sample", look_us, "us", "one qdisc read by netlink", qdisc_us, "<= 60")]


if __name__ == "__main__":
    apart.answer(_measure)
