"""Links between switches that are down in virtual time: which packets are lost there, and which ways flows take then.

A link loses packets from the moment of the fault on; the switches notice it somewhat later (`NetworkModel.port_ns`) and
use their other ways, where they have any (`routing.unused_when_down`).  A packet is lost if its way has a link that is
down when the packet begins a leg of it, to the balancer or from there: what is on its way passes on.
"""

from __future__ import annotations

import numpy as np

from testbed.records.events import Ints
from testbed.scenario.network import Network
from testbed.scenario.routing import routes_of, unused_when_down
from testbed.simulation.deflection import Packets
from testbed.simulation.flow_paths import NO_LINK, FlowPaths, first_cut
from testbed.simulation.packet_trace import PacketTrace
from testbed.traffic.packet_times import NOWHERE
from testbed.traffic.plan import PacketPlan


class TrunkCuts:
    """The links that are down; none at first.

    Attributes:
        network: as given.
        paths: the ways of all flows.
        lost_pkts: what each link has lost so far, by name.
    """

    def __init__(self, plan: PacketPlan, network: Network, seed: int, trace: PacketTrace | None) -> None:
        self._plan, self.network, self._seed, self._trace = plan, network, seed, trace
        self._down: list[str] = []  # in the order in which they went down
        self.paths = FlowPaths(plan, network, seed)
        self.lost_pkts = {link.name: 0 for link in network.trunks}
        self._tables: tuple[Ints, Ints] | None = None

    @property
    def any(self) -> bool:
        """Return whether any link is down, or flows still take other ways."""
        return self._tables is not None

    def set_down(self, name: str, *, down: bool) -> None:
        """Let a link lose all packets, or none."""
        if down:
            self._down.append(name)
        else:
            self._down.remove(name)
        self._look()

    def reroute(self) -> None:
        """Let the switches see which links are down."""
        unused = unused_when_down(self.network, routes_of(self.network), self._down)
        self.paths = FlowPaths(self._plan, self.network, self._seed, unused)
        self._look()

    def spared(self, packets: Packets, *, behind: bool) -> Packets:
        """Return the packets that no link on their leg, before or behind the balancer, loses; count the others."""
        if self._tables is None:
            return packets
        table, flow = self._tables[behind], self._plan.flow[packets.number]
        row = self.paths.home[packets.node] if behind else np.zeros(len(packets), dtype=np.int64)
        link = table[row, flow] if table.shape[1] > 1 else np.broadcast_to(table[0], len(packets))
        for lost in np.unique(link[link != NO_LINK]).tolist():
            self.lost_pkts[self.paths.links[lost].name] += int((link == lost).sum())
        if self._trace is not None:
            self._trace.lose(NOWHERE, packets.number[link != NO_LINK])
        return packets.only(link == NO_LINK)

    def _look(self) -> None:
        cut = {self.paths.row[pair] for name in self._down for pair in self.network.trunk(name).directions}
        legs = (self.paths.to_balancer, self.paths.to_homes)
        self._tables = (first_cut(legs[0], cut), first_cut(legs[1], cut)) if cut else None
