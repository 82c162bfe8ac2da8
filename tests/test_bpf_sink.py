"""The sink program: exact packets in, verdict, counters, flow states and delay histogram."""

from __future__ import annotations

import random
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pyroute2 import IPRoute
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet, Raw

from testbed.emulation.dataplane.libbpf import XDP_DROP, XDP_PASS
from testbed.emulation.dataplane.xdp import SinkProgram
from testbed.emulation.dataplane.xdp_abi import SINK_FLOW, delay_edges_ns
from testbed.emulation.dataplane.xdp_program import packet_ranges
from testbed.errors import InputError
from testbed.traffic.frames import ProbeHeader
from testbed.traffic.numbers import PacketNumbers, size_of
from tests.own_network import in_own_network

pytestmark = pytest.mark.requires("root", "bpf", "clang")

BPF = Path(__file__).parents[1] / "bpf"
RUN = 0xC0FFEE
MAX_FLOWS, FLOW_PKTS = 8, 2000
NUMBERS = PacketNumbers(np.full(MAX_FLOWS, FLOW_PKTS))
ETH = Ether(dst="02:03:00:00:00:01", src="02:02:01:00:00:01")
V4 = IP(src="10.0.16.2", dst="10.0.0.100")
V6 = IPv6(src="fd00::1:1", dst="fd00::100")
UDP9 = UDP(sport=20000, dport=9000, chksum=0)
REST = Raw(bytes(100))


@pytest.fixture(scope="module")
def loaded() -> Iterator[SinkProgram]:
    """A program; loading one takes longer than most tests."""
    subprocess.run(["make", "-s", "-C", str(BPF)], check=True)
    with SinkProgram(RUN, NUMBERS) as program:
        yield program


@pytest.fixture
def sink(loaded: SinkProgram) -> SinkProgram:
    """A program as if just loaded."""
    loaded._memory[:] = bytes(len(loaded._memory))
    loaded._flows[:] = bytes(len(loaded._flows))
    loaded._arrived[:] = bytes(len(loaded._arrived))
    np.frombuffer(loaded._flows, SINK_FLOW, MAX_FLOWS)["range"] = packet_ranges(NUMBERS)
    return loaded


def probe(flow: int = 0, seq: int = 0, sent_ns: int = 0, **more: int) -> ProbeHeader:
    values = {"run": RUN, "flow": flow, "seq": seq, "sent_ns": sent_ns or time.monotonic_ns()} | more
    return ProbeHeader(**values)


def arrive(sink: SinkProgram, *numbers: int, flow: int = 0) -> dict[str, int]:
    """Deliver these sequence numbers and return the flow's state."""
    for seq in numbers:
        assert sink.run(bytes(ETH / V4 / UDP9 / probe(flow, seq))).verdict == XDP_DROP
    row = sink.flows()[flow]
    return {name: int(row[name]) for name in row.dtype.names if name != "range"}


PROBES = {
    "IPv4": ETH / V4 / UDP9 / probe() / REST,
    "IPv4, nothing behind the probe": ETH / V4 / UDP9 / probe(),
    "IPv6": ETH / V6 / UDP9 / probe() / REST,
    "IPv6 with an extension header": ETH / V6 / IPv6ExtHdrDestOpt() / UDP9 / probe() / REST,
    "IPv6 whole datagram with a fragment header": ETH / V6 / IPv6ExtHdrFragment(m=0, nh=17) / UDP9 / probe() / REST,
    "VLAN": ETH / Dot1Q(vlan=7) / V4 / UDP9 / probe() / REST,
    "largest frame": ETH / V4 / UDP9 / probe() / Raw(bytes(1440)),
}

