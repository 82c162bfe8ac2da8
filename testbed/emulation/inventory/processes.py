"""How the processes of a trial are scheduled, whether they were stopped, and how much of a core each of them needed.

PID 1 is the parent of all of them.  So the kernel keeps the information that a child was stopped or continued until PID
1 asks for it (``waitid``): a stop is detected however short it was.  Policy, priority and affinity of every thread are
read in turn, each once in `TURN_NS`.  A change that is reverted within this time may not be seen; the timing checks
detect its effect on packets.

The CPU demand of a process is the time in which a thread ran, plus the time in which it was ready to run and waited for
a core (``/proc/PID/task/TID/schedstat``), per turn.  If the demand is close to the whole turn, the process has no slack
and its work piles up.  A stopped process does not wait.  Every process of a run forwards or decides in its main thread;
the switch also forwards in its poll thread.  The larger demand counts.  The other threads of the switch do background
work: the revalidator restarts whenever a flow was learned, so with 500 new flows a second it uses all remaining CPU
time, but no packet waits for it.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from testbed.emulation.inventory.difference import Difference
from testbed.emulation.network import poll_thread
from testbed.units import NS_PER_MS

TURN_NS = 500 * NS_PER_MS
_POLICIES = {getattr(os, name): name for name in ("SCHED_OTHER", "SCHED_FIFO", "SCHED_RR", "SCHED_BATCH", "SCHED_IDLE")}


class Watched(NamedTuple):
    """A process to be watched.

    Attributes:
        name: what it is called in differences.
        pid: its number.
        until_ns: from when on it may change by itself, on the run's clock; None: never.
    """

    name: str
    pid: int
    until_ns: int | None = None


class Demand(NamedTuple):
    """The largest demand of a real-time thread in a turn: its process, the share of a core, and of it the wait."""

    process: str = ""
    ratio: float = 0.0
    waited_ratio: float = 0.0

    def evidence(self) -> dict[str, float | str | None]:
        """Return the fields of `Evidence` that tell of it; None in each when no process was looked at twice."""
        known = bool(self.process)
        return {
            "cpu_demand_ratio": self.ratio if known else None,
            "cpu_demand_waited_ratio": self.waited_ratio if known else None,
            "cpu_demand_process": self.process if known else None,
        }


class _Spent(NamedTuple):
    """How long a thread ran, and how long it was ready to and waited for a core."""

    ran_ns: int
    waited_ns: int

    def __sub__(self, other: _Spent) -> _Spent:
        return _Spent(self.ran_ns - other.ran_ns, self.waited_ns - other.waited_ns)


class _Look(NamedTuple):
    """One look at a process: how each thread is scheduled, and what those that forward or decide have spent until then.

    It has two times: that of the run, for who reads of it, and that of the very reading.
    """

    at_ns: int
    read_ns: int
    how: Mapping[int, str]
    spent_ns: Mapping[int, _Spent]


class ProcessStock:
    """The processes of a trial.

    Attributes:
        demand: the largest so far.
    """

    def __init__(self, now_ns: Callable[[], int]) -> None:
        """Look at nothing yet; `now_ns` is the run's clock."""
        self._now_ns = now_ns
        self._queue: list[Watched] = []
        self._looks: dict[int, _Look] = {}
        self._names: dict[int, str] = {}
        self._stopped_ns: dict[int, tuple[int, int]] = {}  # after when, by when
        self._found: list[Difference] = []
        self._looked_ns: int | None = None
        self.demand = Demand()

    def look(self, watched: Sequence[Watched], now_ns: int) -> None:
        """Look at some of the processes: all of them at the first call, and then in turn."""
        if not watched:
            return
        self._names.update((process.pid, process.name) for process in watched)
        since_ns = now_ns - TURN_NS if self._looked_ns is None else self._looked_ns
        self._take_stops(since_ns, now_ns)
        share, self._looked_ns = min(1.0, (now_ns - since_ns) / TURN_NS), now_ns
        self._queue = self._queue or list(watched)
        for _ in range(min(len(self._queue), math.ceil(share * len(watched)))):
            process = self._queue.pop(0)
            self._look_at(process, now_ns)

    def differences(self, watched: Sequence[Watched], now_ns: int) -> list[Difference]:
        """Look at all of the processes and return what has changed since the first look."""
        self._queue = []
        self.look(watched, now_ns)
        while self._queue:
            self._look_at(self._queue.pop(), now_ns)
        still = [self._stop(pid, began, "not resumed") for pid, began in self._stopped_ns.items()]
        return [*self._found, *still]

    def _look_at(self, process: Watched, now_ns: int) -> None:
        try:
            look = _look(process.pid, now_ns)
        except OSError:  # it has ended: whoever may not is watched elsewhere
            return
        if process.until_ns is not None and self._now_ns() >= process.until_ns:  # asked when all has been read
            return
        before = self._looks.get(process.pid)
        if before is not None:
            self._found += _changes(process.name, before, look)
            self._heed_demand(process, before, look)
        self._looks[process.pid] = look

    def _heed_demand(self, process: Watched, before: _Look, look: _Look) -> None:
        elapsed_ns = look.read_ns - before.read_ns
        if elapsed_ns < TURN_NS // 2:  # of a moment it says nothing
            return
        for thread in filter(lambda tid: _is_real_time(look.how[tid]), before.spent_ns.keys() & look.spent_ns.keys()):
            ran_ns, waited_ns = look.spent_ns[thread] - before.spent_ns[thread]
            demand = Demand(process.name, (ran_ns + waited_ns) / elapsed_ns, waited_ns / elapsed_ns)
            self.demand = max(self.demand, demand, key=lambda d: d.ratio)

    # --------------------------------------------------------------------------------------------------------- stops

    def _take_stops(self, since_ns: int, now_ns: int) -> None:
        """Check which children were stopped or continued since the last call."""
        try:
            while told := os.waitid(os.P_ALL, 0, os.WSTOPPED | os.WCONTINUED | os.WNOHANG):
                self._take_stop(told.si_pid, told.si_code, since_ns, now_ns)
        except ChildProcessError:
            return

    def _take_stop(self, pid: int, code: int, since_ns: int, now_ns: int) -> None:
        """Process a stop, or its end, that came between two times; of the two, only the end may be reported."""
        if pid not in self._names:
            return
        began = self._stopped_ns.setdefault(pid, (since_ns, now_ns))
        if code == os.CLD_CONTINUED:
            del self._stopped_ns[pid]
            self._found.append(self._stop(pid, began, f"for at most {(now_ns - began[0]) / NS_PER_MS:.0f} ms"))

    def _stop(self, pid: int, began: tuple[int, int], how_long: str) -> Difference:
        """Return that a process was stopped; it began between two looks."""
        after_ns, by_ns = began
        what = (self._names[pid], "state", "running", f"stopped, {how_long}")
        return Difference("", "process", *what, after_ns, by_ns=by_ns)


