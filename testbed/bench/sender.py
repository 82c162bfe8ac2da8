"""How fast and how punctual the sender is, beside Scapy's `sendp` and tcpreplay, over one veth pair.

All of it runs in a network namespace of a child process; the far end of the pair drops what it gets.  Every figure is
the median of `_REPEATS` runs.  The rate is that of a plan whose packets are all due at once.  Punctuality at 100,000
packets a second is measured by the sender's own report (from the planned instant to the return of the system call),
and as the far end sees it, for the sender and tcpreplay alike: the kernel's arrival stamps against an even schedule
laid through the most punctual packet.  Beside it stands the processor time, because tcpreplay buys its punctuality by
never sleeping.  Scapy's `sendpfast` is tcpreplay behind a Python loop that writes the capture, so it is listed as
tcpreplay.
"""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from pyroute2 import IPRoute
from scapy.config import conf
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Raw
from scapy.sendrecv import sendp
from scapy.utils import RawPcapWriter

from testbed.bench import apart
from testbed.emulation.processes.sender import Sender, SendReport
from testbed.errors import CommandError, ToolError
from testbed.records.events import Ints
from testbed.scenario.network import VIP_IP, VIP_MAC, Host
from testbed.scenario.sources import MIN_PACKET_BYTES
from testbed.system import commands, kernel, probes
from testbed.traffic.frames import ProbeHeader, build_frames
from testbed.traffic.plan import FlowTable, PacketPlan
from testbed.units import NS_PER_S

NEAR, FAR = "c1-eth0", "far0"
CLIENT = Host("c1", "client")
PACED_PPS = 100_000
PACKET_BYTES = 1000
_FLOWS = 200
_RATE_PKTS = 300_000
_PREPARED_PKTS = 200_000
_PACED_PKTS = 100_000
_SCAPY_PKTS = 2_000
_REPEATS = 3
_SO_TIMESTAMPNS, _SO_RCVBUFFORCE = 35, 33
_PRIORITY = 10
_LEAD_NS = 100_000_000

Row = dict[str, Any]


def run() -> list[Row]:
    """Measure, and return rows of name, value, unit, rival, rival_value, ratio (value / rival_value), bar, met.

    Raises:
        TestbedError: what went wrong in the measuring process.
    """
    return apart.rows("testbed.bench.sender")


def _measure(folder: Path) -> list[Row]:
    """Measure in this process, whose network namespace becomes a new one."""
    kernel.unshare(kernel.CLONE_NEWNET)
    _make_pair()
    prepare_ms = median(_timed(lambda: _sender(_PREPARED_PKTS, 0).close()) for _ in range(_REPEATS)) * 1e3
    scapy_ms = _timed(lambda: _scapy_frames(_SCAPY_PKTS)) * 1e3 * _PREPARED_PKTS / _SCAPY_PKTS
    rate_pps = median(_rate_pps() for _ in range(_REPEATS))
    late_us = median((_paced().lateness.quantile_ns(0.99) or 0.0) / 1e3 for _ in range(_REPEATS))
    rows = [
        _row("sender.prepare_200k", prepare_ms, "ms", "Scapy, each frame", scapy_ms, "<= 300"),
        _row("sender.rate", rate_pps, "pps", "Scapy sendp", _sendp_pps(), ">= 300000"),
        _row("sender.late_p99_at_100kpps", late_us, "us", "", None, "<= 100"),
    ]
    return rows + (_beside_tcpreplay(rate_pps, folder / "frames.pcap") if probes.tool("tcpreplay") else [])


def _beside_tcpreplay(rate_pps: float, capture: Path) -> list[Row]:
    _write_capture(capture)
    top_pps = median(_tcpreplay(capture, "--topspeed") for _ in range(_REPEATS))
    ours = [_seen(_paced) for _ in range(_REPEATS)]
    theirs = [_seen(lambda: _tcpreplay(capture, f"--pps={PACED_PPS}")) for _ in range(_REPEATS)]
    seen_us, rival_us = (median(late_us for late_us, _ in runs) for runs in (ours, theirs))
    cpu, rival_cpu = (median(cpu for _, cpu in runs) for runs in (ours, theirs))
    return [
        _row("sender.rate", rate_pps, "pps", "tcpreplay --topspeed", top_pps, ">= 300000"),
        _row("sender.seen_late_p99_at_100kpps", seen_us, "us", "tcpreplay --pps", rival_us, "<= 100"),
        _row("sender.cpu_at_100kpps", cpu, "% of a core", "tcpreplay --pps", rival_cpu, ""),
    ]


def _row(name: str, value: float, unit: str, rival: str, rival_value: float | None, bar: str) -> Row:
    ratio = round(value / rival_value, 4) if rival_value else None
    rounded = None if rival_value is None else round(rival_value, 1)
    relation, _, limit = bar.partition(" ")
    met = None if not bar else value <= float(limit) if relation == "<=" else value >= float(limit)
    return {
        **{"name": name, "value": round(value, 1), "unit": unit, "rival": rival},
        **{"rival_value": rounded, "ratio": ratio, "bar": bar, "met": met},
    }


def _timed(body: Callable[[], object]) -> float:
    """Return the seconds `body` takes."""
    start = time.perf_counter()
    body()
    return time.perf_counter() - start


def _make_pair() -> None:
    with IPRoute() as netlink:
        netlink.link("add", ifname=NEAR, kind="veth", peer={"ifname": FAR})
        for name in (NEAR, FAR):
            netlink.link("set", index=netlink.link_lookup(ifname=name)[0], state="up")


def _arrived_pkts() -> int:
    with IPRoute() as netlink:
        (link,) = netlink.link("get", ifname=FAR)
        return int(link.get_attr("IFLA_STATS64")["rx_packets"])