OTHERS = {
    "ARP": ETH / ARP(),
    "ICMP": ETH / V4 / ICMP() / probe() / REST,
    "TCP with a probe inside": ETH / V4 / TCP() / probe() / REST,
    "UDP without a probe": ETH / V4 / UDP9 / Raw(bytes(64)),
    "UDP without payload": ETH / V4 / UDP9,
    "wrong magic": ETH / V4 / UDP9 / probe(magic=0x54425041) / REST,
    "first fragment": ETH / IP(src="10.0.16.2", dst="10.0.0.100", flags="MF") / UDP9 / probe() / REST,
    "last fragment": ETH / IP(src="10.0.16.2", dst="10.0.0.100", frag=185) / UDP9 / probe() / REST,
    "IPv6 first fragment": ETH / V6 / IPv6ExtHdrFragment(m=1, nh=17) / UDP9 / probe() / REST,
    "IPv6 middle fragment": ETH / V6 / IPv6ExtHdrFragment(m=1, offset=1, nh=17) / UDP9 / probe() / REST,
    "IPv6 last fragment": ETH / V6 / IPv6ExtHdrFragment(m=0, offset=185, nh=17) / UDP9 / probe() / REST,
    "IPv6 fragment behind other headers": ETH / V6 / IPv6ExtHdrDestOpt() / IPv6ExtHdrFragment(m=1) / UDP9 / probe(),
    "wrong header checksum": ETH / IP(src="10.0.16.2", dst="10.0.0.100", chksum=1) / UDP9 / probe() / REST,
    "probe in the padding": ETH / IP(src="10.0.16.2", dst="10.0.0.100", len=59) / UDP9 / probe() / REST,
}


@pytest.mark.parametrize("packet", PROBES.values(), ids=PROBES)
def test_probes_are_counted_and_taken(sink: SinkProgram, packet: Packet) -> None:
    before_ns = time.monotonic_ns()
    assert sink.run(bytes(packet)).verdict == XDP_DROP
    counters = sink.snapshot()
    assert (counters.delivered_pkts, counters.delivered_bytes) == (1, len(bytes(packet)))
    assert before_ns <= counters.last_ns <= time.monotonic_ns()
    assert sink.delay_histogram()[0].sum() == 1
    assert sink._state[0] == 2  # the sequence lock, opened and closed
    assert (sink.flows()["pkts"].tolist(), counters.passed_pkts) == ([1] + [0] * (MAX_FLOWS - 1), 0)


@pytest.mark.parametrize("packet", OTHERS.values(), ids=OTHERS)
def test_everything_else_passes_unchanged(sink: SinkProgram, packet: Packet) -> None:
    ran = sink.run(bytes(packet))
    assert (ran.verdict, ran.packet) == (XDP_PASS, bytes(packet))
    counters = sink.snapshot()
    assert counters == counters._make([0] * len(counters))._replace(passed_pkts=1)


def test_every_way_to_cut_a_probe_short_passes(sink: SinkProgram) -> None:
    for packet in (ETH / V4 / UDP9 / probe(), ETH / V6 / UDP9 / probe()):
        frame = bytes(packet)
        for length in range(14, len(frame)):
            assert sink.run(frame[:length]).verdict == XDP_PASS
    for length in range(32):
        assert sink.run(bytes(ETH / V4 / UDP9 / Raw(bytes(probe())[:length]))).verdict == XDP_PASS
    assert sink.snapshot().delivered_pkts == 0


def test_a_flow_notes_the_first_number_of_each_epoch(sink: SinkProgram) -> None:
    def marks(*numbers: int) -> tuple[int, int]:
        row = arrive(sink, *numbers)
        return row["epoch"], row["epoch_first_seq"]

    assert marks(5, 6, 4) == (0, 5)
    sink.begin_epoch(1)
    assert sink.flows()["epoch"][0] == 0, "nothing has come since"
    assert marks(9, 8, 10) == (1, 9)
    sink.begin_epoch(3)
    assert marks(30) == (3, 30)
    sink.begin_epoch(0)


def test_probes_of_another_run_pass(sink: SinkProgram) -> None:
    assert sink.run(bytes(ETH / V4 / UDP9 / probe(run=RUN + 1) / REST)).verdict == XDP_PASS
    counters = sink.snapshot()
    assert (counters.foreign_run_pkts, counters.passed_pkts, counters.delivered_pkts) == (1, 1, 0)


@pytest.mark.parametrize(
    ("flow", "seq"), [(MAX_FLOWS, 0), (2**32 - 1, 0), (0, FLOW_PKTS), (MAX_FLOWS - 1, FLOW_PKTS), (3, 2**32 - 1)]
)
def test_what_the_plan_does_not_have_is_in_the_totals_and_counted(sink: SinkProgram, flow: int, seq: int) -> None:
    for frame in (probe(MAX_FLOWS - 1, FLOW_PKTS - 1), probe(flow, seq)):
        assert sink.run(bytes(ETH / V4 / UDP9 / frame)).verdict == XDP_DROP
    counters = sink.snapshot()
    assert (counters.delivered_pkts, counters.unplanned_pkts) == (2, 1)
    assert sink.flows()["pkts"].tolist() == [0] * (MAX_FLOWS - 1) + [1]
    assert np.flatnonzero(NUMBERS.members(sink.arrived())).tolist() == [NUMBERS.total - 1]


