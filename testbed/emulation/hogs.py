"""Processes that burn CPU beside the trial, at ordinary priority: what a busy neighbour does to it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from testbed.units import NS_PER_S


class Hogs:
    """`count` processes, running from construction to `end`.

    Attributes:
        pids: their numbers.
    """

    def __init__(self, count: int) -> None:
        self.pids = [_burning() for _ in range(count)]

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


def _burning() -> int:
    pid = os.fork()
    if pid == 0:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        while True:
            pass
    return pid


def _used_s(pid: int) -> float:
    return int(Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()[0]) / NS_PER_S
