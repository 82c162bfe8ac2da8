"""One sample of a node: the row of ``samples.parquet``, and what of it the brain is given.

A row says what happened in the interval that ends at its `t_ns` (and began at the node's previous row) and the state
at its end.  `TrafficSampled` is the columns of many nodes at once; its fields are columns of that row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from testbed.records.events.node import Nodes
from testbed.records.events.record import Doc, Event, Ints, Record, Short, columns_of

_ARRIVED = Doc("data bytes that reached the buffer in the interval, dropped ones included")
_SAME_IN_PKTS = Doc("the same in packets")
_DROPPED = Doc("bytes that the buffer dropped in the interval")
_BACKLOG = Doc("backlog at `t_ns` according to the queue model of the XDP program, which decides on drops")
_LIMIT = Doc("buffer limit in force at t_ns")
_NEW_FLOWS = Doc("flows first seen in the interval", "flows")
_GAP_MAX = Doc("longest gap between two arrivals in the interval")
_PEAK_1MS = Doc("bytes of the busiest 1 ms of the interval")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SampleRow(Record):
    """One row of ``samples.parquet``, in the order of its columns; None is null, which means *not measured*."""

    t_ns: Annotated[int, Doc("end of the interval, ns since the start of the run")]
    node: Annotated[str, Doc("name of the node", "name")]
    arrived_bytes: Annotated[int, _ARRIVED]
    arrived_pkts: Annotated[int, _SAME_IN_PKTS]
    dropped_bytes: Annotated[int, _DROPPED]
    dropped_pkts: Annotated[int, _SAME_IN_PKTS]
    backlog_bytes: Annotated[int, _BACKLOG]
    qdisc_backlog_bytes: Annotated[
        int | None,
        Doc(
            "bytes in the egress qdisc, read after the new limit was set. While there is no "
            "backlog, it is read only for every tenth sample"
        ),
    ] = None
    backlog_beside_bytes: Annotated[
        int | None, Doc("backlog as computed by the XDP program at the moment the qdisc was read")
    ] = None
    limit_bytes: Annotated[int, _LIMIT]
    predicted_bytes: Annotated[int | None, Doc("largest value of the backlog forecast made after this sample")] = None
    weight: Annotated[int | None, Doc("slots of the balancer's table that belong to the node", "slots")] = None
    severity_ratio: Annotated[
        float | None, Doc("severity of the burst precursor computed from this sample, 0 to 1")
    ] = None
    new_flows: Annotated[int | None, _NEW_FLOWS] = None
    gap_max_ns: Annotated[int | None, _GAP_MAX] = None
    peak_1ms_bytes: Annotated[int | None, _PEAK_1MS] = None
    deflected_bytes: Annotated[
        int | None, Doc("bytes a full buffer forwarded to a sibling in the interval, included in those arrived")
    ] = None
    deflected_pkts: Annotated[int | None, _SAME_IN_PKTS] = None
    delivered_bytes: Annotated[
        int | None,
        Doc(
            "bytes that the sink has counted since the start (cumulative). In scenarios with "
            "TCP sources: bytes that the qdisc has sent"
        ),
    ] = None
    delivered_t_ns: Annotated[
        int | None, Doc("time at which the last of these bytes arrived, ns since the start of the run")
    ] = None
    loop_ns: Annotated[int | None, Doc("duration of the agent's loop for this sample")] = None
    lateness_ns: Annotated[int | None, Doc("how late the agent's tick began")] = None
    look_ns: Annotated[
        int | None, Doc("part of loop_ns spent on reading the severity of the peers and the kernel counters")
    ] = None
    decide_ns: Annotated[int | None, Doc("part of loop_ns spent in the policies")] = None
    act_ns: Annotated[
        int | None,
        Doc(
            "part of loop_ns spent on the pool request, setting the limit, the notification, "
            "and the message to the mesh member"
        ),
    ] = None
    record_ns: Annotated[
        int | None,
        Doc(
            "time spent after the loop of the previous sample on reading the qdisc and "
            "recording that sample (not part of loop_ns)"
        ),
    ] = None


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class TrafficSampled(Event):
    """Traffic measured at `nodes` during the last `interval_ns`, and the state of their buffers at the end of it."""

    short: ClassVar[Short] = Short.SAMPLES

    nodes: Nodes
    interval_ns: Annotated[int, Doc("length of the interval, the same for all nodes")]
    arrived_bytes: Annotated[Ints, _ARRIVED]
    arrived_pkts: Annotated[Ints, _SAME_IN_PKTS]
    dropped_bytes: Annotated[Ints, _DROPPED]
    dropped_pkts: Annotated[Ints, _SAME_IN_PKTS]
    backlog_bytes: Annotated[Ints, _BACKLOG]
    limit_bytes: Annotated[Ints, _LIMIT]
    new_flows: Annotated[Ints, _NEW_FLOWS]
    gap_max_ns: Annotated[Ints, _GAP_MAX]
    peak_1ms_bytes: Annotated[Ints, _PEAK_1MS]


MEASURED = columns_of(TrafficSampled)
"""The columns that the brain is given."""
