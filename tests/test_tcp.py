"""TCP beside planned packets, and congestion marks: both through the queue of the real kernel."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import threading
from pathlib import Path
from typing import Any

import pytest
from pyroute2 import IPRoute

from testbed.doctor import software
from testbed.emulation.dataplane.xdp import PassProgram
from testbed.emulation.network import offloads
from testbed.emulation.processes import bulk_tcp
from testbed.emulation.sandbox import Sandbox
from testbed.errors import MachineError
from testbed.records.evidence import Evidence, TcpEvidence
from testbed.records.histogram import Histogram
from testbed.report import key_figures
from testbed.results.tcp import tcp_section
from testbed.scenario.model import Scenario
from testbed.system import probes
from tests import written_run
from tests.written_run import Written, constant

ON_THE_KERNEL = pytest.mark.requires("root", "bpf", "ovs", "mininet")
ROOMY = {"policy": "static-max", "min": "0.1MB", "max": "1MB"}
THRESHOLD = 30_000
ETHTOOL_GGRO = 0x2B


def bulk(congestion: str = "cubic", streams: int = 2) -> dict[str, Any]:
    return {"name": congestion, "from": "c1", "shape": "tcp", "congestion": congestion, "streams": streams}


# ------------------------------------------------------------------------------------------------ on the real kernel


@pytest.fixture(scope="module")
def beside(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """TCP beside 4 Mbit/s of planned packets, half of each over IPv6, through buffers of 1 MB."""
    traffic = [constant("4Mbit", flows=20) | {"ip": "mixed"}, bulk("cubic", 4) | {"ip": "mixed"}]
    return written_run.run(tmp_path_factory.mktemp("run"), "beside", buffer=ROOMY, duration="2s", traffic=traffic)


@ON_THE_KERNEL
def test_planned_packets_stay_accounted_one_by_one(beside: Written) -> None:
    assert beside.summary["traffic"]["unaccounted_packets"] == 0
    for node in beside.nodes.values():
        assert node["arrived_pkts"] == node["delivered_pkts"] + node["dropped_pkts"]
        assert node["arrived_bytes"] == 1000 * node["arrived_pkts"]
    assert beside.total("arrived_pkts") == beside.summary["traffic"]["sent_packets"]


@ON_THE_KERNEL
def test_planned_packets_stay_accounted_while_a_node_and_a_link_fail(tmp_path: Path) -> None:
    """What TCP loses on the link is in the kernel's counts as well; which packets were planned is known one by one."""
    faults = [{"at": "300ms", "crash": "n1", "for": "400ms"}, {"at": "900ms", "link_down": "s1-n2", "for": "400ms"}]
    traffic = [constant("6Mbit", flows=40) | {"ip": "mixed"}, bulk("cubic", 4) | {"ip": "mixed"}]
    run = written_run.run(tmp_path, "failing", buffer=ROOMY, duration="1800ms", traffic=traffic, faults=faults)
    section = run.summary["traffic"]
    assert (section["unaccounted_packets"], run.evidence["faults_unseen"]) == (0, [])
    assert section["dropped_packets"]["fault"] > 0
    assert run.evidence["fault_counted_pkts"] == run.evidence["fault_numbered_pkts"] > 0


@ON_THE_KERNEL
def test_connections_fill_what_is_left(beside: Written) -> None:
    section = beside.summary["tcp"]
    assert section["streams"] == 4
    assert section["broken_streams"] == 0
    assert section["goodput_bps"] > 10e6
    assert section["arrived_packets"] == beside.total("tcp_arrived_pkts") > 1000
    acked = beside.evidence["tcp"][0]["acked_bytes"]
    assert beside.total("tcp_arrived_bytes") > acked, "what was acknowledged went through the nodes"
    assert section["rtt_ms"]["p99"] > section["rtt_ms"]["min"] > 0


@ON_THE_KERNEL
def test_the_queue_holds_frames_no_larger_than_those_sent(beside: Written) -> None:
    for node in beside.nodes.values():
        sent = node["tcp_arrived_bytes"] + node["arrived_bytes"]
        assert node["qdisc_sent_bytes"] / node["qdisc_sent_pkts"] <= 1514
        assert node["qdisc_sent_bytes"] == pytest.approx(sent, rel=0.01)


@ON_THE_KERNEL
def test_connections_are_sampled_into_the_events(beside: Written) -> None:
    samples = [event for event in beside.events if event["kind"] == "TcpSampled"]
    assert len(samples) > 10
    acked = [sum(event["acked_bytes"]) for event in samples]
    assert acked == sorted(acked)
    assert acked[-1] > 0


@ON_THE_KERNEL
def test_a_small_buffer_loses_segments_and_they_are_sent_again(tmp_path: Path) -> None:
    small = {"policy": "static-min", "min": "20kB"}
    written = written_run.run(tmp_path, "small", buffer=small, traffic=[constant("4Mbit"), bulk("cubic", 4)])
    section = written.summary["tcp"]
    assert section["dropped_packets"] > 0
    assert section["retransmitted_packets"] >= section["dropped_packets"] / 2
    assert written.summary["traffic"]["unaccounted_packets"] == 0


