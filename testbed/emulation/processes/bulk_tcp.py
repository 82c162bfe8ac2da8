"""Long-lived TCP connections beside the planned packets: they show the effect of a large buffer on other traffic.

A source opens its connections to the VIP and keeps each of them full from the start to the end of the run; congestion
control determines how much it sends.  One process accepts all connections at all backends.  Both are our own programs,
not iperf3: the balancer places every connection separately, so the control connection of iperf3 would reach a different
backend than its data.

    source (client's namespace) ── s1 ── node: same queue ── backend: kernel TCP, bytes discarded
                └────────────── acknowledgements: backend ── node's kernel ── s1 ◀──┘

Planned packets have their own DSCP, `PLANNED_DSCP`, by which the program of a node counts them separately from TCP. So
they remain accounted one by one, while lost TCP segments are retransmitted by the sender.  All other packets belong to
TCP, including resets, which the kernel sends without the DSCP of their connection.

The kernel's counters are read every 10 ms (TCP_INFO): bytes acknowledged, retransmitted segments, round-trip time
(smoothed by the kernel over about eight acknowledgements).

Source: Linux, include/uapi/linux/tcp.h (struct tcp_info); RFC 2474 (DSCP; class selector 1).
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from testbed.emulation.processes.channel import EventRecord, RecordWriter
from testbed.emulation.processes.pulse import Pulse
from testbed.emulation.processes.trial_process import Body, Stopped, TrialConnection
from testbed.errors import MachineError, ToolError
from testbed.records.histogram import Histogram, merged
from testbed.records.processes import TcpSampled
from testbed.scenario.base import IpVersion
from testbed.scenario.network import VIP_IP, VIP_IP6
from testbed.scenario.sources import TcpSpec
from testbed.system import kernel
from testbed.units import NS_PER_MS, NS_PER_S

PORT = 5201
_VIP = {socket.AF_INET: VIP_IP, socket.AF_INET6: VIP_IP6}
FIRST_SOURCE_PORT = 20_000  # fixed, so that the balancer places a connection alike in every run of a seed
PORTS_A_SOURCE = 64
SAMPLE_NS = 10 * NS_PER_MS
SAMPLES_AN_EVENT = 10
_RTTS_AT_ONCE = 4096  # counted together
_CHUNK = bytes(1 << 17)
_WINDOW = "4096 131072 33554432"  # the largest must hold what the largest buffer holds
_TCP_NOTSENT_LOWAT = 25
_NOW = struct.pack("ii", 1, 0)  # SO_LINGER: close throws away what is not sent
_INFO_BYTES = 152
_RTT_AT, _CWND_AT, _RETRANSMITTED_AT, _ACKED_AT = 68, 80, 100, 120


class TcpInfo(NamedTuple):
    """The kernel's counters of one connection."""

    rtt_ns: int
    cwnd_pkts: int
    retransmitted_pkts: int
    acked_bytes: int


def read_info(connection: socket.socket) -> TcpInfo:
    """Return what the kernel knows of a connection now."""
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
    rtt_us, cwnd, retransmitted = (
        struct.unpack_from("I", info, at)[0] for at in (_RTT_AT, _CWND_AT, _RETRANSMITTED_AT)
    )
    return TcpInfo(
        rtt_ns=rtt_us * 1000,
        cwnd_pkts=cwnd,
        retransmitted_pkts=retransmitted,
        acked_bytes=struct.unpack_from("Q", info, _ACKED_AT)[0],
    )


def prepare_namespace(ecn: bool) -> None:
    """Set the current network namespace up for TCP through buffers of megabytes."""
    base = Path("/proc/sys/net/ipv4")
    (base / "tcp_rmem").write_text(_WINDOW)
    (base / "tcp_wmem").write_text(_WINDOW)
    (base / "tcp_ecn").write_text("1" if ecn else "0")


# ----------------------------------------------------------------------------------------------------------- sink


