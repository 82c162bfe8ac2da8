"""`replay: packets`: sizes, five-tuples and gaps of a capture, against what Scapy wrote; and what is said of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from scapy.all import ARP, ICMP, IP, TCP, UDP, Dot1Q, Ether, IPv6, PcapNgWriter, PcapWriter, Raw

import testbed
from testbed.errors import TestbedError
from testbed.traffic.plan import PacketPlan
from testbed.trials.checks import check, planned
from tests.capture_files import pcap

ETHER = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
PAIR = IP(src="10.9.0.1", dst="10.9.0.2")
# kind of five-tuple, frame: those of one kind are of one flow, and different kinds of different ones
FRAMES = [
    ("udp", ETHER / PAIR / UDP(sport=7, dport=8) / Raw(bytes(200))),
    ("tcp", ETHER / PAIR / TCP(sport=7, dport=8) / Raw(bytes(1400))),
    ("udp", ETHER / Dot1Q(vlan=3) / PAIR / UDP(sport=7, dport=8) / Raw(bytes(90))),
    ("back", ETHER / IP(src="10.9.0.2", dst="10.9.0.1") / UDP(sport=8, dport=7) / Raw(bytes(60))),
    ("port", ETHER / PAIR / UDP(sport=9, dport=8) / Raw(bytes(300))),
    ("arp", ETHER / ARP()),
    ("icmp", ETHER / PAIR / ICMP() / Raw(bytes(40))),
    ("six", ETHER / Dot1Q() / Dot1Q() / IPv6(src="fd00::1", dst="fd00::2") / TCP(sport=1, dport=2) / Raw(bytes(99))),
    ("options", ETHER / IP(src="10.9.0.1", dst="10.9.0.3", options=[b"\x01" * 40]) / UDP(sport=1, dport=2)),
    ("options", ETHER / IP(src="10.9.0.1", dst="10.9.0.3") / UDP(sport=1, dport=2)),
    ("fragment", ETHER / IP(src="10.9.0.1", dst="10.9.0.2", frag=100, proto=17) / Raw(bytes(50))),
    ("fragment", ETHER / IP(src="10.9.0.1", dst="10.9.0.2", frag=150, proto=17) / Raw(b"\xff" * 50)),
    ("tcp", ETHER / PAIR / TCP(sport=7, dport=8, flags="A")),
]
TIMES_US = [0, 3, 3, 50, 900, 901, 20_000, 20_001, 30_000, 41_000, 90_000, 91_000, 95_000]


def write(folder: Path, replay: str | None = "packets", snap: int = 65_535, ng: bool = False, **source: Any) -> Path:
    made: Any = PcapNgWriter if ng else PcapWriter
    with made(str(folder / "x.pcap")) as out:
        for (_, frame), time_us in zip(FRAMES, TIMES_US, strict=True):
            whole = Ether(bytes(frame))
            whole.time, whole.wirelen = 1_700_000_000 + time_us / 1e6, len(whole)
            short = Ether(bytes(frame)[:snap])
            short.time, short.wirelen = whole.time, len(whole)
            out.write(whole if snap > 2000 else short)
    return scenario(folder, replay, **source)


def scenario(folder: Path, replay: str | None = "packets", **source: Any) -> Path:
    given = {"name": "x", "from": "c1", "trace": "x.pcap", **({"replay": replay} if replay else {}), **source}
    data = {
        **{"version": 1, "name": "x", "duration": "200ms", "topology": {"family": "cluster"}},
        **{"buffer": {"policy": "static-min"}, "traffic": [given]},
    }
    (folder / "x.yaml").write_text(yaml.safe_dump(data))
    return folder / "x.yaml"


def plan_of(path: Path) -> PacketPlan:
    return planned(testbed.load(path), "simulation")[1]


@pytest.mark.parametrize("ng", [False, True])
def test_sizes_gaps_and_five_tuples_are_those_of_the_capture(tmp_path: Path, ng: bool) -> None:
    plan = plan_of(write(tmp_path, ng=ng))
    assert np.allclose(plan.t_ns, np.array(TIMES_US) * 1000, atol=1000)
    assert plan.size_bytes.tolist() == [max(74, len(frame)) for _, frame in FRAMES]
    kinds = [kind for kind, _ in FRAMES]
    assert plan.flow.tolist() == [list(dict.fromkeys(kinds)).index(kind) for kind in kinds]


def test_what_was_not_captured_of_a_packet_costs_no_five_tuple(tmp_path: Path) -> None:
    whole = plan_of(write(tmp_path))
    short = plan_of(write(tmp_path, snap=90))
    assert short.digest() == whole.digest()


def test_times_can_be_stretched_and_flows_shared(tmp_path: Path) -> None:
    plan = plan_of(write(tmp_path, stretch=2.0, flows=3, ip=6))
    assert np.allclose(plan.t_ns, np.array(TIMES_US) * 2000, atol=2000)
    assert set(plan.flow.tolist()) == {0, 1, 2}
    assert plan.size_bytes.min() == 94


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({}, "replay: packets: 13 frames as UDP datagrams of their sizes, 3 of them lengthened to 74 bytes; 9 five-tu"),
        ({"flows": 2}, "9 five-tuples share 2 flows (`flows`)"),
        ({"replay": None}, "replay: bytes: its bytes over time, as packets of 1000 bytes on 100 flows of the testbed"),
    ],
)
def test_how_a_capture_is_replayed_is_said(tmp_path: Path, source: dict[str, Any], said: str) -> None:
    loaded = testbed.load(write(tmp_path, **source))
    (note,) = check(loaded, "simulation")
    assert said in note
    assert "x.yaml:" in note
    run = testbed.simulate(loaded, out=tmp_path / "run")
    assert said in run.manifest["notes"][0]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({"packet": "500B"}, "frame 2 (in time order) has 1,454 bytes, but `packet` is 500B; raise `packet`"),
        ({"rate_scale": 2.0}, "rate_scale changes sizes"),
        ({"rows": "bins"}, "rows and bin are for CSV"),
        ({"replay": "frames"}, "expected one of bytes, packets"),
    ],
)
def test_what_contradicts_it_is_refused(tmp_path: Path, source: dict[str, Any], said: str) -> None:
    with pytest.raises(TestbedError) as refused:
        check(testbed.load(write(tmp_path, **source)), "simulation")
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (pcap([(0, 100, 100)], link_type=113), "link type 113, but five-tuples are read only from Ethernet"),
        (pcap([(0, 0, 0)]), "packet 1 has no length"),
        (b"time_s,bytes\n0,1000\n", "it is not a capture"),
    ],
)
def test_a_file_without_five_tuples_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    path = scenario(tmp_path)
    (tmp_path / "x.pcap").write_bytes(content)
    with pytest.raises(TestbedError) as refused:
        check(testbed.load(path), "simulation")
    assert said in str(refused.value)
