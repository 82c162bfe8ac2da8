"""Events, actions and their one written form.

An *event* is a fact of the past handed to a policy; an *action* is a command a policy hands back.  Both are frozen
records of plain values.  What concerns many nodes at once is columnar: ``nodes`` names the rows and every other field
is an ``int64`` (or ``float64``) array of the same length.  An agent on the wire holds one row, the simulation one row
for each node, and both run the same policy code.

`to_record` gives the JSON form written to ``events.jsonl``; `files.event_records` reads it back, so that any slice of a
recorded run is a unit test.
"""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
FiveTuple = tuple[str, str, int, int, int]  # source, destination, protocol, source port, destination port


class Record:
    """Base of events and actions: a registry by class name and the JSON form."""

    __slots__ = ()
    kinds: ClassVar[dict[str, type[Record]]] = {}

    def __init_subclass__(cls) -> None:
        """Register the subclass under its name (a slotted dataclass is made twice: the last one counts)."""
        Record.kinds[cls.__name__] = cls

    def to_record(self) -> dict[str, Any]:
        """Return ``{"kind": class name, field: plain value, ...}``; arrays become lists."""
        fields = {name: _plain(getattr(self, name)) for name in _names_of(type(self).__name__)}
        return {"kind": type(self).__name__, **fields}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Record) and self.to_record() == other.to_record()

    def __hash__(self) -> int:
        return hash(repr(self.to_record()))


@functools.cache
def _names_of(kind: str) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(cast(Any, Record.kinds[kind])))


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


class Event(Record):
    """A fact of the past, input of a policy."""

    __slots__ = ()


class Action(Record):
    """A command, output of a policy; the engine carries it out."""

    __slots__ = ()


# ---------------------------------------------------------------------------------------------------- node, buffer


@dataclass(frozen=True, slots=True, eq=False)
class TrafficSampled(Event):
    """What `nodes` saw in the last `interval_ns`, and the state at its end.  All arrays have shape [n]."""

    nodes: tuple[str, ...]
    interval_ns: int
    arrived_bytes: Ints
    arrived_pkts: Ints
    dropped_bytes: Ints
    dropped_pkts: Ints
    backlog_bytes: Ints
    limit_bytes: Ints
    new_flows: Ints
    gap_max_ns: Ints
    peak_1ms_bytes: Ints  # bytes of the busiest 1 ms bin within the interval


@dataclass(frozen=True, slots=True, eq=False)
class PeersAssessed(Event):
    """How strongly the peers of each of `nodes` announce a burst, by what reached it: 0..1, shape [n]."""

    nodes: tuple[str, ...]
    severity_ratio: Floats


@dataclass(frozen=True, slots=True, eq=False)
class ForecastMade(Event):
    """Predicted buffer need of `nodes`: the peak of the backlog within each horizon.

    `need_bytes` has shape [n, h] for horizons `horizon_ns` (h, ascending, from the time of the event);
    `onset_ratio` [n] is the probability that a burst starts within the longest horizon.
    """

    nodes: tuple[str, ...]
    horizon_ns: tuple[int, ...]
    need_bytes: Ints
    onset_ratio: Floats


@dataclass(frozen=True, slots=True, eq=False)
class LimitGranted(Event):
    """The pool's answer to a `RequestLimit`: what `nodes` may reserve; less than asked is a refusal in part."""

    nodes: tuple[str, ...]
    granted_bytes: Ints


@dataclass(frozen=True, slots=True, eq=False)
class RequestLimit(Action):
    """Ask the pool for buffer limits of `nodes`; answered by `LimitGranted`.

    `used_bytes` is the backlog that lies in the buffers now, shape [n]; empty when nothing does.  A pool whose rule
    makes nodes shed memory does not go below it.
    """

    nodes: tuple[str, ...]
    wanted_bytes: Ints
    used_bytes: Ints = dataclasses.field(default_factory=lambda: np.zeros(0, dtype=np.int64))


@dataclass(frozen=True, slots=True, eq=False)
class SetBufferLimit(Action):
    """Make `limit_bytes` the buffer limits of `nodes` now."""

    nodes: tuple[str, ...]
    limit_bytes: Ints


