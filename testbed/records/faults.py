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
    for_ns: Annotated[int | None, Doc("how long it is to last; None: until another entry heals it, or for good")] = None


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
    """What a fault that takes a node away cost (`traffic.fault_losses`).

    Without slots, since a class can have one base with some only.
    """

    flows: Annotated[int, Doc("flows that were delivered behind the failed node last", "flows")]
    moved_flows: Annotated[int, Doc("those of them that went on, elsewhere or there again when it had healed", "flows")]
    lost_pkts: Annotated[int, Doc("packets that were lost with the node or its link, by their numbers")]
    first_lost_ns: Annotated[int | None, Doc("planned time of the first of them; None without any")] = None
    last_lost_ns: Annotated[int | None, Doc("planned time of the last of them; None without any")] = None
    first_good_ns: Annotated[
        int | None, Doc("planned time of the first packet with which a flow went on; None without any")
    ] = None


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class FaultLosses(AboutFault, FaultLoss, LogEntry):
    """What a fault that takes a node away cost, counted when the queues were drained."""

    counted_pkts: Annotated[int | None, Doc("packets it cost, by the counters of the place")] = None
