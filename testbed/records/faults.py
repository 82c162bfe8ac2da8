"""The course of a fault: commanded, observed, over, and what it cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from testbed.records.events import Doc, LogEntry, Record


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class AboutFault(Record):
    """Which fault a record is about."""

    fault: Annotated[int, Doc("its place in the scenario, from 0", "number")]
    turn: Annotated[int, Doc("repetition of a periodic fault (flap), from 0", "number")] = 0
    what: Annotated[str, Doc("kind of the fault", "as in the scenario")]
    nodes: Annotated[
        tuple[str, ...],
        Doc("nodes affected by the fault; a suspicion of them is not counted as false", "names"),
    ] = ()


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class FaultCommanded(AboutFault, LogEntry):
    """The command that injects a fault was issued; that it is in force is `FaultObserved`."""

    t_commanded_ns: Annotated[int, Doc("when it was commanded, on the run's clock")]
    for_ns: Annotated[int | None, Doc("how long it is to last; `null`: until another entry heals it, or for good")] = (
        None
    )


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class FaultObserved(AboutFault, LogEntry):
    """A fault was seen to be in force."""

    took_ms: Annotated[float, Doc("since its command")]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class FaultNotSeen(AboutFault, LogEntry):
    """A fault, or its end, was not seen to happen: the run is INVALID."""

    reason: Annotated[str, Doc("what was attempted and what happened", "text")]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class FaultEndCommanded(AboutFault, LogEntry):
    """The command that ends a fault was issued; that it is over is `FaultHealed`."""

    t_commanded_ns: Annotated[int, Doc("when its end was commanded, on the run's clock")]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class FaultHealed(AboutFault, LogEntry):
    """A fault was seen to be over; with what was measured while it lasted."""

    took_ms: Annotated[float, Doc("since the command of its end")]
    met_pkts: Annotated[int | None, Doc("of loss: packets that the link could have lost")] = None
    lost_pkts: Annotated[int | None, Doc("of loss: packets that the link lost")] = None
    burnt_s: Annotated[float | None, Doc("of cpu_hog: processor time that was used")] = None


@dataclass(frozen=True, eq=False, kw_only=True)
class FaultLoss(Record):
    """Losses of a fault that makes a node unreachable (`traffic.fault_losses`).

    Without slots, since only one base of a class may have slots.
    """

    flows: Annotated[int, Doc("flows whose last packet before the fault went through the failed node", "flows")]
    moved_flows: Annotated[
        int, Doc("of these, flows that continued, at another node or at this one after it recovered", "flows")
    ]
    lost_pkts: Annotated[int, Doc("packets lost at the node or its link, according to packet numbers")]
    first_lost_ns: Annotated[int | None, Doc("planned send time of the first lost packet; `null` without any")] = None
    last_lost_ns: Annotated[int | None, Doc("planned send time of the last lost packet; `null` without any")] = None
    first_good_ns: Annotated[
        int | None, Doc("planned send time of the first packet delivered after the fault; `null` without any")
    ] = None


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class FaultLosses(AboutFault, FaultLoss, LogEntry):
    """Losses of a fault that makes a node unreachable, counted when the queues were drained."""

    counted_pkts: Annotated[int | None, Doc("lost packets according to the counters at the failed node or link")] = None
