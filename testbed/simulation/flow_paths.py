"""Which links between switches each flow takes: to the balancer, and from there to every switch with nodes.

If several paths are equally short, a switch selects one by a hash of the 5-tuple.  It is the hash of Open vSwitch with
the basis of that switch (`scenario.routing.path_basis`), so both engines select the same path for a flow.

A layer contains the hops at one distance from the balancer: for each place and flow the link that it takes there, or
`NO_LINK`.  The place is the switch at the far end of the leg; towards the balancer there is only one.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from testbed.records.events import Ints
from testbed.scenario.network import Link, Network
from testbed.scenario.routing import path_basis, routes_of
from testbed.simulation.switch import flow_hash
from testbed.traffic.plan import PacketPlan

NO_LINK = -1


class FlowPaths:
    """The links of every flow.

    Attributes:
        links: the links that layers speak of, one entry a direction.
        to_balancer: layers in the order in which packets pass them, each [1, f].
        to_homes: likewise behind the balancer, each [h, f].
        home: row of the switch each node hangs on, [n].
        row: of each direction of a link in `links`.

    Args:
        plan: the packets.
        network: the network.
        seed: decides which of several ways a flow takes.
        unused: directions of links that are down and no longer used (`routing.unused_when_down`).
    """

    def __init__(self, plan: PacketPlan, network: Network, seed: int, unused: Collection[tuple[str, str]] = ()) -> None:
        self._plan, self._network, self._seed, self._unused = plan, network, seed, unused
        self._routes = routes_of(network)
        self.row = {pair: row for row, pair in enumerate(pair for link in network.trunks for pair in link.directions)}
        self.links: tuple[Link, ...] = tuple(link for link in network.trunks for _ in link.directions)
        homes = list(dict.fromkeys(network.switch_of(node.name) for node in network.nodes))
        self.home: Ints = np.array([homes.index(network.switch_of(node.name)) for node in network.nodes])
        self.to_balancer = self._layers_to_balancer()
        self.to_homes = self._layers_to_homes(homes)

    def _layers_to_balancer(self) -> list[Ints]:
        network, target = self._network, self._network.switch
        starts = [network.switch_of(client) for client in self._plan.clients]
        depth = max((self._routes.hops[start, target] for start in starts), default=0)
        layers = [np.full((1, len(self._plan.flows)), NO_LINK, dtype=np.int64) for _ in range(depth)]
        for number, start in enumerate(starts):
            flows = np.flatnonzero(self._plan.flows.client == number)
            for hop, (chosen, links) in enumerate(self._walk(start, target, flows)):
                layers[depth - self._routes.hops[start, target] + hop][0, chosen] = links
        return layers

    def _layers_to_homes(self, homes: list[str]) -> list[Ints]:
        start = self._network.switch
        depth = max(self._routes.hops[start, home] for home in homes)
        layers = [np.full((len(homes), len(self._plan.flows)), NO_LINK, dtype=np.int64) for _ in range(depth)]
        for place, home in enumerate(homes):
            every = np.arange(len(self._plan.flows))
            for hop, (chosen, links) in enumerate(self._walk(start, home, every)):
                layers[hop][place, chosen] = links
        return layers

    def _walk(self, start: str, target: str, flows: Ints) -> list[tuple[Ints, Ints]]:
        """Return of every hop the flows and the links they take, from one switch to another."""
        hops, at = [], {start: flows}
        while at.keys() != {target}:
            taken, ahead = list[tuple[Ints, int]](), dict[str, list[Ints]]()
            for here, present in at.items():
                nexts = self._routes.next_hops[here, target]
                for near, chosen in zip(nexts, self._divided(here, present, nexts), strict=True):
                    taken.append((chosen, self.row[here, near]))
                    ahead.setdefault(near, []).append(chosen)
            hops.append(_columns(taken))
            at = {here: np.concatenate(parts) for here, parts in ahead.items()}
        return hops

    def _divided(self, switch: str, flows: Ints, nexts: Sequence[str]) -> list[Ints]:
        """Return the flows that go to each of the next switches."""
        ways = len(nexts)
        if ways == 1:
            return [flows]
        plan, basis = self._plan, path_basis(self._network, switch, self._seed)
        hashed = flow_hash(plan.flows, plan.clients, self._network, basis)[flows] % np.uint32(ways)
        chosen = self._instead(switch, nexts)[hashed]
        return [flows[chosen == way] for way in range(ways)]

    def _instead(self, switch: str, nexts: Sequence[str]) -> Ints:
        """Return which way is taken in place of each: itself, or the next in order that is up."""
        up = [(switch, near) not in self._unused for near in nexts]
        turns = ([(way + k) % len(nexts) for k in range(len(nexts))] for way in range(len(nexts)))
        taken: Ints = np.array([next((way for way in turn if up[way]), turn[0]) for turn in turns], dtype=np.int64)
        return taken


def first_cut(layers: Sequence[Ints], cut: Collection[int]) -> Ints:
    """Return of each place and flow the first link on its way that is one of `cut`, or `NO_LINK`."""
    found: Ints = np.full(layers[0].shape if layers else (1, 1), NO_LINK, dtype=np.int64)
    for layer in reversed(layers):
        found = np.where(np.isin(layer, list(cut)), layer, found)
    return found


def _columns(taken: list[tuple[Ints, int]]) -> tuple[Ints, Ints]:
    flows = np.concatenate([chosen for chosen, _ in taken])
    return flows, np.concatenate([np.full(len(chosen), link, dtype=np.int64) for chosen, link in taken])
