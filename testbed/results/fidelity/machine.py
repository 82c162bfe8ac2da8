"""Checks of the machine below the trial: processors, quotas, clocks, the kernel's tables."""

from __future__ import annotations

from testbed.results.fidelity.check import A_QUIETER_MACHINE, Bound, Measured, Question, Run, measured

# Busy share of all cores. Beyond 90 % timers and softirqs begin to queue behind each other, at 97 % they do.
CPU_BUSY_RATIO = Bound(0.90, 0.97)
# A full second without idle time hides in the mean of a long run, and is long enough to disturb bursts.
CPU_BUSY_WORST_RATIO = Bound(0.98, float("inf"))
# Time the hypervisor took is time no counter of ours sees.
CPU_STEAL_RATIO = Bound(0.01, 0.05)
# For most of the run some task waited for a core: real-time priority keeps the agents on time, not the softirqs that
# carry the packets.
CPU_PRESSURE_RATIO = Bound(0.60, float("inf"))
# A CPU quota stops everything at once; 1 % of the time in pauses of 100 ms is many bursts.
THROTTLED_RATIO = Bound(0.0, 0.01)
# All times are monotonic, so a step moves only the wall-clock stamps of the manifest; it hints at a suspended machine.
CLOCK_STEPS = Bound(0, float("inf"))
# A full neighbour table delays or loses packets for reasons outside the scenario.
NEIGHBOUR_OVERFLOWS = Bound(0, float("inf"))


def _busy(run: Run) -> Measured | None:
    idle = run.evidence.cpu_idle_ratio
    seen = {"runqueue_mean": run.evidence.runqueue_mean}
    return None if idle is None else Measured(1 - idle, CPU_BUSY_RATIO, "of all cores", seen)


def _busy_worst(run: Run) -> Measured | None:
    idle = run.evidence.cpu_idle_worst_ratio
    return None if idle is None else Measured(1 - idle, CPU_BUSY_WORST_RATIO, "of all cores")


def _throttled(run: Run) -> Measured | None:
    spent = run.evidence.throttled_ns
    return None if spent is None else Measured(spent / max(run.evidence.ran_ns, 1), THROTTLED_RATIO, "of the run")


CHECKS = (
    Question(
        "CPU busy",
        "timers and packets waited for a core",
        A_QUIETER_MACHINE,
        _busy,
    ),
    Question(
        "CPU busy in the worst second",
        "for a second, timers and packets waited for a core",
        A_QUIETER_MACHINE,
        _busy_worst,
    ),
    Question(
        "CPU stolen by the hypervisor",
        "the machine below this one kept the cores for others",
        "use a machine whose cores are its own",
        measured("cpu_steal_ratio", CPU_STEAL_RATIO, "of the time"),
    ),
    Question(
        "time with a task waiting for a core",
        "tasks, softirqs that carry packets among them, waited for a core",
        A_QUIETER_MACHINE,
        measured("cpu_pressure_ratio", CPU_PRESSURE_RATIO, "of the time"),
    ),
    Question(
        "time throttled by a CPU quota",
        "a quota stopped everything at once",
        "run without a CPU quota",
        _throttled,
    ),
    Question(
        "steps of the clock",
        "the wall clock was set, or the machine suspended, during the run",
        "run on a machine that is not suspended",
        measured("clock_steps", CLOCK_STEPS, "steps"),
    ),
    Question(
        "neighbour table overflows",
        "the kernel's neighbour table was full, which delays or loses packets",
        "raise net.ipv4.neigh.default.gc_thresh3",
        measured("neighbour_overflows", NEIGHBOUR_OVERFLOWS, "times"),
    ),
)
