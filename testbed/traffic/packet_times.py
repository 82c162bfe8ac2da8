"""When each packet of a plan was seen, and the tables that follow from that: a row a packet, and a row a flow.

An engine hands over `PacketTimes`: arrays in the order of the plan.  Where a packet ended follows from the programs
that dropped it (`lost`), and where none did from how far it came: not sent, not seen at a node, not seen at a sink.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from testbed.records.events import Ints
from testbed.records.packet_rows import FLOWS, LOST_AT, PACKETS
from testbed.scenario.network import VIP_IP, VIP_IP6, Network
from testbed.traffic.numbers import Bools
from testbed.traffic.plan import PacketPlan, order_by

NEVER = -1  # time of what did not happen
NOWHERE = -1  # node, where none is known
DELIVERED = len(LOST_AT)
_UDP = 17
_CODE = {place: code for code, place in enumerate(LOST_AT)}


@dataclass(frozen=True, eq=False)
class PacketTimes:
    """What is known of each packet of a plan, in its order; every array has shape [n].

    Attributes:
        sent_ns, arrived_ns, delivered_ns: int64, `NEVER` for what did not happen.
        node: row of the node that delivered or dropped it, int64, or `NOWHERE`.
        ended: int64, index into `LOST_AT`, or `DELIVERED`.
    """

    sent_ns: Ints
    arrived_ns: Ints
    delivered_ns: Ints
    node: Ints
    ended: Ints

    @classmethod
    def of(cls, sent_ns: Ints, arrived_ns: Ints, delivered_ns: Ints, node: Ints, **dropped: Bools) -> PacketTimes:
        """Return the times with the place where each packet ended.

        Args:
            sent_ns: as of the attributes.
            arrived_ns: likewise.
            delivered_ns: likewise.
            node: likewise.
            dropped: which packets each place in `LOST_AT` dropped, by its name, as far as something counts there.
        """
        conditions = {
            DELIVERED: delivered_ns != NEVER,
            **{_CODE[place]: packets for place, packets in dropped.items()},
            _CODE["unsent"]: sent_ns == NEVER,
            _CODE["way"]: arrived_ns == NEVER,
        }
        ended = np.select(list(conditions.values()), list(conditions), default=_CODE["queue"])
        return cls(sent_ns, arrived_ns, delivered_ns, node, ended)


def packet_table(plan: PacketPlan, network: Network, times: PacketTimes) -> pa.Table:
    """Return the rows of ``packets.parquet``."""
    delivered = times.ended == DELIVERED
    timed = delivered & (times.sent_ns != NEVER)
    columns = {
        "flow": plan.flow,
        "seq": plan.seq,
        "source": _names(plan.sources, plan.source),
        "client": _names(plan.clients, plan.flows.client[plan.flow]),
        "size_bytes": plan.size_bytes,
        "planned_ns": plan.t_ns,
        "sent_ns": _unless_never(times.sent_ns),
        "arrived_ns": _unless_never(times.arrived_ns),
        "delivered_ns": _unless_never(times.delivered_ns),
        "delay_ns": pa.array(times.delivered_ns - times.sent_ns, mask=~timed),
        "node": _names([node.name for node in network.nodes], times.node, times.node == NOWHERE),
        "lost": _names(LOST_AT, np.where(delivered, 0, times.ended), delivered),
    }
    return _table(columns, PACKETS)


def flow_table(plan: PacketPlan, network: Network, times: PacketTimes) -> pa.Table:
    """Return the rows of ``flows.parquet``: every flow of the plan, in the order of its number."""
    group = _Flows(plan)
    return _table({**_tuples(plan, network), **_counts(plan, group, network, times), **_delays(group, times)}, FLOWS)


def _tuples(plan: PacketPlan, network: Network) -> dict[str, Any]:
    flows = plan.flows
    return {
        "flow": np.arange(len(flows)),
        "source": _names(plan.sources, flows.source),
        "client": _names(plan.clients, flows.client),
        "src_ip": _source_addresses(plan, network),
        "dst_ip": _names((VIP_IP, VIP_IP6), flows.ip_version == 6),
        "protocol": np.full(len(flows), _UDP),
        "src_port": flows.src_port,
        "dst_port": flows.dst_port,
    }


def _counts(plan: PacketPlan, group: _Flows, network: Network, times: PacketTimes) -> dict[str, Any]:
    sent, delivered = times.sent_ns != NEVER, times.ended == DELIVERED
    last_node = group.last_value(times.node, np.maximum(times.arrived_ns, times.sent_ns))
    places = [place for place in LOST_AT if place != "unsent"]
    return {
        "node": _names([node.name for node in network.nodes], last_node, last_node == NOWHERE),
        "nodes": group.different(times.node, times.node != NOWHERE),
        "sent_pkts": group.count(sent),
        "sent_bytes": group.sum(plan.size_bytes, sent),
        "delivered_pkts": group.count(delivered),
        "delivered_bytes": group.sum(plan.size_bytes, delivered),
        "lost_pkts": group.count(sent & ~delivered),
        **{f"lost_{place}_pkts": group.count(times.ended == _CODE[place]) for place in places},
    }


def _delays(group: _Flows, times: PacketTimes) -> dict[str, Any]:
    delivered, delay_ns = times.ended == DELIVERED, times.delivered_ns - times.sent_ns
    timed = delivered & (times.sent_ns != NEVER)
    first_ns, last_ns = group.first(times.sent_ns), group.last(times.delivered_ns)
    all_there = (group.count(~delivered) == 0) & (first_ns != NEVER)
    shares = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    return {
        "first_sent_ns": _unless_never(first_ns),
        "last_sent_ns": _unless_never(group.last(times.sent_ns)),
        "last_delivered_ns": _unless_never(last_ns),
        **{f"delay_{k}_ns": _unless_never(group.percentile(delay_ns, timed, share)) for k, share in shares.items()},
        "completion_ns": pa.array(last_ns - first_ns, mask=~all_there),
    }


class _Flows:
    """The packets of a plan, flow by flow; every answer has a value for each flow."""

    def __init__(self, plan: PacketPlan) -> None:
        self._flow, self._count = plan.flow, len(plan.flows)

    def count(self, chosen: Bools) -> Ints:
        return np.bincount(self._flow[chosen], minlength=self._count).astype(np.int64)

    def sum(self, values: NDArray[Any], chosen: Bools) -> Ints:
        total: Ints = np.zeros(self._count, dtype=np.int64)
        np.add.at(total, self._flow[chosen], values[chosen])
        return total

    def first(self, t_ns: Ints) -> Ints:
        """Return the earliest time that is not `NEVER`, `NEVER` without any."""
        happened, least = t_ns != NEVER, np.full(self._count, np.iinfo(np.int64).max)
        np.minimum.at(least, self._flow[happened], t_ns[happened])
        return np.where(least == np.iinfo(np.int64).max, NEVER, least)

    def last(self, t_ns: Ints) -> Ints:
        most: Ints = np.full(self._count, NEVER, dtype=np.int64)
        np.maximum.at(most, self._flow, t_ns)
        return most

    def last_value(self, values: Ints, t_ns: Ints) -> Ints:
        """Return the value of the latest packet that has one, `NOWHERE` without any."""
        known = np.flatnonzero(values != NOWHERE)
        order = known[np.lexsort((t_ns[known], self._flow[known]))]
        found: Ints = np.full(self._count, NOWHERE, dtype=np.int64)
        found[self._flow[order]] = values[order]  # of several the last one stays
        return found

    def different(self, values: Ints, chosen: Bools) -> Ints:
        pairs = np.unique(np.stack((self._flow[chosen], values[chosen])), axis=1)
        return np.bincount(pairs[0], minlength=self._count).astype(np.int64)

    def percentile(self, values: Ints, chosen: Bools, share: float) -> Ints:
        """Return the value of nearest rank, `NEVER` without any."""
        rows = np.flatnonzero(chosen)
        rows = rows[np.argsort(values[rows], kind="stable")]
        ordered = rows[order_by(self._flow[rows])]
        count = np.bincount(self._flow[ordered], minlength=self._count)
        rank = np.maximum(np.ceil(share * count).astype(np.int64), 1) - 1
        at = np.minimum(np.cumsum(count) - count + rank, max(len(ordered) - 1, 0))
        if not len(ordered):
            return np.full(self._count, NEVER, dtype=np.int64)
        return np.where(count == 0, NEVER, values[ordered[at]])


def _source_addresses(plan: PacketPlan, network: Network) -> pa.DictionaryArray:
    hosts = [network.host(client) for client in plan.clients]
    addresses = [address for host in hosts for address in (host.ip, host.ip6)]
    return _names(addresses, 2 * plan.flows.client.astype(np.int64) + (plan.flows.ip_version == 6))


def _names(names: Sequence[str], row: NDArray[Any], unknown: Bools | None = None) -> pa.DictionaryArray:
    indices = pa.array(row.astype(np.int32), mask=unknown)
    return pa.DictionaryArray.from_arrays(indices, pa.array(names, pa.string()))


def _unless_never(t_ns: Ints) -> pa.Array:
    return pa.array(t_ns, mask=t_ns == NEVER)


def _table(columns: dict[str, Any], schema: pa.Schema) -> pa.Table:
    """Return a table of that schema; texts stay dictionaries."""
    arrays = [pa.array(columns[field.name]) for field in schema]
    arrays = [a if pa.types.is_dictionary(a.type) else a.cast(f.type) for a, f in zip(arrays, schema, strict=True)]
    fields = [pa.field(f.name, a.type, f.nullable) for a, f in zip(arrays, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))
