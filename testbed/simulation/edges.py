"""The edges of all regions: flow → slot → site, and pins that keep a flow at its site.

An edge does with sites what the switch of a balancer does with nodes.  So all edges are one `Switch` over pairs of
region and site, in which the slots of a region are a part of the table.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from testbed.policies.placement import SLOTS
from testbed.records.events import Ints
from testbed.simulation.switch import Switch, Words
from testbed.traffic.plan import Int32s


class Edges:
    """The tables of r regions over as many sites.

    Args:
        hashes: of the flows, uint32 [f].
        region: of each flow, int64 [f].
        tables: site of each slot, for each region.
        idle_ns: a flow that was silent for so long is assigned again.
    """

    def __init__(self, hashes: Words, region: Ints, tables: list[Ints], idle_ns: int) -> None:
        self._count = len(tables)
        self._region = region
        every = np.concatenate([table + row * self._count for row, table in enumerate(tables)])
        slot = region * SLOTS + (hashes % np.uint32(SLOTS)).astype(np.int64)
        self._switch = Switch(hashes, every, self._count**2, idle_ns, slot_of_flow=slot)
        self._table = every

    def route(self, flow: Int32s, t_ns: Ints) -> Ints:
        """Return the site of each packet; packets are in the order of time."""
        pair, _ = self._switch.route(flow, t_ns)
        return pair % self._count

    def set_sites(self, region: int, table: Ints, lost: NDArray[np.bool_]) -> None:
        """Reassign the slots of a region, and let flows move from sites that are lost to it."""
        first = region * self._count
        self._table[region * SLOTS : (region + 1) * SLOTS] = table + first
        self._switch.set_slots(self._table)
        for site, gone in enumerate(lost.tolist()):
            change = self._switch.remove if gone else self._switch.restore
            change(first + site)
