"""The state of the machine during the trial: idle, stolen and suspended time, a CPU quota, overflows of kernel tables.

The CPU counters are those of the whole machine, on purpose: other load disturbs a trial as much as the trial's own.  A
step of the wall clock disturbs nothing, because all times of a run are monotonic.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from testbed.emulation.cpu_quota import CpuQuota
from testbed.units import NS_PER_S


class CpuTimes(NamedTuple):
    """Jiffies of all cores since boot."""

    total: int
    idle: int
    steal: int


def cpu_times() -> CpuTimes:
    """Return the machine's CPU times (user, nice, system, idle, iowait, irq, softirq, steal)."""
    with open("/proc/stat", encoding="ascii") as stat:
        fields = [int(field) for field in stat.readline().split()[1:9]]
    return CpuTimes(sum(fields), fields[3] + fields[4], fields[7])


def softnet_dropped_pkts() -> int:
    """Return the packets the kernel's per-core backlog queues have dropped since boot."""
    with open("/proc/net/softnet_stat", encoding="ascii") as stat:
        return sum(int(line.split()[1], 16) for line in stat)


def neighbour_overflows() -> int:
    """Return how often the neighbour tables were full since boot (column ``table_fulls``)."""
    fulls = 0
    for name in ("arp_cache", "ndisc_cache"):
        try:
            lines = Path(f"/proc/net/stat/{name}").read_text(encoding="ascii").split("\n")
        except OSError:
            continue
        column = lines[0].split().index("table_fulls")
        fulls += sum(int(line.split()[column], 16) for line in lines[1:] if line)
    return fulls


def _suspended_ns() -> int:
    """Return how long the machine was suspended since boot: one clock counts that time, the other stands still."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.monotonic_ns()


class MachineWatch:
    """Watches the machine from `__init__` on; `tick` now and then, `finish` once.

    Attributes hold what the verdict asks for, named as in `records.evidence.Evidence`.
    """

    def __init__(self, quota: CpuQuota) -> None:
        self._first = self._second = cpu_times()
        self._second_began_ns = time.monotonic_ns()
        self._softnet = softnet_dropped_pkts()
        self._overflows = neighbour_overflows()
        self._quota, self._throttled_ns = quota, quota.throttled_ns()
        self._suspended_ns = _suspended_ns()
        self._running, self._looks = 0.0, 0  # the sum of what was runnable, over so many looks
        self.cpu_idle_worst_ratio = 1.0

    def tick(self) -> None:
        """Look at the cores, once a second."""
        now_ns = time.monotonic_ns()
        if now_ns - self._second_began_ns < NS_PER_S:
            return
        times = cpu_times()
        self.cpu_idle_worst_ratio = min(self.cpu_idle_worst_ratio, _share(self._second, times, lambda t: t.idle))
        self._second, self._second_began_ns = times, now_ns
        self._running, self._looks = self._running + os.getloadavg()[0], self._looks + 1

    def finish(self) -> dict[str, float | int | None]:
        """Return the fields of `Evidence` that speak of the machine."""
        times, throttled_ns = cpu_times(), self._quota.throttled_ns()
        before_ns = self._throttled_ns
        return {
            "cpu_idle_ratio": _share(self._first, times, lambda t: t.idle),
            "cpu_idle_worst_ratio": self.cpu_idle_worst_ratio,
            "cpu_steal_ratio": _share(self._first, times, lambda t: t.steal),
            "runqueue_mean": self._running / self._looks if self._looks else None,
            "softnet_dropped_pkts": softnet_dropped_pkts() - self._softnet,
            "neighbour_overflows": neighbour_overflows() - self._overflows,
            "throttled_ns": None if throttled_ns is None or before_ns is None else throttled_ns - before_ns,
            "suspended_ns": _suspended_ns() - self._suspended_ns,
        }


def _share(before: CpuTimes, after: CpuTimes, part: Callable[[CpuTimes], int]) -> float:
    total = after.total - before.total
    return (part(after) - part(before)) / total if total else 1.0
