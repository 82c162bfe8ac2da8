"""`partition`: mesh messages between the groups are lost; messages to the balancer arrive.

A permanent neighbour entry with a wrong address discards the messages; the sender gets no error.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable

from pyroute2 import IPRoute

from testbed.emulation.faults.act import FaultAct
from testbed.emulation.inventory.difference import Difference
from testbed.emulation.network.mininet import mesh_ip
from testbed.errors import ToolError
from testbed.scenario.fault import FaultSpec
from testbed.scenario.network import Host, Network
from testbed.system import kernel

_NOWHERE_MAC = "02:ff:ff:ff:ff:ff"
_NUD_PERMANENT = 0x80


class Act(FaultAct):
    """Points the neighbour entries across the groups nowhere, and back to where they belong."""

    def begin(self, spec: FaultSpec) -> None:
        """See `FaultAct.begin`."""
        self._divide(spec, apart=True)

    def end(self, spec: FaultSpec) -> None:
        """See `FaultAct.end`."""
        self._divide(spec, apart=False)

    @staticmethod
    def covers(found: Difference, spec: FaultSpec, network: Network) -> bool:
        """Return whether it is a neighbour entry of a member on the mesh."""
        ends = {(node, "neighbour", network.mesh_interface(node)) for group in spec.groups for node in group}
        return (found.namespace, found.kind, found.interface) in ends

    def _divide(self, spec: FaultSpec, *, apart: bool) -> None:
        described = self.context.network.network
        for group in spec.groups:
            others = [described.host(node) for other in spec.groups if other is not group for node in other]
            for node in group:
                with kernel.network_of(self.context.network.pid(node)), IPRoute() as netlink:
                    index = socket.if_nametoindex(described.mesh_interface(node))
                    self._point(netlink, index, others, apart=apart)
                    wrong = _not_as_commanded(netlink, index, others, apart=apart)
                if wrong:
                    raise ToolError("dividing the mesh", f"the state between {node} and {wrong[0]} is not as commanded")

    def _point(self, netlink: IPRoute, index: int, peers: Iterable[Host], *, apart: bool) -> None:
        for peer in peers:
            mac = _NOWHERE_MAC if apart else self.context.network.mesh_mac(peer)
            entry = {"dst": mesh_ip(peer), "lladdr": mac, "ifindex": index, "state": _NUD_PERMANENT}
            netlink.neigh("replace", **entry)


def _not_as_commanded(netlink: IPRoute, index: int, peers: Iterable[Host], *, apart: bool) -> list[str]:
    known = {n.get_attr("NDA_DST"): n.get_attr("NDA_LLADDR") for n in netlink.get_neighbours(ifindex=index)}
    return [peer.name for peer in peers if (known.get(mesh_ip(peer)) == _NOWHERE_MAC) != apart]
