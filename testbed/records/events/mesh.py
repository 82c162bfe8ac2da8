"""What mesh members receive and send; the datagrams have these fields in this order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from testbed.records.events.balancer import Node
from testbed.records.events.node import Nodes
from testbed.records.events.record import Action, Doc, Event, Floats, Ints, Record, Short

Recipients = Annotated[tuple[str, ...], Doc("the members it is sent to", "names")]
_LIFE = "incarnation number: run-clock time of the last start, restart or refutation"
_SILENT = (
    "0: heartbeats arrive; 1: suspected; 2: uncertain, because the monitor misses "
    "heartbeats of other nodes, too, and may itself be disconnected. If a report "
    "contains 2, the receiver waits for further reports and then keeps the largest "
    "set of nodes that can reach each other"
)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Heartbeat(Record):
    """What a heartbeat contains."""

    incarnation: Annotated[int, Doc(f"{_LIFE} of the sender", "ns")]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class HeartbeatHeard(Heartbeat, Event):
    """A heartbeat of `node` was received; not written to `events.jsonl`."""

    short: ClassVar[Short] = Short.NEVER

    node: Node


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SendHeartbeat(Heartbeat, Action):
    """Send a heartbeat of this node to each of `to`, which handles it as `HeartbeatHeard`.

    Recorded by neither engine.
    """

    to: Recipients


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Suspicions(Record):
    """Report of a monitor about the nodes that it monitors; it replaces its earlier reports."""

    __test__: ClassVar[bool] = False  # the name starts with "Test": pytest shall not collect it

    nodes: Nodes
    incarnation: Annotated[Ints, Doc(f"{_LIFE} of each, as last heard", "ns")]
    silent: Annotated[Ints, Doc(_SILENT, "0, 1 or 2")]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SuspicionsHeard(Suspicions, Event):
    """Report of `monitor` about the nodes that it monitors; not written to `events.jsonl` (see `SuspicionsChanged`)."""

    short: ClassVar[Short] = Short.NEVER

    monitor: Annotated[str, Doc("the member that reports", "name")]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SendSuspicions(Suspicions, Action):
    """Report to each of `to` from which monitored nodes heartbeats arrive and from which not.

    Recorded by neither engine. The failure detector in the controller records a report as `SuspicionsChanged` if it
    differs from the previous one.
    """

    to: Recipients


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Rumours(Record):
    """Conclusions of the monitors of `nodes`. Of two, the later incarnation wins; if both are equal, `dead` wins."""

    nodes: Nodes
    incarnation: Annotated[Ints, Doc(f"{_LIFE} of each, as last heard by its monitors", "ns")]
    dead: Annotated[Ints, Doc("1: dead in that incarnation; 0: alive in it", "0 or 1")]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class RumoursHeard(Rumours, Event):
    """Rumours were received, forwarded by any member; not written to `events.jsonl`."""

    short: ClassVar[Short] = Short.NEVER


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SendRumours(Rumours, Action):
    """Send each of `to` these rumours, which it handles as `RumoursHeard`; recorded by neither engine."""

    to: Recipients


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class States(Record):
    """The state of `nodes` at `taken_ns`."""

    nodes: Nodes
    taken_ns: Annotated[Ints, Doc("when the state was taken, on the run's clock")]
    limit_bytes: Annotated[Ints, Doc("buffer limit in force")]
    backlog_bytes: Annotated[Ints, Doc("bytes waiting in the buffer")]
    predicted_bytes: Annotated[Ints, Doc("largest forecast of the backlog")]
    severity_ratio: Annotated[Floats, Doc("severity of the burst precursor, from 0 (none) to 1")]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class StatesHeard(States, Event):
    """The state of `nodes`, from the nodes themselves or forwarded by other members; not written to `events.jsonl`."""

    short: ClassVar[Short] = Short.NEVER


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SendStates(States, Action):
    """Send each of `to` these states, which it handles as `StatesHeard`; recorded by neither engine."""

    to: Recipients
