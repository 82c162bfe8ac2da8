"""When each planned packet was seen, from the stamps of the senders and the map of the programs (`times_map`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.emulation.processes.sender import SendReport
from testbed.records.events import Ints
from testbed.traffic.fates import Fates
from testbed.traffic.numbers import Bools, PacketNumbers, Words
from testbed.traffic.packet_times import NEVER, NOWHERE, PacketTimes
from testbed.traffic.plan import PacketPlan


def packet_times(
    plan: PacketPlan,
    senders: Iterable[Mapping[str, Any]],
    times: NDArray[np.void],
    fates: Fates,
    node_numbers: Mapping[str, int],
    t0_ns: int,
) -> PacketTimes:
    """Return when each packet of the plan was seen, in its order.

    Args:
        plan: the packets.
        senders: what each sender reports.
        times: the map, as read.
        fates: what the programs say became of the packets.
        node_numbers: of every node, in the order of the network.
        t0_ns: the start of the run, CLOCK_MONOTONIC.
    """
    numbers = fates.numbers
    row = numbers.of(plan.flow, plan.seq)
    seen = times[row]

    def ends(sets: Mapping[str, Words]) -> Bools:
        none = np.zeros(numbers.words, dtype=np.uint64)
        return numbers.members(np.bitwise_or.reduce([none, *sets.values()]))[row]

    arrived_ns = _since(seen["arrived_ns"], t0_ns)
    return PacketTimes.of(
        _sent_ns(plan, senders, t0_ns),
        arrived_ns,
        _since(seen["delivered_ns"], t0_ns),
        _nodes(numbers, fates, list(node_numbers), _rows_of(seen["node"], node_numbers, arrived_ns), row),
        buffer=ends(fates.dropped),
        link=np.zeros(len(plan), dtype=bool),
        fault=ends(fates.cut) | ends(fates.drawn) | ends(fates.swallowed),
    )


def _since(t_ns: NDArray[np.uint64], t0_ns: int) -> Ints:
    since: Ints = t_ns.astype(np.int64) - t0_ns
    since[t_ns == 0] = NEVER
    return since


def _rows_of(number: NDArray[np.uint64], node_numbers: Mapping[str, int], arrived_ns: Ints) -> Ints:
    rows: Ints = np.full(max(node_numbers.values()) + 1, NOWHERE, dtype=np.int64)
    rows[list(node_numbers.values())] = np.arange(len(node_numbers))
    found: Ints = rows[number.astype(np.int64)]
    found[arrived_ns == NEVER] = NOWHERE
    return found


def _nodes(numbers: PacketNumbers, fates: Fates, names: list[str], arrived: Ints, row: Ints) -> Ints:
    """Return the node of each packet: where it arrived, else the one that a fault kept it from."""
    node: Ints = arrived.copy()
    for place, name in enumerate(names):
        kept = numbers.members(fates.drawn[name] | fates.swallowed[name])[row]
        node[kept & (arrived == NOWHERE)] = place
    return node


def _sent_ns(plan: PacketPlan, senders: Iterable[Mapping[str, Any]], t0_ns: int) -> Ints:
    sent_ns: Ints = np.full(len(plan), NEVER, dtype=np.int64)
    for record in senders:
        report: SendReport = record["report"]
        rows = plan.rows_of_client(record["client"])
        taken = np.unpackbits(np.frombuffer(report.sent, np.uint8), count=len(rows), bitorder="little") > 0
        sent_ns[rows[taken]] = report.stamps_ns[taken] - t0_ns
    return sent_ns
