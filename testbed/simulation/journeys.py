"""The path of packets from clients to the balancer's decision, and from there to the buffers, over any switches.

    sent ─ leg to the balancer ─▶ node chosen ─ leg to the buffers ─▶ arrives

A leg is a chain of stages.  Each stage adds the delay of the hops up to its queues.  These are the queues of links
between switches that have a rate; they are modelled like the buffer of a node (`queues`), and packets that do not fit
are dropped.  Towards the balancer the number of remaining hops decreases, away from it the number of hops increases
(`flow_paths`).  So all links at one distance form one stage, a stage only feeds later stages, and each stage can be
computed for a whole step, one after the other.

Paths of different length change the order of packets.  So packets that leave a stage after the end of the step wait
there.

The balancer has its own clock, which is `behind_switch_ns` behind that of the buffers: the shortest time from its
decision to a buffer.  So its decisions are computed early enough for every buffer, with the state that is in force at
that time (`control`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from testbed.records.events import Ints
from testbed.records.evidence import TrunkEvidence
from testbed.scenario.network import Link, Network, bucket_bytes
from testbed.simulation.deflection import Packets
from testbed.simulation.flow_paths import NO_LINK
from testbed.simulation.network_model import NetworkModel, access_delay_ns
from testbed.simulation.packet_trace import PacketTrace
from testbed.simulation.queues import Arrivals, QueueBank
from testbed.simulation.trunk_cuts import TrunkCuts
from testbed.traffic.plan import PacketPlan
from testbed.units import NS_PER_S

NOBODY = -1  # node of a packet that has not met the balancer
_NONE = np.zeros(0, dtype=np.int64)
_ANY_NS = 2**62
_NO_TIME = np.zeros((1, 1), dtype=np.int64)

Columns = NDArray[np.signedinteger]


class Stage:
    """Hops up to a place where packets may wait.

    Args:
        flow: of each packet of the plan.
        place: of each node; None before the balancer, where there is one place.
        ahead_ns: time of the hops, of each place and flow; one row or column stands for all.
    """

    def __init__(self, flow: Columns, place: Ints | None, ahead_ns: Ints) -> None:
        self._flow, self._place = flow, place
        self._ahead_ns = _compact(ahead_ns)
        self._waiting = Packets(_NONE, _NONE, _NONE, _NONE)
        self.shortest_ns = int(ahead_ns.min()) if ahead_ns.size else 0
        self.longest_ns = int(ahead_ns.max(initial=0))
        self.longest_step_ns = _ANY_NS

    def lead(self, ahead_ns: Ints) -> None:
        """Let the hops of packets that come from now on take other times; see `__init__`."""
        self._ahead_ns = _compact(ahead_ns)

    @property
    def under_way(self) -> bool:
        """Return whether packets are in it."""
        return len(self._waiting) > 0

    @property
    def waiting_rows(self) -> Ints:
        """Return the rows in the plan of the packets in it."""
        return self._waiting.number

    def serve(self, packets: Packets, until_ns: int) -> Packets:
        """Take packets in; return those that are through by then, in the order of time."""
        moved = replace(packets, t_ns=packets.t_ns + self._of(self._ahead_ns, packets))
        if not self.under_way and self._ahead_ns.size == 1 and _in_time(moved.t_ns, until_ns):
            return moved
        together = in_order(self._waiting, moved)
        due = together.t_ns <= until_ns
        self._waiting = together.only(~due)
        return together.only(due)

    def _of(self, table: Ints, packets: Packets) -> Ints:
        """Return the entry of each packet."""
        rows, columns = table.shape
        row = 0 if rows == 1 or self._place is None else self._place[packets.node]
        found: Ints = table[row, self._flow[packets.number] if columns > 1 else 0]
        return found


class QueueStage(Stage):
    """A stage that ends in the queues of links.

    Args:
        flow, place, ahead_ns: as of `Stage`.
        taken: of each place and flow the link it takes here, `NO_LINK` for none.
        links: all links.
    """

    trace: PacketTrace | None = None  # notes what is dropped

    def __init__(self, flow: Columns, place: Ints | None, ahead_ns: Ints, taken: Ints, links: Sequence[Link]) -> None:
        super().__init__(flow, place, ahead_ns)
        here = _limited(taken, links)
        row_of = np.full(len(links) + 1, NO_LINK, dtype=np.int64)  # the last one is that of `NO_LINK`
        row_of[here] = np.arange(len(here))
        self._taken, self.links = row_of[taken], [links[row] for row in here]
        rates = np.array([link.rate_bps for link in self.links], dtype=np.int64)
        depths = np.array([bucket_bytes(rate) for rate in rates.tolist()], dtype=np.int64)
        queues = np.array([link.queue_bytes for link in self.links], dtype=np.int64)
        self._bank = QueueBank(rates, depths, queues)
        self.longest_step_ns = self._bank.longest_step_ns
        self.longest_ns += int((queues * 8 * NS_PER_S // rates).max())
        self.dropped_pkts = np.zeros(len(here), dtype=np.int64)

    def serve(self, packets: Packets, until_ns: int) -> Packets:
        """See `Stage.serve`; what comes out may be of a later time than `until_ns`, and in no order."""
        if until_ns <= self._bank.now_ns:  # before the first packet
            return super().serve(packets, -_ANY_NS)
        ready = super().serve(packets, until_ns)
        link = np.broadcast_to(self._of(self._taken, ready), len(ready))
        queued = np.flatnonzero(link != NO_LINK)
        if not len(queued):
            self._bank.idle_until(until_ns)
            return ready
        return self._queue(ready, queued, link, until_ns)

    def _queue(self, ready: Packets, queued: Ints, link: Ints, until_ns: int) -> Packets:
        arrivals = Arrivals.grouped(ready.t_ns[queued], ready.size_bytes[queued], link[queued], len(self.links))
        served = self._bank.serve(arrivals, until_ns)
        rows, kept = queued[arrivals.order], np.ones(len(ready), dtype=bool)
        t_ns = ready.t_ns.copy()
        t_ns[rows] += served.waiting_ns
        if served.admitted is not None:
            kept[rows[~served.admitted]] = False
            self.dropped_pkts += np.bincount(arrivals.node[~served.admitted], minlength=len(self.links))
            if self.trace is not None:
                self.trace.refuse(ready.number[~kept])
        return replace(ready, t_ns=t_ns).only(kept)


class Journeys:
    """Packets between their clients and the buffers.

    Attributes:
        behind_switch_ns: the least time from the balancer's decision to a buffer.
        shortest_ns, longest_ns: from a client to a buffer, at least and at most.
        longest_step_ns: how much time one step may cover.
    """

    def __init__(
        self,
        plan: PacketPlan,
        network: Network,
        model: NetworkModel,
        path_seed: int,
        trace: PacketTrace | None = None,
        *,
        cut: bool = False,
    ) -> None:
        self.cuts = TrunkCuts(plan, network, path_seed, trace)
        paths, flow = self.cuts.paths, plan.flow
        clients = np.array([access_delay_ns(network, client) for client in plan.clients], dtype=np.int64)
        nodes = np.array([[access_delay_ns(network, node.name)] for node in network.nodes], dtype=np.int64)
        first = model.switch_ns + (clients[:1] if len(set(clients.tolist())) == 1 else clients[plan.flows.client])[None]
        self._hops, self._first_ns, self._cut = _Hops(paths.links, model.hop_ns), first, cut
        hops = self._hops
        before, rest = hops.stages(flow, None, first, paths.to_balancer)
        self._before = (*before, Stage(flow, None, rest))
        behind, rest = hops.stages(flow, paths.home, _NO_TIME, paths.to_homes)
        self._behind = (*behind, Stage(flow, paths.home, rest), Stage(flow, np.arange(len(nodes)), nodes))
        self._trunks = network.trunks
        for stage in (*before, *behind):
            stage.trace = trace
        if cut:
            hops.widen(self._before[-1], first, paths.to_balancer)
            hops.widen(self._behind[-2], _NO_TIME, paths.to_homes)
        every = (*self._before, *self._behind)
        self.behind_switch_ns = sum(stage.shortest_ns for stage in self._behind)
        self.shortest_ns = sum(stage.shortest_ns for stage in every)
        self.longest_ns = sum(stage.longest_ns for stage in every)
        self.longest_step_ns = min(stage.longest_step_ns for stage in every)

    def reroute(self) -> None:
        """Let the switches see which links between them are down (`cuts`); packets under way keep their times."""
        self.cuts.reroute()
        self._before[-1].lead(self._hops.time(self._first_ns, self.cuts.paths.to_balancer))
        self._behind[-2].lead(self._hops.time(_NO_TIME, self.cuts.paths.to_homes))

    @property
    def alike(self) -> bool:
        """Return whether all packets take `shortest_ns`, and so none waits anywhere on its way."""
        return self.shortest_ns == self.longest_ns

    @property
    def under_way(self) -> bool:
        """Return whether packets are on their way."""
        return any(stage.under_way for stage in (*self._before, *self._behind))

    def under_way_rows(self) -> Ints:
        """Return the rows in the plan of those packets."""
        return np.concatenate([stage.waiting_rows for stage in (*self._before, *self._behind)])

    def to_balancer(self, packets: Packets, until_ns: int) -> Packets:
        """Process packets at the times they are sent; return those that meet the balancer in time for `until_ns`.

        Times returned, and `until_ns`, are those of the buffers: `behind_switch_ns` later than at the balancer.
        """
        packets = self.cuts.spared(packets, behind=False)
        for stage in self._before:
            packets = stage.serve(packets, until_ns - self.behind_switch_ns)
        return replace(packets, t_ns=packets.t_ns + self.behind_switch_ns)

    def to_buffers(self, packets: Packets, until_ns: int) -> Packets:
        """Process packets whose node has been chosen; return those that are at their buffers by then."""
        packets = replace(packets, t_ns=packets.t_ns - self.behind_switch_ns)
        packets = self.cuts.spared(packets, behind=True)
        for stage in self._behind:
            packets = stage.serve(packets, until_ns)
        return packets

    def trunk_evidence(self) -> tuple[TrunkEvidence, ...]:
        """Return what each link between switches dropped."""
        counts = dict.fromkeys((link.name for link in self._trunks), 0)
        for stage in chain(self._before, self._behind):
            if isinstance(stage, QueueStage):
                for link, count in zip(stage.links, stage.dropped_pkts.tolist(), strict=True):
                    counts[link.name] += count
        lost = self.cuts.lost_pkts
        return tuple(
            TrunkEvidence(
                link.name, 0, counts[link.name] if link.rate_bps else None, lost[link.name] if self._cut else None
            )
            for link in self._trunks
        )


class _Hops:
    """Makes stages out of layers of hops."""

    def __init__(self, links: Sequence[Link], hop_ns: int) -> None:
        self._links = links
        self._hop_ns = np.array([*(hop_ns + link.delay_ns for link in links), 0], dtype=np.int64)

    def stages(
        self, flow: Columns, place: Ints | None, first_ns: Ints, layers: Sequence[Ints]
    ) -> tuple[list[QueueStage], Ints]:
        """Return the stages with queues, and the time behind the last one."""
        made, ahead_ns = [], first_ns
        for layer in layers:
            if _limited(layer, self._links):
                made.append(QueueStage(flow, place, ahead_ns, layer, self._links))
                ahead_ns = _NO_TIME
            ahead_ns = ahead_ns + self._hop_ns[layer]
        return made, ahead_ns

    def time(self, first_ns: Ints, layers: Sequence[Ints]) -> Ints:
        """Return the time of all hops of layers without queues."""
        total: Ints = sum((self._hop_ns[layer] for layer in layers), first_ns)
        return total

    def widen(self, stage: Stage, first_ns: Ints, layers: Sequence[Ints]) -> None:
        """Let a stage be as short and as long as it may become on other links, as many hops on."""
        hops_ns = self._hop_ns[:-1]
        least = (0 if (layer == NO_LINK).any() else int(hops_ns.min()) for layer in layers)
        stage.shortest_ns = min(stage.shortest_ns, int(first_ns.min()) + sum(least))
        stage.longest_ns = max(stage.longest_ns, int(first_ns.max()) + len(layers) * int(hops_ns.max(initial=0)))


def _compact(ahead_ns: Ints) -> Ints:
    """Return one entry in place of a table of equal ones."""
    alike = ahead_ns.size > 0 and bool((ahead_ns == ahead_ns.flat[0]).all())
    compact: Ints = ahead_ns[:1, :1] if alike else ahead_ns
    return compact


def _limited(layer: Ints, links: Sequence[Link]) -> list[int]:
    """Return the links of a layer that have a rate."""
    return [row for row in np.unique(layer).tolist() if row != NO_LINK and links[row].rate_bps]


def _in_time(t_ns: Ints, until_ns: int) -> bool:
    """Return whether times ascend, none of them later than `until_ns`: those behind queues of several links may not."""
    return not len(t_ns) or bool(t_ns[-1] <= until_ns and (t_ns[1:] >= t_ns[:-1]).all())


def in_order(*parts: Packets) -> Packets:
    """Return packets in the order of time."""
    columns = zip(*((part.t_ns, part.size_bytes, part.node, part.number) for part in parts), strict=True)
    t_ns, size_bytes, node, number = (np.concatenate(column) for column in columns)
    order = np.argsort(t_ns, kind="stable")
    return Packets(t_ns[order], size_bytes[order], node[order], number[order])
