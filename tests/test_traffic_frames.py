"""Data frames: patched by NumPy, and read back by Scapy field for field."""

from __future__ import annotations

import dataclasses
import time

import numpy as np
import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from testbed.scenario.network import VIP_IP, VIP_IP6, VIP_MAC, Host
from testbed.scenario.sources import MAX_PACKET_BYTES
from testbed.traffic.frames import MAGIC, ProbeHeader, build_frames, read_probe
from testbed.traffic.plan import FlowTable, PacketPlan

CLIENT = Host("c2", "client")


def _plan(count: int = 60, flows: int = 7) -> PacketPlan:
    flow = (np.arange(count) * 3 % flows).astype(np.int32)
    source = (np.arange(flows) % 3).astype(np.int16)
    return PacketPlan(
        duration_ns=2**62,
        clients=("c1", "c2"),
        sources=("a", "b", "c"),
        flows=FlowTable(
            client=np.ones(flows, np.int16),
            source=source,
            src_port=(65_535 - np.arange(flows)).astype(np.int32),
            dst_port=(9000 + source).astype(np.int32),
        ),
        t_ns=(np.arange(count) * 12_345_678_901 + 2**40).astype(np.int64),
        source=source[flow],
        flow=flow,
        seq=(2**31 - 1 - np.arange(count)).astype(np.int32),
        size_bytes=np.array([74, 1000, 1514], np.int32)[source[flow]],
    )


def test_scapy_reads_back_every_field() -> None:
    plan = _plan()
    frames = build_frames(plan, CLIENT, 0xFFFF_FFFE)
    frames.sent_ns[:] = np.arange(len(plan), dtype=np.uint64) + np.uint64(2**60)
    for index in range(len(plan)):
        raw = frames.frame(index)
        packet = Ether(raw)
        flow = int(plan.flow[index])
        ip, udp = packet[IP], packet[UDP]
        assert len(raw) == plan.size_bytes[index]
        assert (packet.dst, packet.src, packet.type) == (VIP_MAC, CLIENT.mac, 0x0800)
        assert (ip.version, ip.ihl, ip.tos, ip.id, str(ip.flags), ip.frag) == (4, 5, 0, 0, "DF", 0)
        assert (ip.ttl, ip.proto, ip.src, ip.dst, ip.len) == (64, 17, CLIENT.ip, VIP_IP, len(raw) - 14)
        assert (udp.sport, udp.dport) == (plan.flows.src_port[flow], plan.flows.dst_port[flow])
        assert (udp.len, udp.chksum) == (len(raw) - 34, 0)
        right = ip.copy()
        del right.chksum
        assert IP(bytes(right)).chksum == ip.chksum
        probe = ProbeHeader(bytes(udp.payload)[:32])
        assert (probe.magic, probe.run, probe.flow) == (MAGIC, 0xFFFF_FFFE, flow)
        assert (probe.seq, probe.planned_ns) == (plan.seq[index], plan.t_ns[index])
        assert probe.sent_ns == 2**60 + index
        assert set(bytes(udp.payload)[32:]) <= {0}


def _over_ip6(plan: PacketPlan, version: int | str) -> PacketPlan:
    count = len(plan.flows)
    versions = np.where(np.arange(count) % 2, 6, 4) if version == "mixed" else np.full(count, version)
    flows = dataclasses.replace(plan.flows, ip_version=versions.astype(np.int16))
    return dataclasses.replace(plan, flows=flows, size_bytes=np.maximum(plan.size_bytes, 94))


@pytest.mark.parametrize("version", [6, "mixed"])
def test_scapy_reads_back_ip6_with_a_right_checksum_after_stamping(version: int | str) -> None:
    plan = _over_ip6(_plan(), version)
    frames = build_frames(plan, CLIENT, 7, tos=0x22)
    stamp = frames.stamper()
    stamps = [0, 2**64 - 1, *range(2**60, 2**60 + len(plan) - 2)]
    for index, sent_ns in enumerate(stamps):
        stamp(index, index + 1, sent_ns)
    for index in range(len(plan)):
        raw, flow = frames.frame(index), int(plan.flow[index])
        packet = Ether(raw)
        ip = packet[IPv6] if plan.flows.ip_version[flow] == 6 else packet[IP]
        assert len(raw) == plan.size_bytes[index]
        assert ip.dst == (VIP_IP6 if ip.version == 6 else VIP_IP)
        assert ip.src == (CLIENT.ip6 if ip.version == 6 else CLIENT.ip)
        assert ip[UDP].sport == plan.flows.src_port[flow]
        if ip.version == 6:
            assert (ip.tc, ip.hlim, ip.plen) == (0x22, 64, len(raw) - 54)
            right = ip.copy()
            del right[UDP].chksum
            assert IPv6(bytes(right))[UDP].chksum == ip[UDP].chksum != 0
        else:
            assert ip[UDP].chksum == 0
        probe = read_probe(raw)
        assert probe is not None
        assert (probe.flow, probe.seq, probe.sent_ns) == (flow, plan.seq[index], stamps[index])


def test_a_batch_is_stamped_as_its_frames_one_by_one() -> None:
    plan = _over_ip6(_plan(), "mixed")
    together, apart = build_frames(plan, CLIENT, 7), build_frames(plan, CLIENT, 7)
    together.stamper()(3, 50, 2**61 + 12345)
    for index in range(3, 50):
        apart.stamper()(index, index + 1, 2**61 + 12345)
    assert np.array_equal(together.headers, apart.headers)


def test_the_probe_is_read_without_scapy() -> None:
    plan = _plan(1)
    probe = read_probe(build_frames(plan, CLIENT, 5).frame(0))
    assert probe is not None
    assert (probe.run, probe.flow, probe.seq, probe.planned_ns, probe.sent_ns) == (5, 0, 2**31 - 1, 2**40, 0)


@pytest.mark.parametrize("frame", [b"", b"\0" * 73, b"\0" * 74])
def test_a_frame_without_probe_gives_none(frame: bytes) -> None:
    assert read_probe(frame) is None


def test_stamping_a_slice_changes_those_frames_only() -> None:
    frames = build_frames(_plan(10), CLIENT, 5)
    before = frames.headers.copy()
    frames.sent_ns[3:5] = 0x0102030405060708
    assert np.flatnonzero(np.any(frames.headers != before, axis=1)).tolist() == [3, 4]
    assert frames.headers[3, 66:74].tolist() == [1, 2, 3, 4, 5, 6, 7, 8]


def test_no_packets_are_no_frames() -> None:
    frames = build_frames(_plan().of_client("c1"), Host("c1", "client"), 5)
    assert len(frames) == 0
    assert len(frames.sent_ns) == 0


def test_memory_is_the_headers_whatever_the_size() -> None:
    frames = build_frames(_plan(5000), CLIENT, 5)
    assert frames.headers.nbytes + frames.padding.nbytes == 5000 * 74 + (MAX_PACKET_BYTES - 74)


def test_scapy_is_called_for_kinds_of_packets_not_for_packets() -> None:
    started = time.process_time()
    build_frames(_plan(200_000, flows=20_000), CLIENT, 5)
    assert time.process_time() - started < 2  # a frame each by Scapy would take more than a minute
