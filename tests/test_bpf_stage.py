"""What the programs measure of the stages: how long packets took, when one was held, and that no more is blamed on it.

Time in a test run is the real clock; a stamp in the past makes a packet that was on its way for so long, give or take
what the test itself takes.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from testbed.emulation.dataplane.libbpf import XDP_DROP, XDP_PASS, XDP_TX
from testbed.emulation.dataplane.xdp import NodeProgram, SinkProgram
from testbed.emulation.dataplane.xdp_abi import NODE_MEMORY, NODE_STATE, PROBE_DEPARTS, STAGE_BUCKETS, STAGE_SLOT_SHIFT
from testbed.emulation.dataplane.xdp_meter import offset
from testbed.emulation.dataplane.xdp_stage import slot_stalls, slots_for, stage_edges_ns, stage_histogram
from testbed.records.stages import Stall
from testbed.traffic.frames import ProbeHeader
from testbed.traffic.numbers import PacketNumbers
from testbed.units import NS_PER_MS, NS_PER_S

pytestmark = pytest.mark.requires("root", "bpf", "clang")

RUN = 0xC0FFEE
RATE_BPS, BUCKET_BYTES, LIMIT = 100_000_000, 50_000, 500_000
MS = NS_PER_MS
SLOT_NS = 1 << STAGE_SLOT_SHIFT
SLOTS = slots_for(60 * NS_PER_S)
SLACK_NS = 500 * MS  # a test may be held up by so much
NODE_MAC = "02:02:00:00:00:01"
ETH = Ether(dst=NODE_MAC, src="02:01:00:00:00:01")
IPS = {"IPv4": IP(src="10.0.16.2", dst="10.0.0.100"), "IPv6": IPv6(src="fd00::1:1", dst="fd00::100")}
V4 = IPS["IPv4"]


@pytest.fixture(scope="module", autouse=True)
def _compiled() -> None:
    subprocess.run(["make", "-s", "-C", str(Path(__file__).parents[1] / "bpf")], check=True)


def make_node(**changes: int) -> NodeProgram:
    values = {"rate_bps": RATE_BPS, "bucket_bytes": 0, "limit_bytes": LIMIT} | changes
    return NodeProgram(number=1, mac=NODE_MAC, run=RUN, slots=SLOTS, **values)  # type: ignore[arg-type]


@pytest.fixture
def node(_compiled: None) -> Iterator[NodeProgram]:
    with make_node() as program:
        yield program


@pytest.fixture
def sink(_compiled: None) -> Iterator[SinkProgram]:
    with SinkProgram(RUN, PacketNumbers(np.full(8, 1000)), slots=SLOTS) as program:
        yield program


def frame(ip: Packet = V4, *, sent_ns: int, planned_ns: int = 0, run: int = RUN, seq: int = 0) -> bytes:
    probe = ProbeHeader(run=run, seq=seq, planned_ns=planned_ns, sent_ns=sent_ns)
    return bytes(ETH / ip / UDP(sport=20_000, dport=9_000, chksum=0) / probe / Raw(bytes(100)))


def planned_field(packet: bytes) -> int:
    at = packet.index(b"TBPB") + 16
    return int.from_bytes(packet[at : at + 8], "big")


def hold(node: NodeProgram, backlog_bytes: int) -> None:
    """Make the backlog exact: the next packets count as arriving at the time of the last one."""
    far_ns = time.monotonic_ns() + 3600 * NS_PER_S
    for name, value in (("t_ns", far_ns), ("debt_nb", backlog_bytes * 8 * 10**9)):
        at = offset(NODE_STATE, name)
        node._memory[at : at + 8] = value.to_bytes(8, "little", signed=True)


# ------------------------------------------------------------------------------------------------------------- the way


@pytest.mark.parametrize("ip", IPS.values(), ids=IPS)
def test_a_packet_that_was_held_is_in_the_histogram_and_in_its_slot(node: NodeProgram, ip: Packet) -> None:
    began_ns = time.monotonic_ns()
    t0_ns = began_ns - NS_PER_S
    node.begin(t0_ns)
    assert node.run(frame(ip, sent_ns=began_ns - 300 * MS, planned_ns=698 * MS)).verdict == XDP_PASS
    took_ns = time.monotonic_ns() - began_ns
    way = node.way()
    assert way.total == 1
    assert way.max_ns is not None
    assert 300 * MS <= way.max_ns <= 300 * MS + took_ns
    ((began, lasted),) = node.way_stalls()
    assert lasted == way.max_ns
    assert abs(began - 700 * MS) <= SLOT_NS + took_ns
    ((_, late_ns),) = node.late_stalls()
    assert late_ns == 2 * MS


def test_packets_as_they_usually_come_are_in_the_histogram_alone(node: NodeProgram) -> None:
    node.begin(time.monotonic_ns() - NS_PER_S)
    for _ in range(20):
        node.run(frame(sent_ns=time.monotonic_ns() + SLACK_NS, planned_ns=10 * NS_PER_S))
    assert node.way().total == 20
    assert (node.way_stalls(), node.late_stalls()) == ((), ())


def test_what_the_links_delay_by_themselves_is_no_stall() -> None:
    with make_node(way_delay_ns=250 * MS + SLACK_NS) as node:
        node.begin(time.monotonic_ns() - NS_PER_S)
        node.run(frame(sent_ns=time.monotonic_ns() - 250 * MS, planned_ns=10 * NS_PER_S))
        assert node.way_stalls() == ()
        node.run(frame(sent_ns=time.monotonic_ns() - 350 * MS - SLACK_NS, planned_ns=10 * NS_PER_S))
        ((_, lasted_ns),) = node.way_stalls()
        assert 100 * MS <= lasted_ns <= 100 * MS + SLACK_NS


def test_each_slot_keeps_its_worst(node: NodeProgram) -> None:
    now_ns = time.monotonic_ns()
    for k, held_ms in enumerate((5, 40, 7)):
        node.begin(now_ns - (k + 1) * NS_PER_S)
        for extra_ms in (0, -3, 0, -4):
            node.run(frame(sent_ns=time.monotonic_ns() - (held_ms + extra_ms) * MS, planned_ns=100 * NS_PER_S))
    worst_ms = dict.fromkeys((1, 2, 3), 0)  # by the second in which they ended
    for stall in node.way_stalls():
        second = round(stall.ended_ns / NS_PER_S)
        worst_ms[second] = max(worst_ms[second], stall.lasted_ns // MS)
    assert [worst_ms[k + 1] >= held_ms for k, held_ms in enumerate((5, 40, 7))] == [True] * 3


def test_dropped_and_deflected_packets_are_measured_too_and_leave_as_they_came(node: NodeProgram) -> None:
    node.begin(time.monotonic_ns() - NS_PER_S)
    late = frame(sent_ns=time.monotonic_ns() - 300 * MS, planned_ns=5)
    hold(node, LIMIT)
    dropped = node.run(late)
    assert (dropped.verdict, dropped.packet) == (XDP_DROP, late)
    node.set_sibling("02:02:00:00:00:02")
    deflected = node.run(late)
    assert (deflected.verdict, planned_field(deflected.packet)) == (XDP_TX, 5)
    assert node.way().total == 2
    assert len(node.way_stalls()) == 1


@pytest.mark.parametrize("from_now_s", [None, 3600, -4000])
def test_before_the_start_and_after_the_last_slot_no_time_is_noted(node: NodeProgram, from_now_s: int | None) -> None:
    node.begin(0 if from_now_s is None else time.monotonic_ns() + from_now_s * NS_PER_S)
    node.run(frame(sent_ns=time.monotonic_ns() - 300 * MS))
    assert node.way().total == 1
    assert (node.way_stalls(), node.late_stalls()) == ((), ())


def test_what_is_not_of_the_run_is_left_alone(node: NodeProgram) -> None:
    node.begin(time.monotonic_ns() - NS_PER_S)
    others = [
        frame(sent_ns=1, run=RUN + 1),
        bytes(ETH / V4 / UDP(sport=1, dport=2) / Raw(bytes(100))),
        bytes(ETH / V4 / UDP(sport=1, dport=2) / Raw(b"TBPB")),
        bytes(ETH / IP(src="10.0.16.2", dst="10.0.0.100", proto=6) / Raw(bytes(100))),
    ]
    for other in others:
        ran = node.run(other)
        assert (ran.verdict, ran.packet) == (XDP_PASS, other)
    assert node.way().total == 0
    assert node.way_stalls() == ()


def test_a_locked_program_measures_the_same(node: NodeProgram) -> None:
    node.begin(time.monotonic_ns() - NS_PER_S)
    node.reload_locked()
    ran = node.run(frame(sent_ns=time.monotonic_ns() - 300 * MS))
    assert planned_field(ran.packet) & PROBE_DEPARTS
    assert node.way().total == 1
    assert len(node.way_stalls()) == 1


# ----------------------------------------------------------------------------------------------------- the departure


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rate_bps=st.integers(1_000, 10**12), backlog_bytes=st.integers(0, 10**9 - 1_000))
def test_a_packet_departs_when_all_that_waits_with_it_has_been_served(rate_bps: int, backlog_bytes: int) -> None:
    with make_node(rate_bps=rate_bps, limit_bytes=10**9) as node:
        hold(node, backlog_bytes)
        packet = frame(sent_ns=0)
        before_ns = time.monotonic_ns()
        ran = node.run(packet)
        after_ns = time.monotonic_ns()
    departs_ns = planned_field(ran.packet) ^ PROBE_DEPARTS
    wait_ns = (backlog_bytes + len(packet)) * 8 * 10**9 // rate_bps
    exact_ns = wait_ns // 2**30 + 8 * 10**9 // rate_bps + 1  # a part in 2^31, and a byte
    assert before_ns + wait_ns - exact_ns <= departs_ns <= after_ns + wait_ns + exact_ns


def test_a_packet_that_finds_tokens_departs_at_once() -> None:
    with make_node(bucket_bytes=BUCKET_BYTES) as node:
        node.run(frame(sent_ns=0))  # fills the bucket: the pause before it was long
        before_ns = time.monotonic_ns()
        departs_ns = planned_field(node.run(frame(sent_ns=0)).packet) ^ PROBE_DEPARTS
        assert before_ns <= departs_ns <= time.monotonic_ns()


def test_a_marked_packet_has_its_departure_too(node: NodeProgram) -> None:
    hold(node, 200_000)
    node.set_ecn_threshold(100_000)
    ran = node.run(frame(IP(src="10.0.16.2", dst="10.0.0.100", tos=2), sent_ns=0))
    assert ran.packet[15] & 3 == 3
    assert planned_field(ran.packet) & PROBE_DEPARTS


# ------------------------------------------------------------------------------------------------- from queue to sink


def arrive(sink: SinkProgram, departs_ns: int, seq: int) -> None:
    packet = frame(sent_ns=1, planned_ns=departs_ns | PROBE_DEPARTS, seq=seq)
    assert sink.run(packet).verdict == XDP_DROP


def test_the_sink_sees_what_no_queue_explains(sink: SinkProgram) -> None:
    now_ns = time.monotonic_ns()
    sink.begin(now_ns - NS_PER_S)
    arrive(sink, now_ns + NS_PER_S, 0)  # earlier than modelled
    assert sink.queue_stalls() == ()
    arrive(sink, now_ns - 200 * MS, 1)
    ((began_ns, lasted_ns),) = sink.queue_stalls()
    assert 200 * MS <= lasted_ns <= 200 * MS + SLACK_NS
    assert abs(began_ns - 800 * MS) <= SLOT_NS + SLACK_NS
    assert (sink.queue().total, sink.queue().max_ns, sink.unbuffered_pkts()) == (2, lasted_ns, 0)
    assert sink.snapshot().delivered_pkts == 2


def test_a_packet_that_no_buffer_admitted_is_counted_apart(sink: SinkProgram) -> None:
    sink.begin(time.monotonic_ns() - NS_PER_S)
    for seq in range(3):
        sink.run(frame(sent_ns=1, planned_ns=2**62, seq=seq))
    assert (sink.unbuffered_pkts(), sink.queue().total, sink.queue_stalls()) == (3, 0, ())
    assert sink.snapshot().delivered_pkts == 3


def test_from_node_to_sink_the_stamp_is_understood(node: NodeProgram, sink: SinkProgram) -> None:
    sink.begin(time.monotonic_ns() - NS_PER_S)
    hold(node, 400_000)  # 32 ms at 100 Mbit/s
    admitted = node.run(frame(sent_ns=0)).packet
    sink.run(admitted)
    assert (sink.queue().total, sink.unbuffered_pkts()) == (1, 0)


# ------------------------------------------------------------------------------------------------------ the histogram


def test_every_bucket_is_where_its_edges_say(node: NodeProgram) -> None:
    edges_ns = stage_edges_ns()
    assert len(edges_ns) == STAGE_BUCKETS + 1
    assert np.all(np.diff(edges_ns) > 0)
    for held_ms in (0.5, 3, 16, 17, 100, 1000, 4200, 9000):
        node._memory[:] = bytes(len(node._memory))
        before_ns = time.monotonic_ns()
        node.run(frame(sent_ns=before_ns - round(held_ms * MS)))
        took_ns = time.monotonic_ns() - before_ns
        (bucket,) = np.flatnonzero(np.frombuffer(node._memory[: NODE_MEMORY.itemsize], NODE_MEMORY)["way"]["counts"][0])
        assert edges_ns[bucket] <= held_ms * MS + took_ns
        assert edges_ns[bucket + 1] > held_ms * MS or bucket == STAGE_BUCKETS - 1


def test_a_stage_keeps_its_counts_with_the_edges_of_files() -> None:
    counts = np.zeros(STAGE_BUCKETS, np.int64)
    counts[[10, 4500]] = 5, 1
    histogram = stage_histogram(counts.tobytes(), 2 * NS_PER_S)
    assert (histogram.total, histogram.max_ns) == (6, 2 * NS_PER_S)
    assert 38_000 < (histogram.quantile_ns(0.5) or 0) < 48_000
    assert stage_histogram(counts.tobytes(), 0).largest_ns > NS_PER_S  # type: ignore[operator]


def test_slots_become_stalls_once() -> None:
    worst_ns = np.zeros(100, np.uint32)
    worst_ns[[50, 51, 52, 80]] = 300 * MS, 290 * MS, 40 * MS, 5 * MS
    stalls = slot_stalls(worst_ns)
    ends = [(k << STAGE_SLOT_SHIFT) + SLOT_NS // 2 for k in (50, 80)]
    assert stalls == (Stall(ends[0] - 300 * MS, 300 * MS), Stall(ends[1] - 5 * MS, 5 * MS))