def test_marks_of_congestion_are_counted(sink: SinkProgram) -> None:
    for tos in (0, 1, 2, 3, 0xBB):
        sink.run(bytes(ETH / IP(src="10.0.16.2", dst="10.0.0.100", tos=tos) / UDP9 / probe()))
        sink.run(bytes(ETH / IPv6(src="fd00::1:1", dst="fd00::100", tc=tos) / UDP9 / probe()))
    assert sink.snapshot().ce_pkts == 4


# --------------------------------------------------------------------------------------------------------- sequence


def disorder(sink: SinkProgram, flow: np.void) -> tuple[int, int, int]:
    """Return the packets that are missing in a flow, and those of all flows that were reordered or came again."""
    counters = sink.snapshot()
    return int(flow["missing_pkts"]), counters.reordered_pkts, counters.duplicate_pkts


def test_in_order(sink: SinkProgram) -> None:
    flow = arrive(sink, *range(100))
    assert (flow["pkts"], flow["first_seq"], flow["highest_seq"]) == (100, 0, 99)
    assert 0 < flow["first_delay_ns"] <= sink.snapshot().delay_max_ns
    assert disorder(sink, flow) == (0, 0, 0)
    assert sink.snapshot().delivered_bytes == 100 * 74


def test_a_gap_and_a_late_arrival(sink: SinkProgram) -> None:
    flow = arrive(sink, 0, 1, 5, 6)
    assert disorder(sink, flow) == (3, 0, 0)
    flow = arrive(sink, 3)
    assert disorder(sink, flow) == (2, 1, 0)


def test_duplicates(sink: SinkProgram) -> None:
    flow = arrive(sink, 0, 1, 1, 2, 0)
    assert (flow["pkts"], *disorder(sink, flow)) == (5, 0, 0, 2)


def test_however_late_a_packet_is_reordered_once_and_a_duplicate_then(sink: SinkProgram) -> None:
    flow = arrive(sink, 0, 1000, 1, 0, 1, 1000)
    assert disorder(sink, flow) == (998, 1, 3)
    assert np.flatnonzero(NUMBERS.members(sink.arrived())).tolist() == [0, 1, 1000]


def test_every_packet_has_a_bit_of_its_own(sink: SinkProgram) -> None:
    places = [(flow, seq) for flow in (0, 1, MAX_FLOWS - 1) for seq in (0, 63, 64, 127, FLOW_PKTS - 1)]
    for flow, seq in places:
        arrive(sink, seq, flow=flow)
    numbers = sorted(flow * FLOW_PKTS + seq for flow, seq in places)
    assert np.flatnonzero(NUMBERS.members(sink.arrived())).tolist() == numbers
    assert size_of(sink.arrived()) == len(places)
    assert sink.snapshot().duplicate_pkts == 0


def test_what_came_before_the_first_arrival_was_never_missing(sink: SinkProgram) -> None:
    flow = arrive(sink, 10, 9, 11)
    assert (flow["first_seq"], *disorder(sink, flow)) == (10, 0, 1, 0)


def test_flows_do_not_disturb_each_other(sink: SinkProgram) -> None:
    for seq in range(20):
        arrive(sink, seq, flow=1)
        arrive(sink, 2 * seq, flow=2)
    flows = sink.flows()
    assert flows["pkts"].tolist() == [0, 20, 20, 0, 0, 0, 0, 0]
    assert flows["missing_pkts"].tolist() == [0, 0, 19, 0, 0, 0, 0, 0]


def test_random_histories_against_sets(sink: SinkProgram) -> None:
    """Shuffled, some lost, some doubled: exact counts by a model that remembers everything."""
    chance = random.Random(7)
    numbers = [seq for seq in range(400) if chance.random() > 0.1 for _ in range(1 + (chance.random() < 0.1))]
    order = sorted(range(len(numbers)), key=lambda k: k + chance.uniform(0, 200))
    history = [numbers[k] for k in order]
    seen: set[int] = set()
    late = doubled = 0
    for seq in history:
        doubled += seq in seen
        late += seq not in seen and seq < max(seen, default=-1)
        seen.add(seq)
    flow = arrive(sink, *history, flow=3)
    assert disorder(sink, flow)[1:] == (late, doubled)
    assert flow["missing_pkts"] == max(seen) - flow["first_seq"] + 1 - len([s for s in seen if s >= flow["first_seq"]])