@ON_THE_KERNEL
def test_marks_are_counted_and_arrive(tmp_path: Path) -> None:
    buffer = {**written_run.BASE["buffer"], "ecn_threshold": f"{THRESHOLD}B"}
    written = written_run.run(tmp_path, "marked", buffer=buffer, traffic=[constant("30Mbit")])
    marked = written.summary["buffer"]["marked_packets"]
    assert marked == written.total("marked_pkts") == written.total("marked_delivered_pkts")
    (busy,) = [node for node in written.nodes.values() if node["arrived_pkts"]]
    # 30 Mbit/s into 20: above the threshold from 24 ms on, so all admitted packets but those of that time.
    assert 0.9 * busy["delivered_pkts"] < marked < busy["delivered_pkts"]
    assert written.summary["traffic"]["unaccounted_packets"] == 0


@ON_THE_KERNEL
def test_without_a_threshold_nothing_is_marked(beside: Written) -> None:
    assert "marked_packets" not in beside.summary["buffer"]
    assert "marked_packets" not in beside.summary["tcp"]


@ON_THE_KERNEL
def test_connections_slow_down_where_they_are_marked(tmp_path: Path, beside: Written) -> None:
    buffer = {**ROOMY, "ecn_threshold": f"{THRESHOLD}B"}
    traffic = [constant("4Mbit", flows=20), bulk("cubic", 4)]
    written = written_run.run(tmp_path, "ecn", buffer=buffer, duration="2s", traffic=traffic)
    assert written.summary["tcp"]["marked_packets"] > 0
    assert written.summary["tcp"]["rtt_ms"]["p50"] < beside.summary["tcp"]["rtt_ms"]["p50"] / 2


# ------------------------------------------------------------------------------------------------------- the parts


def test_the_kernels_books_are_read_where_they_are() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as client:
        client.connect(server.getsockname())
        taken, _ = server.accept()
        with taken:
            reader = threading.Thread(target=lambda: taken.recv(5000, socket.MSG_WAITALL))
            reader.start()
            client.sendall(bytes(5000))
            reader.join()
            taken.sendall(b"x")  # its acknowledgement of ours rides on this
            client.recv(1)
            info = bulk_tcp.read_info(client)
    assert info.acked_bytes in (5000, 5001)  # the kernel counts the SYN
    assert info.retransmitted_pkts == 0
    assert 0 < info.rtt_ns < 10**9
    assert info.cwnd_pkts >= 2


@pytest.mark.requires("root", "bpf")
def test_frames_are_not_merged_behind_an_attached_program() -> None:
    def merging(interface: str) -> bool:
        with socket.socket() as control:
            value = ctypes.create_string_buffer(struct.pack("II", ETHTOOL_GGRO, 0))
            fcntl.ioctl(control, 0x8946, struct.pack("16sP", interface.encode(), ctypes.addressof(value)))
        return bool(struct.unpack("II", value.raw[:8])[1])

    def inside() -> int:
        with IPRoute() as netlink:
            netlink.link("add", ifname="probe0", kind="veth", peer="probe1")
            for name in ("probe0", "probe1"):
                netlink.link("set", index=netlink.link_lookup(ifname=name)[0], state="up")
        offloads.switch_off(["probe0", "probe1"])
        with PassProgram() as program:
            program.attach(socket.if_nametoindex("probe0"))
        offloads.switch_gro_off("probe0")
        return int(merging("probe0"))

    assert Sandbox(inside).wait() == 0


def test_an_unknown_congestion_control_is_refused() -> None:
    with pytest.raises(MachineError, match="no_such"):
        bulk_tcp._make_socket("no_such")


def test_doctor_tries_the_congestion_controls_a_scenario_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    scenario = Scenario.model_validate({**written_run.BASE, "traffic": [constant("1Mbit"), bulk("bbr")]})
    monkeypatch.setattr(probes, "congestion_control", lambda name: os.strerror(2) if name == "bbr" else "")
    (found,) = software._congestion_controls(scenario)
    assert (found.name, found.status) == ("tcp_bbr", "missing")
    assert list(software._congestion_controls(None)) == []


def tcp_evidence(name: str, acked: int, rtt_ms: int) -> TcpEvidence:
    rtt = Histogram.of([rtt_ms * 10**6] * 9)
    return TcpEvidence(name, "c1", "cubic", 2, 0, 2 * 10**9, acked, 7, rtt)


def test_the_section_adds_sources_up_and_tells_them_apart() -> None:
    sources = (tcp_evidence("a", 1_000_000, 10), tcp_evidence("b", 3_000_000, 40))
    section = tcp_section(Evidence("emulation", 2 * 10**9, (), (), tcp=sources))
    assert section is not None
    assert section["goodput_bps"] == 16_000_000
    assert section["retransmitted_packets"] == 14
    assert [part["goodput_bps"] for part in section["sources"]] == [4_000_000, 12_000_000]
    assert section["sources"][1]["rtt_ms"]["p50"] == pytest.approx(40, rel=0.05)
    assert section["queueing_ms"]["p50"] == section["rtt_ms"]["p50"] - section["rtt_ms"]["min"]
    assert section["queueing_ms"]["p99"] == pytest.approx(30, rel=0.1)
    written = dict(dict(key_figures.groups({"tcp": section}))["TCP"])
    assert written["b, cubic"].startswith("12 Mbit/s, 7 retransmitted, queueing p50 0")
    assert "dropped_packets" not in section, "no node said what it dropped"
    assert tcp_section(Evidence("emulation", 1, (), ())) is None


def test_tcp_evidence_is_read_back_as_written() -> None:
    evidence = Evidence("emulation", 1, (), (), tcp=(tcp_evidence("a", 5, 1),))
    assert Evidence.from_record(evidence.to_record()).to_record() == evidence.to_record()