# ----------------------------------------------------------------------------------------------------- our sender


def _plan(count: int, gap_ns: int) -> PacketPlan:
    """Return `count` packets of 1000 B, `gap_ns` apart, over 200 flows."""
    flow = (np.arange(count) % _FLOWS).astype(np.int32)
    zeros = np.zeros(_FLOWS, np.int16)
    ports = np.arange(10_000, 10_000 + _FLOWS, dtype=np.int32)
    return PacketPlan(
        duration_ns=count * gap_ns + 1,
        clients=(CLIENT.name,),
        sources=("bench",),
        flows=FlowTable(zeros, zeros.copy(), ports, np.full(_FLOWS, 9000, np.int32)),
        t_ns=np.arange(count, dtype=np.int64) * gap_ns,
        source=np.zeros(count, np.int16),
        flow=flow,
        seq=(np.arange(count) // _FLOWS).astype(np.int32),
        size_bytes=np.full(count, PACKET_BYTES, np.int32),
    )


def _sender(count: int, gap_ns: int) -> Sender:
    return Sender(NEAR, _plan(count, gap_ns), 1, CLIENT, priority=_PRIORITY)


def _rate_pps() -> float:
    """Return the rate of a sender that is never early, every packet seen at the far end."""
    sender, before = _sender(_RATE_PKTS, 0), _arrived_pkts()
    report: list[SendReport] = []
    took_s = _timed(lambda: report.append(sender.run(time.monotonic_ns())))
    sender.close()
    arrived = _arrived_pkts() - before
    if report[0].sent_pkts != _RATE_PKTS or arrived < _RATE_PKTS:
        happened = f"{report[0].sent_pkts} of {_RATE_PKTS} packets sent, {arrived} arrived"
        raise ToolError("measuring the sender's rate", happened, "check whether the machine has enough memory")
    return _RATE_PKTS / took_s


def _paced() -> SendReport:
    """Send `_PACED_PKTS` packets at `PACED_PPS`."""
    sender = _sender(_PACED_PKTS, NS_PER_S // PACED_PPS)
    report = sender.run(time.monotonic_ns() + _LEAD_NS)
    sender.close()
    return report


def _seen(send: Callable[[], object]) -> tuple[float, float]:
    """Return the p99 lateness (us) of paced packets by their arrival stamps, and the processor time as % of a core."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as far:
        far.bind((FAR, 3))
        far.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 2**30 - 1)  # 100,000 frames fit
        far.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        before_s = _cpu_s()
        send()
        cpu_s = _cpu_s() - before_s
        arrived_ns = _arrival_stamps(far)
    schedule_ns = np.arange(len(arrived_ns), dtype=np.int64) * (NS_PER_S // PACED_PPS)
    late_ns = arrived_ns - schedule_ns
    return float(np.percentile(late_ns - late_ns.min(), 99)) / 1e3, 100 * cpu_s * PACED_PPS / _PACED_PKTS


def _cpu_s() -> float:
    """Return the processor time of this process and of its ended children."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _arrival_stamps(far: socket.socket) -> Ints:
    """Read what waits in the socket and return when our frames arrived; the machine's own (IPv6, ARP) are left out."""
    stamps = []
    far.setblocking(False)
    while True:
        try:
            data, control, _, _ = far.recvmsg(128, 64)
        except BlockingIOError:
            break
        if data[12:14] == b"\x08\x00":
            seconds, nanoseconds = np.frombuffer(control[0][2], np.int64)
            stamps.append(int(seconds) * NS_PER_S + int(nanoseconds))
    if len(stamps) != _PACED_PKTS:
        happened = f"{len(stamps)} of {_PACED_PKTS} frames were captured"
        raise ToolError("measuring punctuality", happened, "check whether the machine has enough memory")
    return np.array(stamps, np.int64)


# --------------------------------------------------------------------------------------------------------- rivals


def _frames(count: int) -> list[bytes]:
    frames = build_frames(_plan(count, 0), CLIENT, 1)
    return [frames.frame(index) for index in range(count)]


def _scapy_frames(count: int) -> list[bytes]:
    """Build each frame by Scapy alone."""
    rest = bytes(PACKET_BYTES - MIN_PACKET_BYTES)
    return [
        bytes(
            Ether(dst=VIP_MAC, src=CLIENT.mac)
            / IP(src=CLIENT.ip, dst=VIP_IP, flags="DF")
            / UDP(sport=10_000, dport=9_000, chksum=0)
            / ProbeHeader(seq=seq)
            / Raw(rest)
        )
        for seq in range(count)
    ]


def _sendp_pps() -> float:
    packets = [Ether(frame) for frame in _frames(_SCAPY_PKTS)]
    conf.ifaces.reload()
    return _SCAPY_PKTS / _timed(lambda: sendp(packets, iface=NEAR, verbose=0))


def _write_capture(path: Path) -> None:
    writer = RawPcapWriter(str(path), linktype=1)
    writer.write_header(None)
    for index, frame in enumerate(_frames(_PACED_PKTS)):
        writer.write_packet(frame, sec=index // PACED_PPS, usec=index % PACED_PPS * 10)
    writer.close()


def _tcpreplay(capture: Path, speed: str) -> float:
    """Replay the capture and return the rate tcpreplay says it reached."""
    argv = ["tcpreplay", f"--intf1={NEAR}", speed, "--preload-pcap", str(capture)]
    said = commands.run("measuring tcpreplay", argv, env=probes.environment(), timeout_s=60.0, tied=True)
    found = re.search(r"Rated:.*?([0-9.]+) pps", said)
    if found is None:
        raise CommandError("measuring tcpreplay", argv, 0, said, "it states no rate")
    return float(found.group(1))


if __name__ == "__main__":
    apart.answer(_measure)
