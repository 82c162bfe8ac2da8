"""What is done to the processes of a trial, and to the machine beside it, while it runs (see `touches`)."""

from __future__ import annotations

import os
import signal
import sys

from testbed.bench.running_trial import RunningTrial
from testbed.bench.touches import Touch, Undo
from testbed.emulation.faults.hogs import Hogs
from testbed.system import allowance, commands

_REAL_TIME = 50  # before everything a run has


def stop(name: str) -> Touch:
    """Stop a process (SIGSTOP)."""

    def touch(trial: RunningTrial) -> Undo:
        pid = trial.pid(name)
        os.kill(pid, signal.SIGSTOP)
        return lambda: os.kill(pid, signal.SIGCONT)

    return touch


def ordinary(name: str) -> Touch:
    """Take the fixed priority from a process."""

    def touch(trial: RunningTrial) -> Undo:
        pid = trial.pid(name)
        policy, parameters = os.sched_getscheduler(pid), os.sched_getparam(pid)
        os.sched_setscheduler(pid, os.SCHED_OTHER, os.sched_param(0))
        return lambda: os.sched_setscheduler(pid, policy, parameters)

    return touch


def one_core(name: str) -> Touch:
    """Keep a process on one core."""

    def touch(trial: RunningTrial) -> Undo:
        pid = trial.pid(name)
        cores = os.sched_getaffinity(pid)
        os.sched_setaffinity(pid, {min(cores)})
        return lambda: os.sched_setaffinity(pid, cores)

    return touch


def hog(each_core: int = 1, real_time: bool = False) -> Touch:
    """Burn processor time, with so many processes for each core."""

    def touch(_: RunningTrial) -> Undo:
        hogs = Hogs(each_core * (os.cpu_count() or 1), _REAL_TIME if real_time else None)
        return hogs.end

    return touch


def memory(share: float) -> Touch:
    """Touch every page of so much of the memory that is available."""

    def touch(_: RunningTrial) -> Undo:
        size = int(allowance.free_bytes() * share)
        program = f"import mmap,signal\nm = mmap.mmap(-1, {size})\nm[::4096] = bytes(len(m[::4096]))\nsignal.pause()"
        process = commands.tethered([sys.executable, "-c", program])

        def back() -> None:
            process.kill()
            process.wait()

        return back

    return touch
