"""What the brain of a node is given and what it answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import numpy as np

from testbed.records.events.record import Action, Doc, Event, Floats, Ints, Record, Short

Nodes = Annotated[tuple[str, ...], Doc("the nodes it is about, a row each", "names")]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class PeersAssessed(Event):
    """How strongly the peers of each of `nodes` announce a burst, by what reached it."""

    short: ClassVar[Short] = Short.NEVER

    nodes: Nodes
    severity_ratio: Annotated[Floats, Doc("the strongest announcement of a burst by another node")]


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
    """The pool's answer to a `RequestLimit`: what `nodes` may reserve; less than asked is a refusal in part."""

    sent_as: ClassVar[str] = "LimitGranted"  # the pool says it, and the brain is given it

    nodes: Nodes
    granted_bytes: Annotated[Ints, Doc("the buffer limit each node may have")]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class RequestLimit(Action):
    """Ask the pool for buffer limits of `nodes`; answered by `LimitGranted`.

    A pool whose rule makes nodes shed memory does not go below what they use.
    """

    nodes: Nodes
    wanted_bytes: Annotated[Ints, Doc("the buffer limit each node asks for")]
    used_bytes: Annotated[Ints, Doc("the backlog that lies in each buffer now; empty when nothing does")] = field(
        default_factory=lambda: np.zeros(0, dtype=np.int64)
    )


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SetBufferLimit(Action):
    """Set the buffer limits of `nodes`; they are in force from `t_ns` on: an actuation delay has passed by then.

    Never abbreviated: the figures of a run are computed from it.
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
    severity_ratio: Annotated[Floats, Doc("how strongly a burst is announced")]
    arrived_bps: Annotated[Ints, Doc("rate at which data arrives")]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class NotifyBalancer(Readiness, Action):
    """Notify the balancer of the state of `nodes`; arrives there as `NodesNotified`."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class NodesNotified(Readiness, Event):
    """A `NotifyBalancer` that reached the balancer."""

    sent_as: ClassVar[str] = "NotifyBalancer"
