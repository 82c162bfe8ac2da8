"""Does a trial whose supervisor or guard is killed in its first instants leave anything?

    this process ── supervisor ── guard ══ init ── …          killed: supervisor or guard, at any instant of its life
        └ adopts what outlives its parents: after a kill there must be nothing

A process that ties its life to its parent's can be too late: the parent may be dead already.  Such a race has a window
of microseconds, so it takes thousands of kills, spread evenly over the first 50 ms, to see that it is closed; as many
again as a fourth of those are spread over the two seconds after, set-up and traffic.
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from testbed import topologies
from testbed.bench.leavings import Surroundings, descendants, end_descendants
from testbed.bench.rows import Row, percentile, row
from testbed.emulation.supervisor import emulate
from testbed.engine import TrialPlan
from testbed.records.phases import Phases
from testbed.scenario.model import Scenario
from testbed.system import kernel
from testbed.traffic.plan import make_plan
from testbed.trials.run import trial_plan
from testbed.units import NS_PER_MS, NS_PER_S

EARLY_NS = 50 * NS_PER_MS
LATE_NS = 2 * NS_PER_S
LATE_SHARE = 5  # one kill in so many is a late one
# What is there still then is there for good.  A process may end late: its network namespace goes with it, and the
# kernel frees those of the whole machine one after the other.
GONE_WITHIN_S = 60.0
VICTIMS = ("supervisor", "guard")
_SCENARIO = {
    **{"version": 1, "name": "kill-start", "duration": "30s"},
    "topology": {"family": "cluster", "nodes": 2, "clients": 1, "node_rate": "20Mbit"},
    "buffer": {"policy": "static-min"},
    "traffic": [{"name": "base", "from": "c1", "shape": "constant", "rate": "1Mbit", "flows": 4}],
}


@dataclass(slots=True)
class _Tally:
    """What came of the kills of one kind."""

    kills: int = 0
    left: int = 0
    gone_ms: list[float] = field(default_factory=list)
    what: Counter[str] = field(default_factory=Counter)


class Nobody:
    """Hears what a trial tells, and does nothing about it."""

    def append_columns(self, columns: Mapping[str, object]) -> None:
        """See `engine.Writer`."""

    def append_event(self, t_ns: int, record: Mapping[str, Any]) -> None:
        """See `engine.Writer`."""

    def checkpoint(self) -> None:
        """See `engine.Writer`."""

    def waiting(self, what: str, for_ns: int) -> None:
        """See `engine.Recorder`."""


def run(count: int = 2500) -> list[Row]:
    """Kill `count` trials and return how many left something."""
    tallies = {(victim, late): _Tally() for victim in VICTIMS for late in (False, True)}
    with kernel.adopting_orphans(), tempfile.TemporaryDirectory(prefix="testbed-bench-") as folder:
        plan, surroundings = make_trial_plan(Path(folder)), Surroundings()
        for number in range(count):
            late = number % LATE_SHARE == LATE_SHARE - 1
            victim = VICTIMS[number // LATE_SHARE % 2] if late else VICTIMS[number % 2]
            after_ns = _spread(number, count, EARLY_NS, LATE_NS) if late else _spread(number, count, 0, EARLY_NS)
            _kill(plan, victim, after_ns, surroundings, tallies[victim, late])
    return [line for (victim, late), tally in tallies.items() for line in _rows(victim, late, tally)]


def make_trial_plan(logs: Path) -> TrialPlan:
    """Return the plan of a small trial that logs to `logs`."""
    scenario = Scenario.model_validate(_SCENARIO)
    network = topologies.describe(scenario.topology)
    packets = make_plan(scenario, network, Path())
    return trial_plan(scenario, network, packets, logs)


def _spread(number: int, count: int, first_ns: int, last_ns: int) -> int:
    """Return an instant between the two; the numbers are taken in another order than that of time."""
    return first_ns + (last_ns - first_ns) * (number * 7919 % count) // count


def _kill(plan: TrialPlan, victim: str, after_ns: int, surroundings: Surroundings, tally: _Tally) -> None:
    began_ns = time.monotonic_ns()
    supervisor = _forked(lambda: emulate(replace(plan, phases=Phases(began_ns)), Nobody()))
    target = supervisor if victim == "supervisor" else _first_child(supervisor)
    kernel.sleep_until(time.monotonic_ns() + after_ns)
    os.kill(target, signal.SIGKILL)  # a zombie at worst: nobody has waited for it
    tally.kills += 1
    killed_ns = time.monotonic_ns()
    left = surroundings.left(GONE_WITHIN_S)
    tally.gone_ms.append((time.monotonic_ns() - killed_ns) / NS_PER_MS)
    if left:
        tally.left += 1
        tally.what.update(thing.split(" ")[0] for thing in left)
        end_descendants()


def _first_child(pid: int) -> int:
    while not (found := descendants(pid)):
        pass
    return found[0]


def _forked(body: Callable[[], object]) -> int:
    pid = os.fork()
    if pid == 0:
        silent = os.open(os.devnull, os.O_WRONLY)
        for stream in (1, 2):
            os.dup2(silent, stream)
        try:
            body()
        finally:
            os._exit(0)
    return pid


def _rows(victim: str, late: bool, tally: _Tally) -> list[Row]:
    when = f"{EARLY_NS // NS_PER_MS} ms to {LATE_NS // NS_PER_S} s" if late else f"first {EARLY_NS // NS_PER_MS} ms"
    what = ", ".join(f"{count} {thing}" for thing, count in sorted(tally.what.items()))
    name = f"{victim} killed, {when}"
    gone_ms = percentile(tally.gone_ms, 0.99) if tally.gone_ms else 0.0
    return [
        row(f"{name}: trials with leftovers", tally.left, "trials", "<= 0", note=f"{tally.kills} kills {what}"),
        row(
            f"{name}: time until everything is gone, p99",
            gone_ms,
            "ms",
            note=f"max {max(tally.gone_ms, default=0.0):.0f} ms",
        ),
    ]
