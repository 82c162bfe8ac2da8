"""The data plane of virtual time, packet by packet: plan → switch → queues → sinks, for all nodes at once.

Time is that of the buffers: a packet counts when it reaches its node.  Nothing happens between two calls of `advance`,
which processes all packets up to a time.  So the caller advances to every time at which a limit, a slot or a fault
changes or the plane is read.  Between these times all of them are constant, so `queues` needs no loop.

At the end, every packet that was sent is delivered, dropped by a buffer, lost to a fault (on a link that is down, at a
node that has crashed, or in the discarded queue of such a node), or in flight: still in a queue.
"""

from __future__ import annotations

import numpy as np

from testbed.records.events import Ints, TrafficSampled
from testbed.records.evidence import ClientEvidence, NodeEvidence, RegionEvidence, TrunkEvidence
from testbed.scenario.model import Scenario
from testbed.scenario.network import Network, bucket_bytes
from testbed.simulation import compiled
from testbed.simulation.client_counts import sent_by_clients
from testbed.simulation.deflection import Deflection, Packets, Step
from testbed.simulation.delays import DelayCounts
from testbed.simulation.deliveries import Deliveries
from testbed.simulation.fault_loss_counters import FaultLossCounters
from testbed.simulation.forwarding import Way
from testbed.simulation.journeys import NOBODY
from testbed.simulation.link_loss import LinkLoss
from testbed.simulation.meter import Meter
from testbed.simulation.network_model import NetworkModel, service_rates_bps
from testbed.simulation.node_counts import node_evidence, passed_bytes
from testbed.simulation.packet_trace import PacketTrace
from testbed.simulation.queues import Arrivals, QueueBank
from testbed.simulation.region_counts import RegionCounts
from testbed.simulation.trunk_cuts import TrunkCuts
from testbed.traffic.fault_losses import FlowRows
from testbed.traffic.packet_times import PacketTimes
from testbed.traffic.plan import PacketPlan
from testbed.units import NS_PER_MS

LONGEST_STEP_NS = 100 * NS_PER_MS
_ALL = slice(None)
_STEP_PKTS = 1 << 17  # more of them than this one step need not serve: a request to stop waits for a step