def sink(backend_pids: Mapping[str, int], ecn: bool, pulse: Pulse) -> Body:
    """Return the process that takes in every connection at every backend, and beats `pulse` meanwhile."""

    def run(trial: TrialConnection, _records: RecordWriter) -> None:
        stopped = Stopped()
        with select.epoll() as poll:
            listeners = {listener.fileno(): listener for listener in _listeners(backend_pids, ecn)}
            for descriptor in listeners:
                poll.register(descriptor, select.EPOLLIN)
            trial.say_ready()
            pulse.begin(time.monotonic_ns())
            _take_in(poll, listeners, stopped, pulse)

    return run


def _listeners(backend_pids: Mapping[str, int], ecn: bool) -> list[socket.socket]:
    listeners = []
    for pid in backend_pids.values():
        with kernel.network_of(pid):
            prepare_namespace(ecn)
            for family, address in _VIP.items():
                listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
                listener.bind((address, PORT))
                listener.listen(64)
                listeners.append(listener)
    return listeners


def _take_in(poll: select.epoll, listeners: Mapping[int, socket.socket], stopped: Stopped, pulse: Pulse) -> None:
    connections: dict[int, socket.socket] = {}
    waste = bytearray(1 << 20)
    while not stopped:
        pulse.beat(time.monotonic_ns())
        for descriptor, _ in poll.poll(pulse.period_ns / NS_PER_S):
            if descriptor in listeners:
                connection, _ = listeners[descriptor].accept()
                connections[connection.fileno()] = connection
                poll.register(connection.fileno(), select.EPOLLIN)
            elif not _throw_away(connections[descriptor], waste):
                poll.unregister(descriptor)
                connections.pop(descriptor).close()


def _throw_away(connection: socket.socket, waste: bytearray) -> bool:
    """Take what is there; return whether more may come.  MSG_TRUNC: the kernel need not copy what nobody reads."""
    try:
        return connection.recv_into(waste, len(waste), socket.MSG_TRUNC) > 0
    except OSError:
        return False


# --------------------------------------------------------------------------------------------------------- source


def source(spec: TcpSpec, number: int, client_pid: int, duration_ns: int, ecn: bool, pulse: Pulse) -> Body:
    """Return the process that sends for TCP source `number` of the scenario; it reports the fields of `TcpEvidence`."""

    def run(trial: TrialConnection, records: RecordWriter) -> None:
        stopped = Stopped()
        kernel.enter_namespace(f"/proc/{client_pid}/ns/net", kernel.CLONE_NEWNET)
        prepare_namespace(ecn)
        bulk = BulkSource(spec, FIRST_SOURCE_PORT + number * PORTS_A_SOURCE, records, pulse)
        t0_ns = trial.ready()
        trial.report(bulk.run(t0_ns, duration_ns, stopped))
        trial.stopped_early = bool(stopped)

    return run


