"""Processes that burn CPU time: simulate other load on the machine."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from testbed.system import kernel
from testbed.units import NS_PER_S


class Hogs:
    """`count` processes, running from construction to `end`.

    Attributes:
        pids: their numbers.
    """

    def __init__(self, count: int, priority: int | None = None) -> None:
        """Start them, at ordinary priority or in real time, then each on a core of its own as far as there are any."""
        cores = sorted(os.sched_getaffinity(0))
        self.pids = [_burning(priority, cores[k % len(cores)]) for k in range(count)]

    def burnt_s(self) -> list[float]:
        """Return the processor time that each has used so far."""
        return [_used_s(pid) for pid in self.pids]

    def end(self) -> None:
        """End them."""
        for pid in self.pids:
            os.kill(pid, signal.SIGKILL)
        for pid in self.pids:
            os.waitpid(pid, 0)
        self.pids = []


def _burning(priority: int | None, core: int) -> int:
    pid = os.fork()
    if pid == 0:
        if priority is None:
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        else:
            os.sched_setaffinity(0, {core})
            kernel.run_in_real_time(priority)
        while True:
            pass
    return pid


def _used_s(pid: int) -> float:
    return int(Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()[0]) / NS_PER_S
