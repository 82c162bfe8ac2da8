"""`link_down` of a link between switches, and `flap` once a period: cut in both directions, then without a carrier.

Either end is a port of a switch.  What a switch gives to a port that is administratively down is an error to it, and
counted by nobody; so both ends stay up.  They become *dormant*, an operational state (RFC 2863) in which the kernel
reports no running link: the switch sees its port down, reports it, and its fast-failover groups change over.  An end
whose switch has no other way stays in operation (`routing.unused_when_down`), or the switch would drop the packets
where nothing counts them.  A packet that is given to the link goes nowhere and is noted (``bpf/link``).  What was given
before the cut arrives.

Source: Linux, Documentation/networking/operstates.rst.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence

import numpy as np
from pyroute2 import IPRoute

from testbed.emulation.dataplane.link_meter import LinkMeter
from testbed.emulation.faults.act import FaultAct, FaultContext, Measured, see
from testbed.emulation.inventory.difference import Difference
from testbed.emulation.inventory.switch_stock import SWITCH
from testbed.scenario.fault import FaultSpec
from testbed.scenario.network import Link, Network
from testbed.scenario.routing import routes_of, unused_when_down
from testbed.traffic.numbers import Words

_DOWN, _UP = (1, "DORMANT"), (0, "UP")  # link mode and operational state
_LINK_STATE = {"state", "flags", "operstate", "linkmode"}


class _CutLink:
    """A link between switches with a meter at either end; it counts from its making on, which is before traffic."""

    def __init__(self, context: FaultContext, link: Link) -> None:
        network, buffers = context.network.network, context.buffers
        self.ends = {ends: network.interface(*ends) for ends in link.directions}
        self._meters = [LinkMeter(end, buffers.run_id, buffers.numbers) for end in self.ends.values()]

    def cut(self, cut: bool) -> None:
        for meter in self._meters:
            meter.cut(cut)

    def lost_pkts(self) -> int:
        return sum(meter.cut_planned_pkts() for meter in self._meters)

    def frames(self) -> int:
        return sum(meter.cut_pkts() for meter in self._meters)

    def swallowed(self) -> Words:
        words: Words = np.bitwise_or.reduce([meter.swallowed() for meter in self._meters])
        return words


class Act(FaultAct):
    """Takes links between switches down and up."""

    def __init__(self, context: FaultContext, specs: Sequence[FaultSpec]) -> None:
        """See `FaultAct`."""
        super().__init__(context, specs)
        self._network = network = context.network.network
        self._routes, self._netlink = routes_of(network), IPRoute()
        self._links = {trunk.name: _CutLink(context, trunk) for trunk in {network.trunk(s.place) for s in specs}}
        self._down: list[str] = []  # in the order in which they went down
        self._lost_before: dict[str, int] = {}

    def begin(self, spec: FaultSpec) -> None:
        """See `FaultAct.begin`."""
        name = self._network.trunk(spec.place).name
        self._lost_before[name] = self._links[name].lost_pkts()
        self._links[name].cut(True)
        self._down.append(name)
        self._set_states(f"taking {spec.link} down")

    def end(self, spec: FaultSpec) -> Measured:
        """See `FaultAct.end`."""
        name = self._network.trunk(spec.place).name
        self._down.remove(name)
        self._links[name].cut(False)
        self._set_states(f"taking {spec.link} up")
        return {"lost_pkts": self._links[name].lost_pkts() - self._lost_before.pop(name)}

    def _set_states(self, attempted: str) -> None:
        """Let every end have the state that it is to have now, and see that it does."""
        unused = unused_when_down(self._network, self._routes, self._down)
        states = {
            end: _DOWN if ends in unused else _UP for link in self._links.values() for ends, end in link.ends.items()
        }
        for end, (mode, state) in states.items():
            if self._state(end) != state:
                self._netlink.link("set", index=socket.if_nametoindex(end), linkmode=mode, operstate=state)
        see(attempted, lambda: all(self._state(end) == state for end, (_, state) in states.items()))

    def _state(self, end: str) -> str:
        state: str = self._netlink.get_links(socket.if_nametoindex(end))[0].get_attr("IFLA_OPERSTATE")
        return state

    def cut_off(self) -> dict[str, Words]:
        """See `FaultAct.cut_off`."""
        return {name: link.swallowed() for name, link in self._links.items()}

    def cut_pkts(self) -> dict[str, int]:
        """See `FaultAct.cut_pkts`."""
        return {name: link.lost_pkts() for name, link in self._links.items()}

    def swallowed_frames(self) -> int:
        """See `FaultAct.swallowed_frames`."""
        return sum(link.frames() for link in self._links.values())

    @staticmethod
    def covers(found: Difference, spec: FaultSpec, network: Network) -> bool:
        """Return whether it is the state of one of the link's ends."""
        ends = {network.interface(*ends) for ends in network.trunk(spec.place).directions}
        if found.namespace != SWITCH or found.interface not in ends:
            return False
        return found.kind == "port" or (found.kind == "link" and found.what in _LINK_STATE)