def _look(pid: int, now_ns: int) -> _Look:
    threads = [int(name) for name in os.listdir(f"/proc/{pid}/task")]
    how = {tid: _how(tid) for tid in threads}
    working = [tid for tid in threads if tid == pid or poll_thread.is_poll_thread(pid, tid)]
    return _Look(now_ns, time.monotonic_ns(), how, {tid: _spent_ns(pid, tid) for tid in working})


def _how(tid: int) -> str:
    policy = os.sched_getscheduler(tid) & ~os.SCHED_RESET_ON_FORK
    priority, cores = os.sched_getparam(tid).sched_priority, os.sched_getaffinity(tid)
    return f"{_POLICIES.get(policy, policy)} {priority} on cores {_ranges(cores)}"


def _is_real_time(how: str) -> bool:
    return how.startswith(("SCHED_FIFO", "SCHED_RR"))


def _ranges(cores: Iterable[int]) -> str:
    """Return a set of cores in short: ``0-3,8``."""
    runs: list[list[int]] = []
    for core in sorted(cores):
        if runs and runs[-1][1] == core - 1:
            runs[-1][1] = core
        else:
            runs.append([core, core])
    return ",".join(f"{first}-{last}" if last > first else f"{first}" for first, last in runs)


def _spent_ns(pid: int, tid: int) -> _Spent:
    with open(f"/proc/{pid}/task/{tid}/schedstat", encoding="ascii") as file:
        ran, waited, _ = file.read().split()
    return _Spent(int(ran), int(waited))


def _changes(name: str, before: _Look, look: _Look) -> Iterator[Difference]:
    for thread in sorted(before.how.keys() & look.how.keys()):
        old, new = before.how[thread], look.how[thread]
        if old != new:
            yield Difference("", "process", name, "scheduling", old, new, look.at_ns)
