"""`link_down`, and `flap` once a period: the link between switch and node is cut, then the node's end goes down.

The fault is in force when the switch sees its port down.  When it ends, the link comes up, and the addresses that were
lost with it are restored (`failing_link`).
"""

from __future__ import annotations

import socket
from collections.abc import Sequence

from pyroute2 import IPRoute

from testbed.emulation.faults.act import FaultAct, FaultContext, see
from testbed.emulation.faults.failing_link import FailingLink
from testbed.emulation.inventory.difference import Difference
from testbed.emulation.inventory.switch_stock import SWITCH
from testbed.scenario.fault import FaultSpec
from testbed.scenario.network import Network
from testbed.traffic.numbers import Words

_CARRIER_LOST = ("DOWN", "LOWERLAYERDOWN")
_LINK_STATE = {
    "state", "flags", "operstate", "carrier", "carrier_changes", "carrier_up_count", "carrier_down_count",
    "af_spec.af_inet6.flags",
}  # fmt: skip
_GOES_WITH_A_LINK = {"address", "route", "neighbour"}


class Act(FaultAct):
    """Takes links down and up; it counts on them from its making on."""

    def __init__(self, context: FaultContext, specs: Sequence[FaultSpec]) -> None:
        """See `FaultAct`."""
        super().__init__(context, specs)
        self._netlink = IPRoute()
        failing = sorted({spec.node for spec in specs})
        self._links = {node: FailingLink(context.network, context.buffers, node) for node in failing}

    def begin(self, spec: FaultSpec) -> None:
        """See `FaultAct.begin`."""
        self._links[spec.node].down()
        see(f"taking {spec.link} down", lambda: self._port_state(spec.node) in _CARRIER_LOST)

    def end(self, spec: FaultSpec) -> None:
        """See `FaultAct.end`."""
        self._links[spec.node].up()
        see(f"taking {spec.link} up", lambda: self._port_state(spec.node) == "UP")
        self._links[spec.node].restore()

    def lost_packets(self, node: str) -> int:
        """See `FaultAct.lost_packets`; 0 for a link that no fault takes down."""
        return self._links[node].lost_pkts() if node in self._links else 0

    def swallowed(self) -> dict[str, Words]:
        """See `FaultAct.swallowed`."""
        return {node: link.swallowed() for node, link in self._links.items()}

    def swallowed_frames(self) -> int:
        """See `FaultAct.swallowed_frames`."""
        return sum(link.swallowed_frames() for link in self._links.values())

    @staticmethod
    def covers(found: Difference, spec: FaultSpec, network: Network) -> bool:
        """Return whether it is the state of one of the link's ends, or goes with it."""
        node = spec.node
        ends = {(node, network.data_interface(node)), (SWITCH, network.switch_port(node))}
        if (found.namespace, found.interface) not in ends:
            return False
        return found.kind in {*_GOES_WITH_A_LINK, "port"} or (found.kind == "link" and found.what in _LINK_STATE)

    def _port_state(self, node: str) -> str:
        """Return how the switch's end of the node's link is."""
        index = socket.if_nametoindex(self.context.network.network.switch_port(node))
        state: str = self._netlink.get_links(index)[0].get_attr("IFLA_OPERSTATE")
        return state
