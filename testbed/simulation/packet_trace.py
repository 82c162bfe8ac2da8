"""When each packet was seen in virtual time, for a run that records its packets (`traffic.packet_times`)."""

from __future__ import annotations

import numpy as np

from testbed.records.events import Ints
from testbed.simulation.deflection import Step
from testbed.traffic.packet_times import NEVER, NOWHERE, PacketTimes
from testbed.traffic.plan import PacketPlan


class PacketTrace:
    """Notes of each packet of a plan what the parts of the plane say; `number` is its row in the plan."""

    def __init__(self, plan: PacketPlan) -> None:
        """Begin with nothing seen."""
        self._sent_ns = plan.t_ns
        self._arrived_ns, self._delivered_ns = np.full((2, len(plan)), NEVER, dtype=np.int64)
        self._node = np.full(len(plan), NOWHERE, dtype=np.int64)
        self._buffer, self._link, self._fault = np.zeros((3, len(plan)), dtype=bool)

    def arrive(self, step: Step) -> None:
        """Note a step; of a packet that is handed on, its arrival at the sibling counts."""
        arrivals, stays = step.arrivals, np.ones(len(step.arrivals.node), dtype=bool)
        stays[step.handed_on] = False
        number = step.packets.number[arrivals.order]
        self._arrived_ns[number[stays]], self._node[number[stays]] = arrivals.t_ns[stays], arrivals.node[stays]
        if step.served.admitted is not None:
            self._buffer[number[stays & ~step.served.admitted]] = True

    def deliver(self, number: Ints, delay_ns: Ints) -> None:
        """Note packets at the sinks."""
        self._delivered_ns[number] = self._sent_ns[number] + delay_ns

    def lose(self, node: Ints | int, number: Ints) -> None:
        """Note packets that a fault kept from a node, or on a link (`NOWHERE`)."""
        self._node[number], self._fault[number] = node, True

    def refuse(self, number: Ints) -> None:
        """Note packets that found the queue of a link between switches full."""
        self._link[number] = True

    def times(self, sent: int, under_way: Ints) -> PacketTimes:
        """Return the times of all, given that the first `sent` were sent, but for those under way when traffic ended.

        What is under way counts as not sent, as in `client_counts`.
        """
        sent_ns = np.where(np.arange(len(self._sent_ns)) < sent, self._sent_ns, NEVER)
        sent_ns[under_way] = NEVER
        return PacketTimes.of(
            sent_ns,
            self._arrived_ns,
            self._delivered_ns,
            self._node,
            buffer=self._buffer,
            link=self._link,
            fault=self._fault,
        )
