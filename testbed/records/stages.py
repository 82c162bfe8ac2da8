"""The stages of a run, and when each of them stood still.

    sender ── way ──▶ node's program ── queue ──▶ sink          a packet passes these
    agents, mesh members, controllers, TCP endpoints            these decide meanwhile, or send and take in

    send    planned → sent, by the report of the sender
    stamp   planned → sent, by the two timestamps in each packet, read where it reaches a node
    way     sent → the node's program: the client's link, the switch, the node's link
    queue   the time at which the node's model of its queue lets the packet go → the sink
    agent, mesh, controller, tcp    a process, by the times at which it came to its loop

A *stall* is a time in which a stage did nothing although something was to be done: a packet was late by so much, or a
process did not come to its loop.  Stalls are kept as intervals, so that those that a fault of the scenario ordered can
be left out, and so that a verdict can say when, how long and what else stood still.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from testbed.records.histogram import Histogram
from testbed.scenario.fault_kinds import kind_of
from testbed.units import NS_PER_MS

StageKind = Literal["send", "stamp", "way", "queue", "agent", "mesh", "controller", "tcp"]

KEPT_STALLS = 64
NOTED_NS = NS_PER_MS  # less is how every run goes
AFTERMATH_NS = 20 * NS_PER_MS  # a fault that has ended explains what ends within that time


class Stall(NamedTuple):
    """A time in which a stage did nothing, in ns since the start of the run."""

    began_ns: int
    lasted_ns: int

    @property
    def ended_ns(self) -> int:
        """Return when it was over."""
        return self.began_ns + self.lasted_ns


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage at one place.

    Attributes:
        kind: which stage.
        place: the client, the node or the process.
        stalls: the longest ones, in the order of time; none overlaps another.
        delays: how long each packet took, where that was counted.
    """

    kind: StageKind
    place: str
    stalls: tuple[Stall, ...] = ()
    delays: Histogram | None = None


@dataclass(frozen=True, slots=True)
class OrderedFault:
    """A fault that the scenario ordered, as it was carried out.

    Attributes:
        kind: as in the scenario.
        nodes: the nodes it hit; empty for one of the controllers or of the machine.
        at_ns: when it was to happen.
        began_ns, over_ns: when it was commanded, and when it was healed; None: never.
    """

    kind: str
    nodes: tuple[str, ...]
    at_ns: int
    began_ns: int
    over_ns: int | None


def unordered(stage: Stage, faults: Iterable[OrderedFault]) -> tuple[Stall, ...]:
    """Return what of the stalls of a stage no fault of the scenario explains, the rest of each after the fault."""
    stalls = stage.stalls
    for fault in faults:
        if _excuses(fault, stage):
            stalls = tuple(rest for stall in stalls for rest in _without(stall, fault))
    return stalls


def _excuses(fault: OrderedFault, stage: Stage) -> bool:
    row = kind_of(fault.kind)
    return stage.kind in row.stops and (row.target == "machine" or stage.place in fault.nodes)


def _without(stall: Stall, fault: OrderedFault) -> list[Stall]:
    """Return the parts of a stall before and after a fault."""
    before = Stall(stall.began_ns, min(stall.ended_ns, fault.began_ns) - stall.began_ns)
    if fault.over_ns is None:
        return [before] if before.lasted_ns > 0 else []
    resumed_ns = max(stall.began_ns, fault.over_ns + AFTERMATH_NS)
    after = Stall(resumed_ns, stall.ended_ns - resumed_ns)
    return [part for part in (before, after) if part.lasted_ns > 0]


def longest_stalls(stalls: Iterable[Stall], kept: int = KEPT_STALLS) -> tuple[Stall, ...]:
    """Return the longest stalls, `kept` at most, in the order of time; of those that overlap, the longest.

    Packets that are held together arrive one after the other, and each of them was late: one stall, not many.
    """
    chosen: list[Stall] = []
    for stall in sorted(stalls, key=lambda stall: -stall.lasted_ns):
        if len(chosen) == kept:
            break
        if all(stall.ended_ns < other.began_ns or other.ended_ns < stall.began_ns for other in chosen):
            chosen.append(stall)
    return tuple(sorted(chosen))
