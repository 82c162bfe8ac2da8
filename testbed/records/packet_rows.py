"""``packets.parquet`` and ``flows.parquet`` as tables: a row for each planned packet, and for each flow.

A run writes them when the scenario has ``record_packets: true``.  Both engines fill the same columns with the same
meaning; null is *did not happen*: a packet that was dropped has no time of delivery.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import pyarrow as pa

from testbed.records.events import Record, fields_of
from testbed.records.events.record import Doc

MAX_PACKETS = 5_000_000
"""How many packets a run may record: 24 bytes each in the kernel, and 100 in what reads them."""

LOST_AT = ("buffer", "link", "fault", "way", "queue", "unsent")
"""Where a packet can end that is not delivered."""

_MEANING_OF_LOST = (
    "where it ended if it was not delivered: `buffer` (dropped by the buffer of `node`), `link` (dropped by the full "
    "queue of a link between switches), `fault` (lost to a fault: at `node`, or on a link), `way` (sent, but not seen "
    "by any node), `queue` (admitted by `node`, but still in its queue at the end or when the node crashed, or lost "
    "behind the node), `unsent` (never sent); null for a packet that was delivered"
)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class PacketRow(Record):
    """One row of ``packets.parquet``: what happened to one planned packet; rows are in the order of the plan."""

    flow: Annotated[int, Doc("number of its flow, the key to `flows.parquet`", "number")]
    seq: Annotated[int, Doc("number of the packet within its flow, from 0", "number")]
    source: Annotated[str, Doc("name of the traffic source in the scenario", "name")]
    client: Annotated[str, Doc("client that sends it", "name")]
    size_bytes: Annotated[int, Doc("length of the Ethernet frame without FCS")]
    planned_ns: Annotated[int, Doc("planned send time")]
    sent_ns: Annotated[int | None, Doc("send time; in the simulation the planned one")] = None
    arrived_ns: Annotated[
        int | None, Doc("time at the buffer of `node`; of a deflected packet that at its last node")
    ] = None
    delivered_ns: Annotated[int | None, Doc("time at the sink")] = None
    delay_ns: Annotated[int | None, Doc("delivered_ns - sent_ns")] = None
    node: Annotated[str | None, Doc("node that delivered or dropped it; null if no node is known", "name")] = None
    lost: Annotated[str | None, Doc(_MEANING_OF_LOST, "name")] = None


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class FlowRow(Record):
    """One row of ``flows.parquet``: the packets of one flow together."""

    flow: Annotated[int, Doc("number of the flow", "number")]
    source: Annotated[str, Doc("name of the traffic source in the scenario: the class of the flow", "name")]
    client: Annotated[str, Doc("client that sends it", "name")]
    src_ip: Annotated[str, Doc("source address", "address")]
    dst_ip: Annotated[str, Doc("destination address: the VIP", "address")]
    protocol: Annotated[int, Doc("IP protocol number: 17, UDP", "number")]
    src_port: Annotated[int, Doc("source port", "number")]
    dst_port: Annotated[int, Doc("destination port", "number")]
    node: Annotated[str | None, Doc("node of its last packet that a node delivered or dropped", "name")] = None
    nodes: Annotated[int, Doc("number of nodes that delivered or dropped a packet of it", "number")]
    sent_pkts: Annotated[int, Doc("packets that were sent")]
    sent_bytes: Annotated[int, Doc("their bytes")]
    delivered_pkts: Annotated[int, Doc("packets that were delivered")]
    delivered_bytes: Annotated[int, Doc("their bytes")]
    lost_pkts: Annotated[int, Doc("packets that were sent and not delivered")]
    lost_buffer_pkts: Annotated[int, Doc("those dropped by a buffer")]
    lost_link_pkts: Annotated[int, Doc("those dropped by the full queue of a link between switches")]
    lost_fault_pkts: Annotated[int, Doc("those lost to a fault")]
    lost_way_pkts: Annotated[int, Doc("those not seen by any node")]
    lost_queue_pkts: Annotated[int, Doc("those that a node admitted and that were not delivered")]
    first_sent_ns: Annotated[int | None, Doc("send time of the first packet")] = None
    last_sent_ns: Annotated[int | None, Doc("send time of the last packet")] = None
    last_delivered_ns: Annotated[int | None, Doc("time of the last delivery")] = None
    delay_p50_ns: Annotated[int | None, Doc("median of delay_ns of the delivered packets (nearest rank)")] = None
    delay_p99_ns: Annotated[int | None, Doc("99th percentile of it (nearest rank)")] = None
    delay_max_ns: Annotated[int | None, Doc("maximum of it")] = None
    completion_ns: Annotated[
        int | None,
        Doc("last_delivered_ns - first_sent_ns; null unless all planned packets of the flow were delivered"),
    ] = None


_TYPES = {str: pa.string(), int: pa.int64(), str | None: pa.string(), int | None: pa.int64()}


def _schema_of(row: type[Record]) -> pa.Schema:
    return pa.schema([pa.field(f.name, _TYPES[f.type], nullable=f.has_default) for f in fields_of(row)])


PACKETS, FLOWS = _schema_of(PacketRow), _schema_of(FlowRow)
