"""A long trial: does the memory of any of its processes grow, or the number of descriptors?

One emulated trial with moderate traffic.  Every few seconds each of its processes is looked at: resident memory (VmRSS
of proc_pid_status(5)), private memory (what only this process has, of its smaps_rollup) and open descriptors.

**The criterion.**  What a process takes while it gets going is no leak, so the first tenth of the traffic is left out,
two and a half minutes at least (half of a shorter run): by then the supervisor has filled its first row groups.
Straight lines (least squares) go through the resident and through the private memory of the rest.  What leaks raises
both.  Pages that a fork shares raise the one when they are read, and the other when the parent writes to its own
copies; so the lesser slope counts.  It may lift the line by `FLAT_MB` over the whole of the rest, or by `FLAT_RATIO` of
the resident memory, whichever is more.  Descriptors are flat unless there are more of them in all of the second half
than there were at any time of the first.  A process that lasts shorter than half of the rest has no line.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from testbed.bench.rows import Row, row
from testbed.bench.running_trial import RunningTrial
from testbed.scenario.loading import load
from testbed.system import places

MINUTES = 30.0
FLAT_MB, FLAT_RATIO = 2.0, 0.02
_LOOK_S = 3.0
_SETTLING_RATIO, _SETTLING_S = 0.1, 150.0
_PRIVATE = ("Private_Clean", "Private_Dirty")
_MODERATE = (
    "traffic.base.rate=10Mbit",
    "traffic.bursts.peak=60Mbit",
)
_MB = 10**6


@dataclass(frozen=True, slots=True)
class Look:
    """What a process had at a time.

    Attributes:
        t_s: since the traffic began.
        resident_mb, private_mb: its memory.
        descriptors: open ones.
    """

    t_s: float
    resident_mb: float
    private_mb: float
    descriptors: int


@dataclass(slots=True)
class Course:
    """The looks at one process, in the order of time."""

    looks: list[Look] = field(default_factory=list)

    def after(self, t_s: float) -> list[Look]:
        """Return the looks from `t_s` on."""
        return [look for look in self.looks if look.t_s >= t_s]


def run(minutes: float = MINUTES) -> list[Row]:
    """Run one trial of that length and return a row for each process, one for the packets and one for the verdict.

    Raises:
        CommandError: the trial failed.
        ToolError: there was no traffic.
    """
    scenario = load(places.scenarios() / "smoke.yaml", (*_MODERATE, f"duration={round(minutes * 60_000)}ms"))
    with tempfile.TemporaryDirectory(prefix="testbed-bench-") as folder:
        trial = RunningTrial(Path(folder), scenario.scenario.resolved())
        try:
            courses = _watched(trial, minutes * 60)
            summary = trial.finish()
        finally:
            trial.kill()
    return [*_process_rows(courses, minutes * 60), *_summary_rows(summary)]


def _watched(trial: RunningTrial, traffic_s: float) -> dict[str, Course]:
    """Look at every process until the traffic is over; a process is known by its name and its number."""
    courses: dict[str, Course] = {}
    t_s = 0.0
    trial.wait_until_ms(0)
    while t_s < traffic_s and trial.under_way():
        for name, pid in trial.pids().items():
            found = look_at(pid, t_s)
            if found is not None:
                courses.setdefault(f"{name} ({pid})", Course()).looks.append(found)
        t_s += _LOOK_S
        trial.wait_until_ms(t_s * 1e3)
    return courses


def look_at(pid: int, t_s: float) -> Look | None:
    """Return what a process has now; None when it has ended."""
    try:
        resident = _kb_in(Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace"), "VmRSS")
        private = _kb_in(Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii"), *_PRIVATE)
        descriptors = len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return None
    return Look(t_s, resident * 1024 / _MB, private * 1024 / _MB, descriptors)


def _kb_in(text: str, *names: str) -> int:
    return sum(int(line.split()[1]) for line in text.splitlines() if line.partition(":")[0] in names)


def slope_mb_s(looks: Sequence[Look]) -> float:
    """Return how fast memory grows: the lesser slope of the straight lines through resident and private memory."""
    t_s = np.array([look.t_s - looks[0].t_s for look in looks])
    columns = np.array([(look.resident_mb, look.private_mb) for look in looks])
    return float(np.polyfit(t_s, columns, 1)[0].min())


def grow(descriptors: Sequence[int]) -> bool:
    """Return whether there are more in all of the second half than there were at any time of the first."""
    half = len(descriptors) // 2
    return min(descriptors[half:]) > max(descriptors[:half])


def _process_rows(courses: dict[str, Course], traffic_s: float) -> Iterator[Row]:
    begins_s = max(_SETTLING_RATIO * traffic_s, min(_SETTLING_S, traffic_s / 2))
    for name, course in sorted(courses.items()):
        looks = course.after(begins_s)
        if len(looks) >= 3 and looks[-1].t_s - looks[0].t_s >= (traffic_s - begins_s) / 2:
            yield process_row(name, looks)


def process_row(name: str, looks: Sequence[Look]) -> Row:
    """Return the row of a process from the looks that count, three at least."""
    first, last, slope = looks[0], looks[-1], slope_mb_s(looks)
    grown_mb = slope * (last.t_s - first.t_s)
    most_mb = max(FLAT_MB, FLAT_RATIO * first.resident_mb)
    descriptors = [look.descriptors for look in looks]
    words = ["memory grows"] * (grown_mb > most_mb) + ["descriptors grow"] * grow(descriptors)
    made = row(f"soak.{name}", grown_mb, "MB", f"<= {most_mb:.3g}", note=", ".join(words) or "flat")
    made["met"] = not words
    figures = {
        "private_mb": (first.private_mb, last.private_mb),
        "resident_mb": (first.resident_mb, last.resident_mb),
        "mb_per_hour": slope * 3600,
        "descriptors": (first.descriptors, last.descriptors, max(descriptors)),
    }
    return {**made, **figures}


def _summary_rows(summary: dict[str, Any]) -> Iterator[Row]:
    unaccounted = summary["traffic"]["unaccounted_packets"]
    lost = f"of {summary['traffic']['sent_packets']:,} sent"
    yield row("soak.unaccounted", abs(unaccounted), "packets", "<= 0", note=lost)
    reasons = "; ".join(summary["verdict_reasons"])
    yield row("soak.verdict", 1, "run", note=f"{summary['verdict']}  {reasons}".strip())


def table(rows: list[Row]) -> Iterator[list[str]]:
    """Yield the lines of the table, its head first."""
    yield ["process", "private", "resident", "slope", "descriptors", ""]
    for one in rows:
        name = one["name"].removeprefix("soak.")
        if "mb_per_hour" not in one:
            yield [name, f"{one['value']:g} {one['unit']}", "", "", "", one["note"]]
            continue
        private, resident = (
            " → ".join(f"{mb:.1f}" for mb in one[key]) + " MB" for key in ("private_mb", "resident_mb")
        )
        first, last, most = one["descriptors"]
        slope = f"{one['mb_per_hour']:+.2f} MB/h"
        yield [name, private, resident, slope, f"{first} → {last}, {most} at most", one["note"]]
