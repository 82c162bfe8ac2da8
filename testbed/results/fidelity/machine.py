"""Checks of the machine that runs the trial: CPUs, quotas, clocks, tables of the kernel."""

from __future__ import annotations

from testbed.results.fidelity.check import A_QUIETER_MACHINE, Bound, Measured, Question, Run, measured
from testbed.units import NS_PER_MS

# Busy share of all cores. From 90 % on, timers and softirqs begin to wait for each other; at 97 % they often do.
CPU_BUSY_RATIO = Bound(0.90, 0.97)
# In the mean of a long run, a second without idle time is not visible, but it is long enough to disturb bursts.
CPU_BUSY_WORST_RATIO = Bound(0.98, float("inf"))
# Time taken by the hypervisor appears in no other counter.
CPU_STEAL_RATIO = Bound(0.01, 0.05)
# Queueing theory: with utilisation u (share of the time in which the process runs or waits for a core) a task takes
# 1 / (1 - u) times its service time. At 90 % that is ten times, still short for the 10 us of a packet in the switch.
# Above, it grows fast, without bound at 100 %. The checks of stalls show the effect, so this check is only a caveat.
CPU_DEMAND_RATIO = Bound(0.90, float("inf"))
# On an idle machine it makes no difference, and lateness has its own check, so this is only a caveat.
WITHOUT_REAL_TIME = Bound(0, float("inf"))
# A CPU quota stops all processes together; 1 % of the time, in pauses of 100 ms, affects many bursts.
THROTTLED_RATIO = Bound(0.0, 0.01)
# The clock of the run stops while the machine is suspended, so no other check shows it, but remote machines continue.
# The bound is not 0 because the two clocks are read one after the other.
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
        "senders, agents and the switch competed with other processes for the CPU",
        "`python -m testbed doctor` says how to get fixed priorities (CAP_SYS_NICE, a real-time share)",
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
        "use a machine with dedicated cores",
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
