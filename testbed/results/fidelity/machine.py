"""Checks of the machine below the trial: processors, quotas, clocks, the kernel's tables."""

from __future__ import annotations

from testbed.results.fidelity.check import A_QUIETER_MACHINE, Bound, Measured, Question, Run, measured
from testbed.units import NS_PER_MS

# Busy share of all cores. Beyond 90 % timers and softirqs begin to queue behind each other, at 97 % they do.
CPU_BUSY_RATIO = Bound(0.90, 0.97)
# A full second without idle time hides in the mean of a long run, and is long enough to disturb bursts.
CPU_BUSY_WORST_RATIO = Bound(0.98, float("inf"))
# Time the hypervisor took is time no counter of ours sees.
CPU_STEAL_RATIO = Bound(0.01, 0.05)
# What a process is to do waits as long as 1 / (1 - u) times the doing, u being the share of the time it runs or is kept
# from running: at 90 % ten times, which for the 10 us of a packet in the switch is nothing yet. From there on a little
# more is much more, and at 100 % it piles up. The checks of stalls say what came of it, so it is a caveat.
CPU_DEMAND_RATIO = Bound(0.90, float("inf"))
# On an idle machine it makes no difference, and lateness is checked by itself: a caveat.
WITHOUT_REAL_TIME = Bound(0, float("inf"))
# A CPU quota stops everything at once; 1 % of the time in pauses of 100 ms is many bursts.
THROTTLED_RATIO = Bound(0.0, 0.01)
# The clock of the run stands still while the machine is suspended, so no other check shows it; what lies on other
# machines, as the backing of this one's devices, goes on. The two clocks are read one after the other.
SUSPENDED_MS = Bound(1.0, float("inf"))
# A full neighbour table delays or loses packets for reasons outside the scenario.
NEIGHBOUR_OVERFLOWS = Bound(0, float("inf"))


def _busy(run: Run) -> Measured | None:
    idle = run.evidence.cpu_idle_ratio
    seen = {"runqueue_mean": run.evidence.runqueue_mean}
    return None if idle is None else Measured(1 - idle, seen)


def _busy_worst(run: Run) -> Measured | None:
    idle = run.evidence.cpu_idle_worst_ratio
    return None if idle is None else Measured(1 - idle)


def _throttled(run: Run) -> Measured | None:
    spent = run.evidence.throttled_ns
    return None if spent is None else Measured(spent / max(run.evidence.ran_ns, 1))


def _suspended(run: Run) -> Measured | None:
    asleep_ns = run.evidence.suspended_ns
    return None if asleep_ns is None else Measured(asleep_ns / NS_PER_MS)


def _demand(run: Run) -> Measured | None:
    ratio = run.evidence.cpu_demand_ratio
    if ratio is None:
        return None
    seen = {"by": run.evidence.cpu_demand_process, "waited": run.evidence.cpu_demand_waited_ratio}
    return Measured(ratio, seen)


def _without_real_time(run: Run) -> Measured | None:
    permitted = run.evidence.real_time
    return None if permitted is None else Measured(int(not permitted))


CHECKS = (
    Question(
        "fixed priorities refused",
        "senders, agents and the switch had to compete with other processes for the CPU",
        "`python -m testbed doctor` says what gives them fixed priorities (CAP_SYS_NICE, a real-time share)",
        _without_real_time,
        WITHOUT_REAL_TIME,
        "",
    ),
    Question(
        "CPU busy",
        "timers and packets waited for a core",
        A_QUIETER_MACHINE,
        _busy,
        CPU_BUSY_RATIO,
        "of all cores",
    ),
    Question(
        "CPU busy in the worst second",
        "for a second, timers and packets waited for a core",
        A_QUIETER_MACHINE,
        _busy_worst,
        CPU_BUSY_WORST_RATIO,
        "of all cores",
    ),
    Question(
        "CPU stolen by the hypervisor",
        "the hypervisor gave the cores to other virtual machines",
        "use a machine whose cores are its own",
        measured("cpu_steal_ratio"),
        CPU_STEAL_RATIO,
        "of the time",
    ),
    Question(
        "core time wanted by a real-time process",
        "during half a second a real-time process of the run was running or waiting for a "
        "core nearly all the time, so it could not keep up",
        A_QUIETER_MACHINE,
        _demand,
        CPU_DEMAND_RATIO,
        "of a core",
    ),
    Question(
        "time throttled by a CPU quota",
        "a CPU quota paused all processes of the run at the same time",
        "run without a CPU quota",
        _throttled,
        THROTTLED_RATIO,
        "of the run",
    ),
    Question(
        "time the machine was suspended",
        "the machine was suspended during the run; the clock of the run stopped, too",
        "run on a machine that is not suspended",
        _suspended,
        SUSPENDED_MS,
        "ms",
    ),
    Question(
        "neighbour table overflows",
        "the kernel's neighbour table was full, which delays or loses packets",
        "raise net.ipv4.neigh.default.gc_thresh3",
        measured("neighbour_overflows"),
        NEIGHBOUR_OVERFLOWS,
        "times",
    ),
)
