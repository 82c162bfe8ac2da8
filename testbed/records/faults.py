"""The course of a fault: commanded, observed, over, and what it cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from testbed.records.events import Doc, LogEntry, Record


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class AboutFault(Record):
    """Which fault a record is about."""

    fault: Annotated[int, Doc("index of the fault in the list `faults` of the scenario, from 0", "number")]
    turn: Annotated[int, Doc("repetition of a periodic fault (flap), from 0", "number")] = 0
    what: Annotated[str, Doc("kind of the fault", "key of the fault in the scenario, such as `crash`")]
    nodes: Annotated[
        tuple[str, ...],
        Doc("nodes affected by the fault; a suspicion of them is not counted as false", "names"),
    ] = ()


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class FaultCommanded(AboutFault, LogEntry):
    """The command that injects a fault was issued. A later `FaultObserved` record says that the fault is in effect."""

    t_commanded_ns: Annotated[int, Doc("when it was commanded, on the run's clock")]
    for_ns: Annotated[
        int | None,
        Doc("planned duration; `null`: until another entry of `faults` ends it, or until the end of the run"),
    ] = None


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class FaultObserved(AboutFault, LogEntry):
    """A fault was observed to be in effect."""

    took_ms: Annotated[float, Doc("time since the fault was commanded")]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class FaultNotSeen(AboutFault, LogEntry):
    """The start or the end of a fault was commanded but not observed. The run is INVALID."""

    reason: Annotated[str, Doc("what was attempted and what happened", "text")]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class FaultEndCommanded(AboutFault, LogEntry):
    """The command that ends a fault was issued. A later `FaultHealed` record says that the fault is over."""

    t_commanded_ns: Annotated[int, Doc("when its end was commanded, on the run's clock")]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class FaultHealed(AboutFault, LogEntry):
    """The end of a fault was observed. The record contains measurements made during the fault."""

    took_ms: Annotated[float, Doc("time since the end of the fault was commanded")]
    met_pkts: Annotated[int | None, Doc("only for `loss`: packets that entered the link during the fault")] = None
    lost_pkts: Annotated[int | None, Doc("only for `loss`: packets that the link dropped because of the fault")] = None
    burnt_s: Annotated[float | None, Doc("only for `cpu_hog`: CPU time used by its processes")] = None


@dataclass(frozen=True, eq=False, kw_only=True)
class FaultLoss(Record):
    """Losses of a fault that makes a node unreachable (`traffic.fault_losses`).

    Without slots, since only one base of a class may have slots.
    """

    flows: Annotated[int, Doc("flows whose last packet before the fault went through the failed node", "flows")]
    moved_flows: Annotated[
        int,
        Doc(
            "number of these flows that were delivered again later, by another node or by the "
            "same node after its recovery",
            "flows",
        ),
    ]
    lost_pkts: Annotated[int, Doc("packets lost at the node or its link, according to the sequence numbers")]
    first_lost_ns: Annotated[int | None, Doc("planned send time of the first lost packet; `null` if none was lost")] = (
        None
    )
    last_lost_ns: Annotated[int | None, Doc("planned send time of the last lost packet; `null` if none was lost")] = (
        None
    )
    first_good_ns: Annotated[
        int | None, Doc("planned send time of the first packet delivered after the fault; `null` if there is none")
    ] = None


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class FaultLosses(AboutFault, FaultLoss, LogEntry):
    """Packets lost because a fault made a node unreachable.

    Counted after the queues had drained at the end of the run.
    """

    counted_pkts: Annotated[int | None, Doc("lost packets according to the counters at the failed node or link")] = None
