"""The course of each fault as a page shows it: commanded, observed, detected, rerouted, healed, and what it lost.

It is read from the summary; without one (run killed or still running), from its events.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from testbed.files.event_records import from_record
from testbed.records.faults import FaultCommanded, FaultHealed, FaultObserved
from testbed.records.written import is_a
from testbed.report.written import count, milliseconds
from testbed.results.recorded_run import RecordedRun
from testbed.units import NS_PER_MS

_NAMED_NODES = 3  # of a fault, in its label
MOMENTS = {  # key of the summary: as people read it
    "observed_ms": "observed",
    "first_effect_ms": "first packet lost",
    "detected_ms": "detected",
    "rerouted_ms": "rerouted",
    "last_lost_ms": "last packet lost",
    "first_good_ms": "first packet delivered",
    "healed_ms": "healed",
}
HEADERS = ("fault", "commanded", *MOMENTS.values(), "packets lost")


@dataclass(frozen=True, slots=True)
class Course:
    """One fault, or one turn of a periodic one.

    Attributes:
        label: kind and nodes, numbered where two would be the same.
        nodes: those affected.
        commanded_s: time since the start of the run.
        moments_ms: when what happened, in ms from the command, by the words of `MOMENTS`; what did not is absent.
        lost_pkts: packets lost to it, None where that is not known.
    """

    label: str
    nodes: tuple[str, ...]
    commanded_s: float
    moments_ms: Mapping[str, float]
    lost_pkts: int | None

    def at_s(self, moment: str) -> float | None:
        """Return the time of a moment since the start of the run, None where it never came."""
        after_ms = self.moments_ms.get(moment)
        return None if after_ms is None else self.commanded_s + after_ms / 1e3

    @property
    def lost_between_s(self) -> tuple[float, float] | None:
        """Return between which times it lost packets; None where it lost none or that is not known."""
        first = self.at_s("first packet lost") or self.commanded_s
        last = self.at_s("last packet lost") or self.at_s("healed")
        return (first, max(first, last)) if self.lost_pkts and last is not None else None

    @property
    def cells(self) -> list[str]:
        """Return the row of the table whose headers are `HEADERS`."""
        after = (self.moments_ms.get(moment) for moment in MOMENTS.values())
        lost = "–" if self.lost_pkts is None else count(self.lost_pkts)
        shown = ("–" if value is None else f"+{milliseconds(value)}" for value in after)
        return [self.label, f"{self.commanded_s:.3f} s", *shown, lost]


def courses_of(run: RecordedRun, summary: Mapping[str, Any]) -> list[Course]:
    """Return the faults of a run in the order of their commands.

    Raises:
        InputError: when the run has no summary, and its events cannot be read.
    """
    faults = (summary.get("failover") or {}).get("faults") or () if summary else list(_recorded(run))
    labels = [" ".join([fault["what"], *fault["nodes"][:_NAMED_NODES]]) for fault in faults]
    return [
        Course(
            label if labels.count(label) == 1 else f"{label} ({1 + labels[:k].count(label)})",
            tuple(fault["nodes"]),
            fault["commanded_ms"] / 1e3,
            {word: fault[key] for key, word in MOMENTS.items() if fault.get(key) is not None},
            fault.get("lost_packets"),
        )
        for k, (fault, label) in enumerate(zip(faults, labels, strict=True))
    ]


def _recorded(run: RecordedRun) -> Iterator[dict[str, Any]]:
    """Yield the faults of a run that had no end yet: what was commanded, seen to be in force, and seen to be over."""
    if not run.source("events.jsonl").exists():
        return
    found: dict[tuple[int, int], dict[str, Any]] = {}
    for line in run.events():
        if is_a(line, FaultCommanded, FaultObserved, FaultHealed):
            _note(found, line["t_ns"], _read(run, line))
    yield from found.values()


def _read(run: RecordedRun, line: Mapping[str, Any]) -> Any:
    try:
        return from_record(line)
    except ValueError as error:
        raise run.source("events.jsonl").refusal(f"it contains {error}") from error


def _note(found: dict[tuple[int, int], dict[str, Any]], t_ns: int, record: Any) -> None:
    turn = (record.fault, record.turn)
    if isinstance(record, FaultCommanded):
        commanded_ms = record.t_commanded_ns / NS_PER_MS
        found[turn] = {"what": record.what, "nodes": list(record.nodes), "commanded_ms": commanded_ms}
    elif turn in found:
        key = "observed_ms" if isinstance(record, FaultObserved) else "healed_ms"
        found[turn][key] = t_ns / NS_PER_MS - found[turn]["commanded_ms"]