class BulkSource:
    """The connections of one source."""

    def __init__(self, spec: TcpSpec, first_port: int, records: RecordWriter, pulse: Pulse) -> None:
        """Make the sockets, of source ports from `first_port` on; nothing is sent yet.

        Raises:
            MachineError: the kernel has no such congestion control.
        """
        self._spec, self._records, self._pulse = spec, records, pulse
        self._streams = [
            _make_socket(spec.congestion, _family(spec.ip, k), first_port + k) for k in range(spec.streams)
        ]
        self._last = [TcpInfo(0, 0, 0, 0)] * spec.streams
        self._alive = [True] * spec.streams
        self._rtt, self._rtts_ns = Histogram.of(()), list[int]()  # the latest are not in the histogram yet
        self._samples = 0

    def run(self, t0_ns: int, duration_ns: int, stopped: Stopped) -> dict[str, Any]:
        """Send from t0 for `duration_ns`, or until stopped; return what came of it."""
        kernel.sleep_until(t0_ns)
        self._pulse.begin(t0_ns)
        with select.epoll() as poll:
            index_of = self._connect(poll)
            self._send(poll, index_of, t0_ns, t0_ns + duration_ns, stopped)
        ran_ns = time.monotonic_ns() - t0_ns
        for stream in self._streams:
            stream.close()
        return self._report(ran_ns)

    def _connect(self, poll: select.epoll) -> dict[int, int]:
        index_of = {}
        for index, stream in enumerate(self._streams):
            stream.setblocking(False)
            if stream.connect_ex((_VIP[stream.family], PORT)) not in (0, errno.EINPROGRESS):
                raise ToolError(f"connecting the TCP source {self._spec.name}", "the VIP cannot be reached")
            poll.register(stream.fileno(), select.EPOLLOUT)
            index_of[stream.fileno()] = index
        return index_of

    def _send(self, poll: select.epoll, index_of: dict[int, int], t0_ns: int, end_ns: int, stopped: Stopped) -> None:
        sample_ns = t0_ns + SAMPLE_NS
        while not stopped and (now_ns := time.monotonic_ns()) < end_ns:
            self._pulse.beat(now_ns)
            if now_ns >= sample_ns:
                self._sample(now_ns - t0_ns)
                sample_ns += SAMPLE_NS * ((now_ns - sample_ns) // SAMPLE_NS + 1)
            for descriptor, _ in poll.poll(max(0, min(sample_ns, end_ns) - now_ns) / NS_PER_S):
                index = index_of[descriptor]
                if not self._fill(self._streams[index]):
                    self._alive[index] = False
                    poll.unregister(descriptor)
        self._sample(time.monotonic_ns() - t0_ns)

    def _fill(self, stream: socket.socket) -> bool:
        """Hand the kernel as much as it takes; return whether the connection lives."""
        try:
            stream.send(_CHUNK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return True

    def _sample(self, t_ns: int) -> None:
        for index, stream in enumerate(self._streams):
            if self._alive[index]:
                self._last[index] = info = read_info(stream)
                self._rtts_ns += [info.rtt_ns] if info.acked_bytes else []
        if len(self._rtts_ns) >= _RTTS_AT_ONCE:
            self._count_rtts()
        self._samples += 1
        if self._samples % SAMPLES_AN_EVENT == 0:
            self._records.send(EventRecord.of(t_ns, TcpSampled(source=self._spec.name, **self._columns())))

    def _count_rtts(self) -> None:
        counted = merged((self._rtt, Histogram.of(self._rtts_ns)))
        assert counted is not None
        self._rtt, self._rtts_ns = counted, []

    def _columns(self) -> dict[str, tuple[int, ...]]:
        return {name: tuple(getattr(info, name) for info in self._last) for name in TcpInfo._fields}

    def _report(self, ran_ns: int) -> dict[str, Any]:
        self._count_rtts()
        return {
            "source": self._spec.name,
            "client": self._spec.client,
            "congestion": self._spec.congestion,
            "streams": self._spec.streams,
            "broken_streams": sum(not alive for alive in self._alive),
            "ran_ns": ran_ns,
            "acked_bytes": sum(info.acked_bytes for info in self._last),
            "retransmitted_pkts": sum(info.retransmitted_pkts for info in self._last),
            "rtt": self._rtt,
        }


def _family(version: IpVersion, stream: int) -> socket.AddressFamily:
    """Return the family of a stream; of mixed ones every second is IPv6."""
    over_ip6 = stream % 2 == 1 if version == "mixed" else version == 6
    return socket.AF_INET6 if over_ip6 else socket.AF_INET


def _make_socket(congestion: str, family: socket.AddressFamily = socket.AF_INET, port: int = 0) -> socket.socket:
    stream = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, congestion.encode())
    except OSError as error:
        stream.close()
        raise MachineError(
            f"choosing the congestion control {congestion}", os.strerror(error.errno or 0), f"modprobe tcp_{congestion}"
        ) from error
    stream.bind(("", port))
    stream.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, len(_CHUNK))
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NOW)
    return stream
