"""When each packet was seen: one map for the programs of all nodes and sinks, written for planned packets alone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from testbed.emulation.dataplane.libbpf import XDP_DROP, XDP_PASS, XDP_TX
from testbed.emulation.dataplane.times_map import TimesMap
from testbed.emulation.dataplane.xdp import NodeProgram, SinkProgram
from testbed.traffic.frames import ProbeHeader
from testbed.traffic.numbers import PacketNumbers

pytestmark = pytest.mark.requires("root", "bpf")

RUN = 0xC0FFEE
NUMBERS = PacketNumbers(np.array([3, 4]))
SIBLING = "02:02:00:00:00:02"


class Programs(NamedTuple):
    times: TimesMap
    first: NodeProgram
    second: NodeProgram
    sink: SinkProgram


@pytest.fixture
def programs() -> Iterator[Programs]:
    times = TimesMap(NUMBERS.total)

    def node(number: int) -> NodeProgram:
        return NodeProgram(10**7, 0, 10**6, number=number, run=RUN, numbers=NUMBERS, times=times)

    with node(1) as first, node(2) as second, SinkProgram(RUN, NUMBERS, times=times) as sink:
        yield Programs(times, first, second, sink)


def frame(flow: int, seq: int, run: int = RUN) -> bytes:
    ethernet = Ether(dst="02:02:00:00:00:01", src="02:01:00:00:00:01")
    udp = UDP(sport=20000, dport=9000, chksum=0)
    probe = ProbeHeader(run=run, flow=flow, seq=seq, sent_ns=time.monotonic_ns())
    return bytes(ethernet / IP(src="10.0.16.2", dst="10.0.0.100") / udp / probe)


def test_a_packet_is_seen_at_its_node_and_its_sink(programs: Programs) -> None:
    before_ns = time.monotonic_ns()
    assert programs.second.run(frame(1, 2)).verdict == XDP_PASS
    assert programs.sink.run(frame(1, 2)).verdict == XDP_DROP
    rows = programs.times.read()
    number = int(NUMBERS.of(np.array([1]), np.array([2]))[0])
    assert before_ns <= rows[number]["arrived_ns"] <= rows[number]["delivered_ns"] <= time.monotonic_ns()
    assert rows[number]["node"] == 2
    assert not np.delete(rows, number)["arrived_ns"].any()
    assert not np.delete(rows, number)["delivered_ns"].any()


def test_a_packet_that_comes_again_was_delivered_the_first_time(programs: Programs) -> None:
    programs.sink.run(frame(0, 0))
    first_ns = programs.times.read()[0]["delivered_ns"]
    programs.sink.run(frame(0, 0))
    assert programs.times.read()[0]["delivered_ns"] == first_ns > 0


def test_a_packet_that_a_full_buffer_drops_was_there(programs: Programs) -> None:
    programs.first.set_limit(0)
    assert programs.first.run(frame(0, 1)).verdict == XDP_DROP
    row = programs.times.read()[1]
    assert (row["node"], row["delivered_ns"]) == (1, 0)
    assert row["arrived_ns"] > 0


def test_a_packet_that_is_deflected_arrives_at_the_sibling(programs: Programs) -> None:
    programs.first.set_limit(0)
    programs.first.set_sibling(SIBLING)
    handed = programs.first.run(frame(0, 2))
    assert handed.verdict == XDP_TX
    assert programs.times.read()[2]["arrived_ns"] == 0
    assert programs.second.run(handed.packet).verdict == XDP_PASS
    assert programs.times.read()[2]["node"] == 2


def test_what_a_crashed_node_or_a_lossy_link_takes_did_not_arrive(programs: Programs) -> None:
    programs.first.set_crashed(True)
    assert programs.first.run(frame(0, 0)).verdict == XDP_DROP
    programs.second.set_loss(1.0)
    assert programs.second.run(frame(0, 1)).verdict == XDP_DROP
    assert not programs.times.read()["arrived_ns"].any()


@pytest.mark.parametrize(("flow", "seq", "run"), [(0, 3, RUN), (2, 0, RUN), (0, 0, RUN + 1)])
def test_what_is_not_planned_has_no_row(programs: Programs, flow: int, seq: int, run: int) -> None:
    programs.first.run(frame(flow, seq, run))
    programs.sink.run(frame(flow, seq, run))
    assert not programs.times.read()["arrived_ns"].any()
    assert not programs.times.read()["delivered_ns"].any()


def test_a_program_that_is_loaded_again_keeps_the_map(programs: Programs) -> None:
    programs.first.run(frame(0, 0))
    programs.first.reload_locked()
    programs.first.run(frame(0, 1))
    assert programs.times.read()["arrived_ns"].astype(bool).tolist() == [True, True] + [False] * 5
