"""Deflection: a full node hands a packet to its sibling instead of dropping it, as ``bpf/node.bpf.c`` does.

A packet that finds its node full is marked and returns to the switch, which sends it to the sibling that was named last
to this node.  There it arrives like any packet, later by the time through the switch.  If the sibling is full too, the
packet is dropped: a packet is handed over only once.

What a node receives depends on what another node refuses, which depends on what arrived there before.  So the nodes
cannot be computed separately.  While all packets of a step fit, the step is computed with arrays.  If one does not fit,
the step is computed for all nodes together, packet by packet in the order of time.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from testbed.records.events import Ints
from testbed.simulation.queues import Arrivals, Bools, QueueBank, Served, backlog_bytes
from testbed.simulation.switch import METER_IDLE_NS
from testbed.traffic.plan import PacketPlan

NOBODY = -1

Lost = tuple[Ints, Ints]  # nodes, and rows in the plan


@dataclass(frozen=True, slots=True, eq=False)
class Packets:
    """Packets on their way into buffers, in the order of time; every array has shape [p].

    Attributes:
        t_ns: when each is at its buffer.
        size_bytes, node: its length, and the row of the buffer.
        number: its row in the plan.
        handed: which come from a sibling; None where none do.
    """

    t_ns: Ints
    size_bytes: Ints
    node: Ints
    number: Ints
    handed: Bools | None = None

    def __len__(self) -> int:
        return len(self.t_ns)

    def only(self, chosen: Bools) -> Packets:
        """Return those that are chosen."""
        handed = None if self.handed is None else self.handed[chosen]
        return Packets(self.t_ns[chosen], self.size_bytes[chosen], self.node[chosen], self.number[chosen], handed)


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """What became of the packets of a step.

    Attributes:
        packets: those that arrived, the ones handed over within the step among them.
        arrivals: the same, grouped by node.
        served: in the order of `arrivals`; what was handed on counts as admitted nowhere.
        handed_on: packets that were handed on, as positions in `arrivals`.
    """

    packets: Packets
    arrivals: Arrivals
    served: Served
    handed_on: Ints


class Deflection:
    """Siblings of n nodes, and the packets between two of them.

    Attributes:
        sibling: to which row each node hands packets, `NOBODY` where to none.
    """

    def __init__(self, nodes: int, plan: PacketPlan, turn_ns: int) -> None:
        """Begin without siblings; `turn_ns` is the way from a node to its sibling."""
        self.sibling = [NOBODY] * nodes
        self._plan, self._turn_ns = plan, turn_ns
        self._between: list[tuple[int, int, int]] = []  # heap of (arrival, number, node)
        self._met_ns: dict[tuple[int, int], int] = {}  # (node, flow) → when the flow's last handed packet came there

    @property
    def under_way(self) -> bool:
        """Return whether packets are on their way between two nodes."""
        return bool(self._between)

    def joined(self, packets: Packets, until_ns: int) -> Packets:
        """Return the packets of a step with those that were handed over before it and arrive in it."""
        due: list[tuple[int, int, int]] = []
        while self._between and self._between[0][0] <= until_ns:
            due.append(heapq.heappop(self._between))
        if not due:
            return packets
        t_ns, number, node = np.array(due, dtype=np.int64).T
        handed = np.concatenate((np.zeros(len(packets), dtype=bool), np.ones(len(due), dtype=bool)))
        columns = (packets.t_ns, t_ns), (packets.size_bytes, self._plan.size_bytes[number]), (packets.node, node)
        t_ns, size_bytes, node = (np.concatenate(pair) for pair in columns)
        number = np.concatenate((packets.number, number))
        order = np.argsort(t_ns, kind="stable")
        return Packets(t_ns[order], size_bytes[order], node[order], number[order], handed[order])

    def new_flows(self, packets: Packets) -> Ints:
        """Return the nodes of handed packets whose flow they have not met for long, one entry a flow."""
        if packets.handed is None:
            return packets.node[:0]
        rows = np.flatnonzero(packets.handed)
        new = []
        columns = (packets.t_ns[rows], packets.node[rows], self._plan.flow[packets.number[rows]])
        for t_ns, node, flow in zip(*(column.tolist() for column in columns), strict=True):
            if t_ns - self._met_ns.get((node, flow), -METER_IDLE_NS - 1) > METER_IDLE_NS:
                new.append(node)
            self._met_ns[node, flow] = t_ns
        return np.array(new, dtype=np.int64)

    def serve(self, bank: QueueBank, packets: Packets, until_ns: int, dead: Bools) -> tuple[Step, Lost]:
        """Serve a step; return what became of its packets, and those that a dead node was handed within it."""
        arrivals = Arrivals.grouped(packets.t_ns, packets.size_bytes, packets.node, len(self.sibling))
        if bank.takes_all(arrivals):
            none = arrivals.order[:0]
            return Step(packets, arrivals, bank.serve(arrivals, until_ns), none), (none, none)
        return self._serve_together(bank, packets, until_ns, dead)

    def _serve_together(self, bank: QueueBank, packets: Packets, until_ns: int, dead: Bools) -> tuple[Step, Lost]:
        queues, gone, lost = bank.one_by_one(), dead.tolist(), []
        arrived, fates = [], []
        for t_ns, number, node, size, handed in self._in_order(packets, until_ns):
            if gone[node]:
                lost.append((node, number))  # the others were taken out before
                continue
            found, waiting_ns = queues[node].offer(t_ns, size)
            sibling = self.sibling[node]
            goes_on = waiting_ns is None and not handed and sibling != NOBODY
            if goes_on:
                heapq.heappush(self._between, (t_ns + self._turn_ns, number, sibling))
            arrived.append((t_ns, size, node, number, handed))
            fates.append((found, waiting_ns or 0, waiting_ns is not None, goes_on))
        bank.put_back(queues, until_ns)
        handed_to, numbers = np.array(lost, dtype=np.int64).reshape(-1, 2).T
        return self._grouped(arrived, fates), (handed_to, numbers)

    def _in_order(self, packets: Packets, until_ns: int) -> Iterator[tuple[int, int, int, int, bool]]:
        """Yield (time, number, node, size, handed) of a step, with those handed over as it goes."""
        handed = np.zeros(len(packets), dtype=bool) if packets.handed is None else packets.handed
        columns = (packets.t_ns, packets.number, packets.node, packets.size_bytes, handed)
        for packet in zip(*(column.tolist() for column in columns), strict=True):
            yield from self._handed_by(packet[0])
            yield packet
        yield from self._handed_by(until_ns)

    def _handed_by(self, until_ns: int) -> Iterator[tuple[int, int, int, int, bool]]:
        while self._between and self._between[0][0] <= until_ns:
            t_ns, number, node = heapq.heappop(self._between)
            yield t_ns, number, node, int(self._plan.size_bytes[number]), True

    def _grouped(
        self, arrived: list[tuple[int, int, int, int, bool]], fates: list[tuple[int, int, bool, bool]]
    ) -> Step:
        t_ns, size_bytes, node, number, handed = np.array(arrived, dtype=np.int64).T
        packets = Packets(t_ns, size_bytes, node, number, handed.astype(bool))
        arrivals = Arrivals.grouped(t_ns, size_bytes, node, len(self.sibling))
        found, waiting_ns, admitted, goes_on = np.array(fates, dtype=np.int64).T[:, arrivals.order]
        served = Served(backlog_bytes(found), waiting_ns, admitted.astype(bool))
        return Step(packets, arrivals, served, np.flatnonzero(goes_on))
