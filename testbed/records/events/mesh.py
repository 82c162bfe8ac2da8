"""What members of the mesh hear and what they send; the datagrams have these fields in this order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from testbed.records.events.balancer import Node
from testbed.records.events.node import Nodes
from testbed.records.events.record import Action, Doc, Event, Floats, Ints, Record, Short

Recipients = Annotated[tuple[str, ...], Doc("the members it is sent to", "names")]
_LIFE = "number of the life, a time of the run's clock"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Heartbeat(Record):
    """A sign of life."""

    incarnation: Annotated[int, Doc(f"{_LIFE} in which the sender lives", "ns")]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class HeartbeatHeard(Heartbeat, Event):
    """`node` lived a moment ago."""

    short: ClassVar[Short] = Short.NEVER

    node: Node


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SendHeartbeat(Heartbeat, Action):
    """Tell each of `to` that this node lives; arrives there as `HeartbeatHeard`."""

    to: Recipients


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Suspicions(Record):
    """What a member holds of the nodes it watches; what it held earlier is void."""

    __test__: ClassVar[bool] = False  # the name starts with "Test": pytest shall not collect it

    nodes: Nodes
    incarnation: Annotated[Ints, Doc(f"{_LIFE} in which each was heard last", "ns")]
    silent: Annotated[Ints, Doc("1: it is heard no more, 2: so are others, 0: it is heard", "0, 1 or 2")]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SuspicionsHeard(Suspicions, Event):
    """What `monitor` holds of the nodes it watches."""

    short: ClassVar[Short] = Short.NEVER

    monitor: Annotated[str, Doc("the member that says so", "name")]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SendSuspicions(Suspicions, Action):
    """Tell each of `to` who is heard and who is not; arrives there as `SuspicionsHeard`."""

    to: Recipients


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class States(Record):
    """The state of `nodes` at `taken_ns`."""

    nodes: Nodes
    taken_ns: Annotated[Ints, Doc("when the state was taken, on the run's clock")]
    limit_bytes: Annotated[Ints, Doc("buffer limit in force")]
    backlog_bytes: Annotated[Ints, Doc("what lies in the buffer")]
    predicted_bytes: Annotated[Ints, Doc("largest forecast of the backlog")]
    severity_ratio: Annotated[Floats, Doc("how strongly a burst is announced")]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class StatesHeard(States, Event):
    """The state of `nodes`, by themselves or passed on."""

    short: ClassVar[Short] = Short.NEVER


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SendStates(States, Action):
    """Tell each of `to` these states; arrives there as `StatesHeard`."""

    to: Recipients
