"""What the machine did while the trial ran: idle and stolen time, pressure, softnet drops, clock steps.

All counters are of the whole machine, on purpose: a neighbour's load disturbs a trial as much as its own.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from testbed.units import NS_PER_MS, NS_PER_S

_CLOCK_STEP_NS = 5 * NS_PER_MS


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


def _pressure_us() -> int | None:
    """Return the microseconds some runnable task waited for a core (PSI), None without PSI."""
    try:
        line = Path("/proc/pressure/cpu").read_text(encoding="ascii").splitlines()[0]
    except (FileNotFoundError, OSError):
        return None
    return int(line.rsplit("total=", 1)[1])


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


def _throttled_ns() -> int | None:
    """Return the time a CPU quota has stopped our control group, None where there is no such quota."""
    try:
        text = Path("/sys/fs/cgroup/cpu.stat").read_text(encoding="ascii")
    except OSError:
        return None
    fields = dict(line.split() for line in text.splitlines())
    return int(fields["throttled_usec"]) * 1000 if "throttled_usec" in fields else None


def _clock_offset_ns() -> int:
    return time.time_ns() - time.monotonic_ns()


class MachineWatch:
    """Watches the machine from `__init__` on; `tick` now and then, `finish` once.

    Attributes hold what the verdict asks for, named as in `results.evidence.Evidence`.
    """

    def __init__(self) -> None:
        self._first = self._second = cpu_times()
        self._second_began_ns = self._began_ns = time.monotonic_ns()
        self._pressure_us = _pressure_us()
        self._softnet = softnet_dropped_pkts()
        self._overflows = neighbour_overflows()
        self._throttled = _throttled_ns()
        self._offset_ns = _clock_offset_ns()
        self._running: list[float] = []
        self.clock_steps = 0
        self.cpu_idle_worst_ratio = 1.0

    def tick(self) -> None:
        """Look at the clock and, once a second, at the cores."""
        offset_ns = _clock_offset_ns()
        if abs(offset_ns - self._offset_ns) > _CLOCK_STEP_NS:
            self.clock_steps += 1
        self._offset_ns = offset_ns
        now_ns = time.monotonic_ns()
        if now_ns - self._second_began_ns < NS_PER_S:
            return
        times = cpu_times()
        self.cpu_idle_worst_ratio = min(self.cpu_idle_worst_ratio, _share(self._second, times, lambda t: t.idle))
        self._second, self._second_began_ns = times, now_ns
        self._running.append(os.getloadavg()[0])

    def finish(self) -> dict[str, float | int | None]:
        """Return the fields of `Evidence` that speak of the machine."""
        times, pressure_us, throttled_ns = cpu_times(), _pressure_us(), _throttled_ns()
        elapsed_us = (time.monotonic_ns() - self._began_ns) / 1000
        pressed = None if pressure_us is None or self._pressure_us is None else pressure_us - self._pressure_us
        return {
            "cpu_idle_ratio": _share(self._first, times, lambda t: t.idle),
            "cpu_idle_worst_ratio": self.cpu_idle_worst_ratio,
            "cpu_steal_ratio": _share(self._first, times, lambda t: t.steal),
            "cpu_pressure_ratio": None if pressed is None else pressed / elapsed_us,
            "runqueue_mean": sum(self._running) / len(self._running) if self._running else None,
            "softnet_dropped_pkts": softnet_dropped_pkts() - self._softnet,
            "neighbour_overflows": neighbour_overflows() - self._overflows,
            "throttled_ns": None if None in (throttled_ns, self._throttled) else throttled_ns - self._throttled,  # type: ignore[operator]
            "clock_steps": self.clock_steps,
        }


def _share(before: CpuTimes, after: CpuTimes, part: Callable[[CpuTimes], int]) -> float:
    total = after.total - before.total
    return (part(after) - part(before)) / total if total else 1.0