class PacketPlane:
    """Clients, switch, buffers and sinks.

    Args:
        scenario: says what the buffers and the switch do, and whether anything fails.
        network: who there is.
        plan: what is sent.
        limit_bytes: first limits, shape [n].
        way: the network in front of the buffers.
        model: delays.
        trace: notes when each packet is seen, if given.
        cuts: links between switches that may be down.

    Attributes:
        queues: the buffers; their limits may be set at any time the plane has been advanced to.
        switch: slots and pins, likewise.
        deflection: siblings, likewise; None where full nodes drop.
        behind_switch_ns: how long a packet takes from the switch to its buffer.
        losses: links that lose packets at random, by row, likewise.
        fault_losses: what faults have cost so far; None where the scenario has none.
    """

    def __init__(
        self,
        scenario: Scenario,
        network: Network,
        plan: PacketPlan,
        limit_bytes: Ints,
        way: Way,
        model: NetworkModel,
        trace: PacketTrace | None = None,
        cuts: TrunkCuts | None = None,
    ) -> None:
        self._nodes = tuple(node.name for node in network.nodes)
        count = len(self._nodes)
        rates = service_rates_bps(network)
        depths = np.array([bucket_bytes(rate) for rate in rates.tolist()], dtype=np.int64)
        self.queues = QueueBank(rates, depths, limit_bytes)
        self.switch = way.switches[0]
        deflecting = scenario.buffer.deflect
        self.deflection = Deflection(count, plan, model.switch_ns) if deflecting else None
        self._ecn_bytes = scenario.buffer.ecn_threshold_bytes
        self._meter, self._delays = Meter(self._nodes), DelayCounts(count)
        self._regions = RegionCounts(network, plan) if network.sites else None
        self._trace, self._cuts = trace, cuts
        by_flow = scenario.unsteady and not network.sites
        self._deliveries = Deliveries(self._nodes, plan, by_flow=by_flow, trace=trace)
        self.losses: dict[int, LinkLoss] = {}
        self._crashed, self._cut = np.zeros((2, count), dtype=bool)
        self._dead = False  # whether any node is one or the other
        self.fault_losses = FaultLossCounters(count, plan) if scenario.unsteady else None
        self._first_limit_bytes, self._plan, self._way = limit_bytes.copy(), plan, way
        self.behind_switch_ns = way.behind_switch_ns
        self._node_ns = model.node_ns
        self._step_ns = min(LONGEST_STEP_NS, self.queues.longest_step_ns, self._way.longest_step_ns)
        self._next, self._end = 0, len(plan)
        self._alike = self._way.alike and self.deflection is None
        self._compiled = self._compiled_plane()

    def advance(self, until_ns: int) -> None:
        """Let everything happen up to and including `until_ns`."""
        while self.queues.now_ns < until_ns:
            self._step(until_ns if self._nothing_comes() else min(until_ns, self.queues.now_ns + self._step_ns))

    def is_far(self, t_ns: int) -> bool:
        """Return whether more than a step lies between now and `t_ns`."""
        return t_ns > self._step_ends_ns()

    def advance_a_step(self, until_ns: int) -> None:
        """Let happen what one step may hold, and nothing after `until_ns`."""
        self.advance(min(until_ns, self._step_ends_ns()))

    def stop_sending(self) -> None:
        """Send nothing that has not reached its buffer yet."""
        self._end = self._next

    def empty_ns(self) -> int:
        """Return when the last packet that has been sent is served, given that all of them have arrived."""
        late_ns = self._way.longest_ns if self._way.under_way else 0
        return self.queues.now_ns + late_ns + self.queues.empty_after_ns()

    def arrived_by_ns(self, sent_ns: int) -> int:
        """Return when a packet sent at `sent_ns` is at its buffer at the latest."""
        return sent_ns + self._way.longest_ns

    def read(self, rows: slice, interval_ns: int) -> tuple[TrafficSampled, Ints]:
        """Return what the nodes of `rows` saw since they were read last, and their state now.

        Returns:
            The sample, and the bytes that have been served since the start, a byte in service not counted.
        """
        queues = self.queues
        if self._compiled is not None:
            *seen, served = self._compiled.read(rows, queues.now_ns)
            return self._meter.sample(rows, interval_ns, seen), served
        backlog_bytes = queues.backlog_bytes()
        served = passed_bytes(self._meter, self.fault_losses)[rows] - backlog_bytes[rows]
        return self._meter.read(rows, queues.now_ns, interval_ns, backlog_bytes, queues.limit_bytes), served

    def looks(self, rows: slice = _ALL) -> dict[str, tuple[int, int, int]]:
        """Return the packets and bytes that came to each node since the start, and the bytes that wait there."""
        meter = self._meter
        columns = (meter.arrived_pkts, meter.arrived_bytes, self.queues.backlog_bytes())
        seen = zip(*(column[rows].tolist() for column in columns), strict=True)
        return dict(zip(self._nodes[rows], seen, strict=True))

    def set_limit(self, rows: slice | Ints, limit_bytes: Ints) -> None:
        """Set the limits of the buffers of `rows`."""
        self.queues.set_limit(rows, limit_bytes)

    def deflected(self, rows: slice) -> tuple[Ints, Ints]:
        """Return the bytes and packets handed to siblings since the start."""
        return self._meter.deflected_bytes[rows].copy(), self._meter.deflected_pkts[rows].copy()

    # --------------------------------------------------------------------------------------------------- the faults

    def crash(self, row: int) -> None:
        """Let a node take in nothing any more, and throw away what waits there."""
        self._crashed[row] = self._dead = True
        self.queues.clear(row)
        assert self.fault_losses is not None
        self._deliver()
        self.fault_losses.discard(row, self._deliveries.discard(row))

    def restart(self, row: int) -> None:
        """Let a crashed node take packets in again, with an empty queue and the limit it began with."""
        self._crashed[row] = False
        self._dead = bool((self._crashed | self._cut).any())
        self.queues.set_limit(slice(row, row + 1), self._first_limit_bytes[row : row + 1])
        self._meter.forget(row, self.queues.now_ns)

    def has_crashed(self, row: int) -> bool:
        """Tell whether a node has crashed and was not restarted since."""
        return bool(self._crashed[row])

    def set_link(self, row: int, *, down: bool) -> None:
        """Let nothing cross the link of a node, or everything again; the switch does not know of it yet."""
        self._cut[row] = down
        self._dead = bool((self._crashed | self._cut).any())

    def flows(self) -> dict[str, FlowRows]:
        """Return what every sink has seen of each flow, by node; only where the scenario has faults."""
        self._deliver()
        return self._deliveries.flows()

    def begin_epoch(self, number: int) -> None:
        """Let flows note the first sequence number that is delivered from now on, under that epoch."""
        self._deliver()
        self._deliveries.epoch = number

    def _deliver(self) -> None:
        node, delay_ns, number = self._deliveries.deliver(self.queues.now_ns)
        self._delays.add(node, delay_ns)
        if self._regions is not None:
            self._regions.add(node, delay_ns, number)

    # ------------------------------------------------------------------------------------------------------ a step

    def _step_ends_ns(self) -> int:
        """Return until when a step may last, by time and by packets."""
        now_ns, last = self.queues.now_ns, self._next + _STEP_PKTS - 1
        if last >= self._end:
            return now_ns + self._step_ns
        least_ns = int(self._plan.t_ns[last]) + self._way.shortest_ns
        return min(now_ns + self._step_ns, max(least_ns, now_ns + 1))

    def _nothing_comes(self) -> bool:
        deflecting = self.deflection is not None and self.deflection.under_way
        return self._next >= self._end and not self._way.under_way and not deflecting

    def _compiled_plane(self) -> compiled.CompiledPlane | None:
        """Return the parts as the library sees them, None without it; it does not say which packets it drops."""
        if self._trace is not None:
            return None
        plan, losses, way_ns = self._plan, self.fault_losses, self._way.shortest_ns
        others = {
            **{"sent_ns": plan.t_ns, "flow": plan.flow, "size_bytes": plan.size_bytes},
            **{"nodes": len(self._nodes), "way_ns": way_ns, "node_ns": self._node_ns},
            "discarded_bytes": None if losses is None else losses.discarded_bytes,
            "ecn_bytes": -1 if self._ecn_bytes is None else self._ecn_bytes,
        }
        return compiled.of_parts(
            {**self.switch.state(), **self._meter.state(), **others}, self.queues, self._deliveries
        )

    def _step(self, until_ns: int) -> None:
        left = self._compiled.take(self._next, self._end, until_ns) if self._compiled and self._plain else None
        if left is None:
            self._step_by_arrays(until_ns)
        else:
            self._next = left
        if self._deliveries.worth_it:
            self._deliver()

    @property
    def _plain(self) -> bool:
        """Return whether a compiled step may be the next one."""
        whole = not self._dead and not (self._cuts and self._cuts.any)
        return self._alike and whole and not any(link.active for link in self.losses.values())

    def _step_by_arrays(self, until_ns: int) -> None:
        packets = self._spared(self._arriving(until_ns))
        if not len(packets):
            self.queues.idle_until(until_ns)
            return
        if self.deflection is None:
            arrivals = Arrivals.grouped(packets.t_ns, packets.size_bytes, packets.node, len(self._nodes))
            step = Step(packets, arrivals, self.queues.serve(arrivals, until_ns), arrivals.order[:0])
        else:
            step, lost = self.deflection.serve(self.queues, packets, until_ns, self._crashed | self._cut)
            self._swallow(*lost)
        self._count(step)
        self._take_in(step)
        if self._trace is not None:
            self._trace.arrive(step)

    def _arriving(self, until_ns: int) -> Packets:
        """Return the packets that reach a buffer by then, dead or not."""
        plan, begin = self._plan, self._next
        sent_ns = until_ns - self._way.shortest_ns
        end = self._next = min(self._end, int(np.searchsorted(plan.t_ns, sent_ns, side="right")))
        sent = slice(begin, end)
        unplaced = np.full(end - begin, NOBODY, dtype=np.int64)
        packets = Packets(plan.t_ns[sent], plan.size_bytes[sent].astype(np.int64), unplaced, np.arange(begin, end))
        packets, new_flows = self._way.bring(packets, until_ns)
        if len(new_flows):
            self._meter.count_new_flows(new_flows)
        return packets if self.deflection is None else self.deflection.joined(packets, until_ns)

    def _spared(self, packets: Packets) -> Packets:
        """Return the packets that no fault keeps from arriving, and count the others."""
        dead, lossy = self._crashed | self._cut, [row for row, link in self.losses.items() if link.active]
        if not dead.any() and not lossy:
            return packets
        assert self.fault_losses is not None
        lost = dead[packets.node]
        self._swallow(packets.node[lost], packets.number[lost])
        for row in lossy:
            met = np.flatnonzero((packets.node == row) & ~lost)
            lost[met] = drawn = self.losses[row].draw(len(met))
            self.fault_losses.draw(row, int(drawn.sum()))
            if self._trace is not None:
                self._trace.lose(row, packets.number[met[drawn]])
        return packets.only(~lost)

    def _swallow(self, node: Ints, number: Ints) -> None:
        if len(node) and self.fault_losses is not None:
            self.fault_losses.swallow(node, number, self._cut)
            if self._trace is not None:
                self._trace.lose(node, number)

    def _count(self, step: Step) -> None:
        arrivals, served, meter = step.arrivals, step.served, self._meter
        on = step.handed_on
        dropped = None if served.admitted is None else ~served.admitted
        if dropped is not None:
            dropped[on] = False
        meter.count(arrivals, dropped)
        if self.deflection is not None and step.packets.handed is not None:
            handed = step.packets.handed
            meter.count_handed(arrivals.node[on], arrivals.size_bytes[on], step.packets.node[handed])
            meter.count_new_flows(self.deflection.new_flows(step.packets))
        if self._ecn_bytes is not None:
            marked = served.found_bytes > self._ecn_bytes
            meter.count_marked(arrivals.node[marked if served.admitted is None else marked & served.admitted])

    def _take_in(self, step: Step) -> None:
        """Let the admitted packets be delivered when their time comes."""
        arrivals, served = step.arrivals, step.served
        passed = slice(None) if served.admitted is None else served.admitted
        node, waiting_ns = arrivals.node[passed], served.waiting_ns[passed]
        number = step.packets.number[arrivals.order[passed]]
        served_ns = arrivals.t_ns[passed] + waiting_ns
        self._deliveries.admit(served_ns, node, number, served_ns + self._node_ns - self._plan.t_ns[number])

    def trunk_evidence(self) -> tuple[TrunkEvidence, ...]:
        """Return what the links between switches lost so far."""
        return self._way.trunk_evidence()

    def client_evidence(self) -> tuple[ClientEvidence, ...]:
        """Return what each client has sent, but for what is on its way when a run is stopped."""
        return sent_by_clients(self._plan, self._next, self._way.under_way_rows())

    def node_evidence(self) -> tuple[NodeEvidence, ...]:
        """Return what each node counted so far; what waits there now is in flight."""
        self._deliver()
        deflects, marks = self.deflection is not None, self._ecn_bytes is not None
        parts = self._nodes, self._meter, self.fault_losses, self._delays, self._deliveries.waiting()
        return node_evidence(*parts, deflects=deflects, marks=marks)

    def region_evidence(self) -> tuple[RegionEvidence, ...]:
        """Return what became of the packets of each region so far; nothing without sites."""
        self._deliver()
        return () if self._regions is None else self._regions.evidence(self._next)

    def packet_times(self) -> PacketTimes | None:
        """Return when each packet was seen; None where nobody asked."""
        self._deliver()
        under_way = self._way.under_way_rows()
        return None if self._trace is None else self._trace.times(self._next, under_way)