# ------------------------------------------------------------------------------------------------------------ delay


def test_edges_rise_by_at_most_a_64th() -> None:
    edges = delay_edges_ns()
    assert (len(edges), edges[0], edges[-1]) == (1985, 0, 2**36)
    widths = np.diff(edges)
    assert (widths > 0).all()
    assert (widths[64:] / edges[64:-1]).max() <= 1 / 64


@pytest.mark.parametrize(
    "delay_ns", [2**k + extra for k in range(20, 36) for extra in (0, 2**k // 3, 2**k - 2**k // 64)]
)
def test_a_delay_falls_into_its_bucket(sink: SinkProgram, delay_ns: int) -> None:
    """The exact delay is known afterwards: time of arrival minus time of sending."""
    sent_ns = max(1, time.monotonic_ns() - delay_ns)
    sink.run(bytes(ETH / V4 / UDP9 / probe(sent_ns=sent_ns)))
    exact_ns = sink.snapshot().last_ns - sent_ns
    counts, edges = sink.delay_histogram()
    (bucket,) = np.nonzero(counts)[0]
    assert edges[bucket] <= exact_ns < edges[bucket + 1]
    counters = sink.snapshot()
    assert counters.delay_max_ns == exact_ns


def test_delays_out_of_range_are_kept_at_the_ends(sink: SinkProgram) -> None:
    sink.run(bytes(ETH / V4 / UDP9 / probe(sent_ns=time.monotonic_ns() + 10**12)))
    sink.run(bytes(ETH / V4 / UDP9 / probe(sent_ns=time.monotonic_ns() + 2**63)))
    counts, _ = sink.delay_histogram()
    assert counts[0] == 2
    if time.monotonic_ns() > 2**37:
        sink.run(bytes(ETH / V4 / UDP9 / probe(sent_ns=1)))
        assert sink.delay_histogram()[0][-1] == 1


# -------------------------------------------------------------------------------------------------- user space, link


def test_values_out_of_range_are_refused() -> None:
    for run, flows, pkts in ((-1, 1, 1), (2**32, 1, 1), (0, 0, 1), (0, 2**24 + 1, 1), (0, 2, 2**31)):
        with pytest.raises(InputError):
            SinkProgram(run, PacketNumbers(np.full(flows, pkts)))


def test_the_locked_program_does_the_same() -> None:
    with SinkProgram(RUN, PacketNumbers(np.full(2, 10))) as sink:
        sink.reload_locked()
        flow = arrive(sink, 0, 1, 5, 3, 3, flow=1)
        assert disorder(sink, flow) == (2, 1, 1)


def test_probes_over_a_link_are_taken_and_counted() -> None:
    def body() -> None:
        with IPRoute() as netlink:
            netlink.link("add", ifname="sk-near", kind="veth", peer={"ifname": "sk-far"})
            near, far = (netlink.link_lookup(ifname=name)[0] for name in ("sk-near", "sk-far"))
            for index in (near, far):
                netlink.link("set", index=index, state="up")
            deadline = time.monotonic() + 5  # what is sent before the kernel has noticed the carrier is lost
            while any(netlink.get_links(index)[0].get_attr("IFLA_OPERSTATE") != "UP" for index in (near, far)):
                assert time.monotonic() < deadline
        with (
            SinkProgram(RUN, PacketNumbers(np.full(4, 50))) as sink,
            socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as port,
        ):
            assert sink.attach(far) == "native"
            port.bind(("sk-near", 0))
            for seq in range(200):
                port.send(bytes(ETH / V4 / UDP9 / probe(seq % 4, seq // 4) / REST))
            deadline = time.monotonic() + 5
            while sink.snapshot().delivered_pkts < 200 and time.monotonic() < deadline:
                pass
            counters, flows = sink.snapshot(), sink.flows()
        assert (counters.delivered_pkts, counters.delivered_bytes, counters.duplicate_pkts) == (200, 200 * 174, 0)
        assert flows["pkts"].tolist() == [50] * 4
        assert flows["missing_pkts"].tolist() == [0] * 4

    in_own_network(body)
