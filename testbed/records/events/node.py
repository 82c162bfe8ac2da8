"""What the brain of a node is given and what it answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import numpy as np

from testbed.records.events.record import Action, Doc, Event, Floats, Ints, Record, Short

Nodes = Annotated[
    tuple[str, ...], Doc("the nodes that this record concerns; entry i of each list belongs to nodes[i]", "names")
]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class PeersAssessed(Event):
    """For each of `nodes`, the highest severity that its peers have announced in the messages it has received."""

    short: ClassVar[Short] = Short.NEVER

    nodes: Nodes
    severity_ratio: Annotated[Floats, Doc("the highest severity announced by another node")]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ForecastMade(Event):
    """Predicted buffer need of `nodes`: the peak of the backlog within each horizon."""

    short: ClassVar[Short] = Short.NEVER

    nodes: Nodes
    horizon_ns: Annotated[tuple[int, ...], Doc("the horizons, ascending, from the time of the event")]
    need_bytes: Annotated[Ints, Doc("the predicted peak of the backlog, a column for each horizon")]
    onset_ratio: Annotated[Floats, Doc("probability that a burst starts within the longest horizon")]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class LimitGranted(Event):
    """The pool's answer to a `RequestLimit`: the limits that it grants to `nodes`.

    A grant may be smaller than the request.
    """

    sent_as: ClassVar[str] = "LimitGranted"  # the pool says it, and the brain is given it

    nodes: Nodes
    granted_bytes: Annotated[Ints, Doc("the buffer limit each node may have")]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class RequestLimit(Action):
    """Ask the pool for buffer limits of `nodes`; answered by `LimitGranted`.

    If the pool policy reduces the grants of nodes (for example `dynamic-threshold`), it never grants less than
    their current backlog.
    """

    nodes: Nodes
    wanted_bytes: Annotated[Ints, Doc("the buffer limit each node asks for")]
    used_bytes: Annotated[Ints, Doc("current backlog of each buffer; empty if all buffers are empty")] = field(
        default_factory=lambda: np.zeros(0, dtype=np.int64)
    )


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SetBufferLimit(Action):
    """Changes the buffer limits of `nodes`.

    `t_ns` is the time from which the new limits apply. If a limit was increased, the decision was made
    `buffer.actuation_delay` earlier.

    Never abbreviated, because the buffer metrics of the summary are computed from these records.
    """

    short: ClassVar[Short] = Short.NEVER

    nodes: Nodes
    limit_bytes: Annotated[Ints, Doc("the new buffer limits")]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Readiness(Record):
    """How ready `nodes` are for traffic; the datagram of a notification has these columns in this order."""

    nodes: Nodes
    limit_bytes: Annotated[Ints, Doc("buffer limit in force")]
    backlog_bytes: Annotated[Ints, Doc("bytes waiting in the buffer")]
    predicted_bytes: Annotated[Ints, Doc("largest forecast of the backlog")]
    severity_ratio: Annotated[Floats, Doc("severity of the burst precursor, from 0 (none) to 1")]
    arrived_bps: Annotated[Ints, Doc("rate at which data arrives")]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class NotifyBalancer(Readiness, Action):
    """Notify the balancer of the state of `nodes`; arrives there as `NodesNotified`."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class NodesNotified(Readiness, Event):
    """A `NotifyBalancer` that reached the balancer."""

    sent_as: ClassVar[str] = "NotifyBalancer"