@dataclass(frozen=True, slots=True, eq=False)
class NotifyBalancer(Action):
    """Tell the balancer how ready `nodes` are; arrives there as `NodesNotified`."""

    nodes: tuple[str, ...]
    limit_bytes: Ints
    backlog_bytes: Ints
    predicted_bytes: Ints
    severity_ratio: Floats
    arrived_bps: Ints


# ------------------------------------------------------------------------------------------------------- balancer


@dataclass(frozen=True, slots=True, eq=False)
class NodesNotified(Event):
    """A `NotifyBalancer` that reached the balancer; same fields."""

    nodes: tuple[str, ...]
    limit_bytes: Ints
    backlog_bytes: Ints
    predicted_bytes: Ints
    severity_ratio: Floats
    arrived_bps: Ints


@dataclass(frozen=True, slots=True, eq=False)
class NodeLeft(Event):
    """`node` stopped serving: `reason` is one of notifications, port, mesh, drain."""

    node: str
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class NodeJoined(Event):
    """`node` serves (again): what it left for, `reason`, is over; empty means whatever it was."""

    node: str
    reason: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class FlowArrived(Event):
    """A packet of `flow`, which has no node yet, reached the balancer."""

    flow: FiveTuple


@dataclass(frozen=True, slots=True, eq=False)
class DeadlineReached(Event):
    """The time a policy asked to be woken at (`next_deadline_ns`) has come."""


@dataclass(frozen=True, slots=True, eq=False)
class SetSlots(Action):
    """Give the slots of the balancer's table to nodes: ``slots[i]`` is the node new flows hashing to i go to."""

    slots: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class PlaceFlow(Action):
    """Send `flow` to `node` from now on, the packet that waits first."""

    flow: FiveTuple
    node: str


@dataclass(frozen=True, slots=True, eq=False)
class NameSiblings(Action):
    """Let each of `nodes`, when it is full, hand packets to its row of `siblings`; an empty name: to nobody."""

    nodes: tuple[str, ...]
    siblings: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class RemoveNode(Action):
    """Take `node` out of forwarding at once, its pinned flows included (they hash anew)."""

    node: str


@dataclass(frozen=True, slots=True, eq=False)
class RestoreNode(Action):
    """Let `node` forward again."""

    node: str


# ----------------------------------------------------------------------------------------------------------- mesh


@dataclass(frozen=True, slots=True, eq=False)
class HeartbeatHeard(Event):
    """`node` lived a moment ago, in its life number `incarnation`."""

    node: str
    incarnation: int


@dataclass(frozen=True, slots=True, eq=False)
class WitnessHeard(Event):
    """What `witness` holds of the nodes it watches; its earlier testimony is void.

    `incarnation` is the last life each was heard in, `silent` 1 when it is heard no more, 2 when so are others, else 0;
    both of shape [n].
    """

    witness: str
    nodes: tuple[str, ...]
    incarnation: Ints
    silent: Ints


@dataclass(frozen=True, slots=True, eq=False)
class StatesHeard(Event):
    """The state of `nodes` at `taken_ns` of the run's clock, told by themselves or passed on.  Arrays: shape [n]."""

    nodes: tuple[str, ...]
    taken_ns: Ints
    limit_bytes: Ints
    backlog_bytes: Ints
    predicted_bytes: Ints
    severity_ratio: Floats


@dataclass(frozen=True, slots=True, eq=False)
class SendHeartbeat(Action):
    """Tell each of `to` that this node lives; arrives there as `HeartbeatHeard`."""

    to: tuple[str, ...]
    incarnation: int


@dataclass(frozen=True, slots=True, eq=False)
class SendTestimony(Action):
    """Tell each of `to` who is heard and who is not; arrives there as `WitnessHeard`."""

    to: tuple[str, ...]
    nodes: tuple[str, ...]
    incarnation: Ints
    silent: Ints


@dataclass(frozen=True, slots=True, eq=False)
class SendStates(Action):
    """Tell each of `to` these states; arrives there as `StatesHeard`."""

    to: tuple[str, ...]
    nodes: tuple[str, ...]
    taken_ns: Ints
    limit_bytes: Ints
    backlog_bytes: Ints
    predicted_bytes: Ints
    severity_ratio: Floats
