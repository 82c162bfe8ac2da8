"""The sender: sends each planned packet of one client at its planned time, through one raw socket.

All frames and all kernel structures are in memory before the clock starts: for packet i an ``mmsghdr`` that points to
two ``iovec``, its own header bytes and the shared padding.  They are numpy arrays; the pointers are computed without a
loop.  During the run only these steps remain: wait, find the packets that are due, write their timestamp, one
``sendmmsg``.

*Waiting.* An absolute ``clock_nanosleep`` ends about 20 us late (timer interrupt, wake-up of an idle CPU).  So the
sleep ends `SPIN_NS` early and the rest is busy waiting: at most 20 us per send time, and only after a sleep.  Where
packets are closer together, the sender neither waits actively nor wakes for each: it sleeps `COALESCE_NS` and sends all
packets that are due.

*Accuracy.* A packet counts as sent when the kernel has accepted it.  The lateness of a packet is measured after the
system call that accepted it, so it is an upper bound.  If the kernel refuses a packet (ENOBUFS, EAGAIN, interface
down), it is tried again until it is `GIVE_UP_NS` late, then counted as unsent; every refusal is counted by the name of
the error.  `sent_ns` in the frame is the time just before the call.  A call sends at most `BATCH` packets, so the
timestamp of the last one is too early by some tens of us at worst.  However a run ends, the report says what was sent
until then.

Source: the packet socket's PACKET_QDISC_BYPASS, Documentation/networking/packet_mmap.rst; sendmmsg(2).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import gc
import os
import signal
import socket
import threading
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType

import numpy as np

from testbed.emulation.processes.packet_socket import message_headers, packet_socket, sendmmsg
from testbed.errors import MachineError
from testbed.records.events import Ints
from testbed.records.histogram import Histogram
from testbed.scenario.network import Host
from testbed.scenario.sources import MIN_PACKET6_BYTES
from testbed.system import allowance, kernel
from testbed.traffic.frames import FrameSet, build_frames
from testbed.traffic.plan import PacketPlan
from testbed.units import NS_PER_MS, NS_PER_S

BATCH = 64
SPIN_NS = 20_000
COALESCE_NS = 20_000
GIVE_UP_NS = NS_PER_S
_LONGEST_SLEEP_NS = 50 * NS_PER_MS  # how long a request to stop may wait
_BACK_OFF_NS = 50_000
_BYTES_A_PACKET = MIN_PACKET6_BYTES + 2 * 16 + 64 + 24
_TRANSIENT = {errno.ENOBUFS, errno.EAGAIN, errno.EINTR, errno.ENOMEM, errno.ENETDOWN}


@dataclass(frozen=True, eq=False)
class SendReport:
    """What a sender did.

    Attributes:
        planned_pkts: packets of the plan.
        sent_pkts, sent_bytes: what the kernel took.
        unsent_pkts: tried and given up after `GIVE_UP_NS`.
        skipped_pkts: not tried, because the sender was stopped or failed.
        stopped: whether it was asked to stop before the end.
        real_time: whether it had the fixed priority it asked for.
        refusals: how often the kernel refused, by errno name; refused packets were tried again.
        failure: why the sender gave up before the end, empty when it did not.
        lateness: of the packets sent.
        sent: which packets of the client's plan the kernel took, a bit each, the first in the lowest.
        stamps_ns: int64, send time in the frame of each packet of the client's plan, CLOCK_MONOTONIC; empty where
            nobody asked, without meaning for a packet that was not sent.
        worst_ns_per_ms: int64 [ms of the run], worst lateness of the packets planned in each ms: where it stalled.
    """

    planned_pkts: int
    sent_pkts: int
    sent_bytes: int
    unsent_pkts: int
    skipped_pkts: int
    stopped: bool
    real_time: bool
    refusals: dict[str, int]
    failure: str
    lateness: Histogram
    worst_ns_per_ms: Ints
    sent: bytes
    stamps_ns: Ints


class Sender:
    """Sends the plan of one client from the network namespace it is made in.

    Making it takes the time (frames, structures, socket); `run` only waits and sends.
    """

    def __init__(
        self,
        interface: str,
        plan: PacketPlan,
        run_id: int,
        client: Host,
        *,
        priority: int | None = None,
        alive: Callable[[], None] = lambda: None,
        past_qdisc: bool = True,
        tos: int = 0,
        keep_stamps: bool = False,
    ) -> None:
        """Prepare to send.

        Args:
            interface: name of the client's interface in this network namespace.
            plan: the packets of this client (`PacketPlan.of_client`).
            run_id: what tells this run's frames from others', 32 bits.
            client: whose addresses the frames carry.
            priority: SCHED_FIFO priority while running; where it is not permitted, the report says so.
            alive: called once a second from the sending loop; must not block.
            past_qdisc: go past the interface's queueing discipline; not where one is there to delay the frames.
            tos: DSCP and ECN field of the frames.
            keep_stamps: whether to report when each packet was sent.

        Raises:
            MachineError: no right to open a packet socket, or not enough memory.
            ToolError: there is no such interface.
        """
        _check_memory(len(plan))
        self.frames: FrameSet = build_frames(plan, client, run_id, tos=tos)
        self._t_ns = plan.t_ns
        self._priority, self._alive, self._keep_stamps = priority, alive, keep_stamps
        self._iovecs, self._messages = message_headers(self.frames)
        self._bytes_before = np.concatenate(([0], np.cumsum(plan.size_bytes, dtype=np.int64)))
        # -1: not sent; filled, so that no page is first touched while sending
        self._late_ns = np.full(len(plan), -1, np.int64)
        self._stamp = self.frames.stamper()
        self._next = self._unsent_pkts = self._unsent_bytes = 0
        self._refusals: Counter[str] = Counter()
        self._failure, self._stopping = "", False
        self._messages_at = self._messages.ctypes.data
        self._socket = packet_socket(interface, past_qdisc)
        self._fd = self._socket.fileno()

    def stop(self) -> None:
        """Ask a running sender to end within about 50 ms; safe from a signal handler or another thread."""
        self._stopping = True

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def run(self, t0_ns: int) -> SendReport:
        """Send every packet at `t0_ns` (CLOCK_MONOTONIC) plus its planned time and say how it went.

        SIGTERM ends it early, as `stop` does.  A sender runs once.
        """
        with _stopping_on_sigterm(self.stop), _undisturbed(self._priority) as real_time:
            self._send_all(self._t_ns + t0_ns, t0_ns)
        return self._report(real_time)

    def _send_all(self, due_ns: Ints, t0_ns: int) -> None:
        # a memoryview gives plain integers, and bisect on it costs a tenth of a NumPy search among 64 values
        due, count = due_ns.data, len(due_ns)
        sign_ns = t0_ns + NS_PER_S
        while self._next < count and not self._stopping:
            first, now_ns = self._next, time.monotonic_ns()
            if now_ns >= sign_ns:
                self._alive()
                sign_ns += NS_PER_S
            elif due[first] > now_ns:
                _wait(due[first], now_ns)
            else:
                self._send(first, bisect_right(due, now_ns, first, min(first + BATCH, count)), due_ns)

    def _send(self, first: int, last: int, due_ns: Ints) -> None:
        """Stamp and send packets `first` to `last` - 1, or as many of them as the kernel takes."""
        self._stamp(first, last, time.monotonic_ns())
        sent = sendmmsg(self._fd, self._messages_at + 64 * first, last - first, socket.MSG_DONTWAIT)
        now_ns = time.monotonic_ns()
        if sent <= 0:
            self._refused(ctypes.get_errno(), now_ns, due_ns)
            return
        last = first + sent
        np.subtract(now_ns, due_ns[first:last], out=self._late_ns[first:last])
        self._next = last

    def _refused(self, number: int, now_ns: int, due_ns: Ints) -> None:
        """Take note of a refusal; give up what is too late, fail when trying again is of no use."""
        name = errno.errorcode.get(number, str(number))
        self._refusals[name] += 1
        if number not in _TRANSIENT:
            self._failure = f"sending packet {self._next}: {os.strerror(number)} ({name})"
            self._stopping = True
            return
        first = self._next
        self._next = first + int(np.searchsorted(due_ns[first:], now_ns - GIVE_UP_NS))
        self._unsent_pkts += self._next - first
        self._unsent_bytes += int(self._bytes_before[self._next] - self._bytes_before[first])
        kernel.sleep_until(now_ns + _BACK_OFF_NS)

    def _sent_bytes(self) -> int:
        return int(self._bytes_before[self._next]) - self._unsent_bytes

    def _report(self, real_time: bool) -> SendReport:
        planned, tried = len(self.frames), self._next
        sent = self._late_ns[:tried] >= 0
        late_ns = self._late_ns[:tried][sent]
        return SendReport(
            planned_pkts=planned,
            sent_pkts=tried - self._unsent_pkts,
            sent_bytes=self._sent_bytes(),
            unsent_pkts=self._unsent_pkts,
            skipped_pkts=planned - tried,
            stopped=self._stopping and tried < planned and not self._failure,
            real_time=real_time,
            refusals=dict(sorted(self._refusals.items())),
            failure=self._failure,
            lateness=Histogram.of(late_ns),
            worst_ns_per_ms=_worst_per_ms(self._t_ns[:tried][sent], late_ns),
            sent=np.packbits(self._late_ns >= 0, bitorder="little").tobytes(),
            stamps_ns=self.frames.sent_ns.astype(np.int64) if self._keep_stamps else np.zeros(0, np.int64),
        )


def _worst_per_ms(planned_ns: Ints, late_ns: Ints) -> Ints:
    """Return the worst lateness of what was planned (ascending) in each ms, int64 [last ms + 1]; 0 for none."""
    if not len(planned_ns):
        return np.zeros(0, np.int64)
    worst = np.zeros(int(planned_ns[-1]) // NS_PER_MS + 1, np.int64)
    np.maximum.at(worst, planned_ns // NS_PER_MS, late_ns)
    return worst


def _wait(due_ns: int, now_ns: int) -> None:
    """Return at `due_ns`, or earlier when that is long away; later, by `COALESCE_NS` at most, when it is near."""
    ahead_ns = due_ns - now_ns
    if ahead_ns <= SPIN_NS:
        kernel.sleep_until(now_ns + COALESCE_NS)
    elif ahead_ns > _LONGEST_SLEEP_NS:
        kernel.sleep_until(now_ns + _LONGEST_SLEEP_NS)
    else:
        kernel.sleep_until(due_ns - SPIN_NS)
        while time.monotonic_ns() < due_ns:
            pass


def _check_memory(packets: int) -> None:
    """Refuse a plan whose frames would take more than half of the memory there is."""
    needed = packets * _BYTES_A_PACKET
    available = allowance.free_bytes()
    if needed > available // 2:
        raise MachineError(
            f"preparing {packets:,} packets",
            f"they take {needed / 1e9:.1f} GB, and {available / 1e9:.1f} GB are free",
            "shorten the run, lower the rates or use larger packets",
        )


@contextlib.contextmanager
def _stopping_on_sigterm(stop: Callable[[], None]) -> Iterator[None]:
    """Let SIGTERM call `stop`; only the main thread may set handlers, elsewhere the owner calls `stop` itself."""

    def handle(_number: int, _frame: FrameType | None) -> None:
        stop()

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _undisturbed(priority: int | None) -> Iterator[bool]:
    """Be woken on time for the length of the block: sharp timers, no garbage collection, and `priority` if possible."""
    kernel.sharpen_timers()
    collecting = gc.isenabled()
    gc.disable()
    real_time = priority is not None and kernel.run_in_real_time(priority)
    try:
        yield real_time
    finally:
        if real_time:
            os.sched_setscheduler(0, os.SCHED_OTHER | os.SCHED_RESET_ON_FORK, os.sched_param(0))
        if collecting:
            gc.enable()
