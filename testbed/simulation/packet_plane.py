"""The data plane of virtual time, packet by packet: plan → switch → queues → sinks, for all nodes at once.

Time is that of the buffers: a packet counts when it reaches its node.  Nothing happens between two calls; `advance`
catches up, so the caller advances to every instant at which a limit, a slot or a reading matters.  In between limits
and slots stand still, which is what lets `queues` do without a loop.
"""

from __future__ import annotations

import numpy as np

from testbed.events import Ints, TrafficSampled
from testbed.results.evidence import ClientEvidence, NodeEvidence
from testbed.simulation.delays import DelayCounts
from testbed.simulation.meter import Meter
from testbed.simulation.network_model import NetworkModel, service_rates_bps, way_of
from testbed.simulation.queues import Arrivals, QueueBank
from testbed.simulation.switch import Switch, flow_hash
from testbed.spec.topology import Network, bucket_bytes
from testbed.traffic.plan import PacketPlan
from testbed.units import NS_PER_MS

LONGEST_STEP_NS = 100 * NS_PER_MS
_BLOCK_PKTS = 1 << 20


class PacketPlane:
    """Clients, switch, buffers and sinks.

    Args:
        network: who there is.
        plan: what is sent.
        limit_bytes: first limits, shape [n].
        slots: first slot table, rows of nodes, int64.
        affinity_idle_ns, hash_basis: of the switch.
        model: delays.

    Attributes:
        queues: the buffers; their limits may be set at any time the plane has been advanced to.
        switch: slots and pins, likewise.
        behind_switch_ns: how long a packet takes from the switch to its buffer.
    """

    def __init__(
        self,
        network: Network,
        plan: PacketPlan,
        limit_bytes: Ints,
        slots: Ints,
        *,
        affinity_idle_ns: int,
        hash_basis: int,
        model: NetworkModel,
    ) -> None:
        self._nodes = tuple(node.name for node in network.nodes)
        rates = service_rates_bps(network)
        depths = np.array([bucket_bytes(rate) for rate in rates.tolist()], dtype=np.int64)
        self.queues = QueueBank(rates, depths, limit_bytes)
        hashes = flow_hash(plan.flows, plan.clients, network, hash_basis)
        self.switch = Switch(hashes, slots, len(self._nodes), affinity_idle_ns)
        self._meter = Meter(self._nodes)
        self._delays = DelayCounts(len(self._nodes))
        self._plan = plan
        way = way_of(network, model)
        self.behind_switch_ns = way.to_buffer_ns
        self._way_ns = sum(way)
        self._whole_way_ns = self._way_ns + model.node_ns
        self._step_ns = min(LONGEST_STEP_NS, self.queues.longest_step_ns)
        self._next, self._end = 0, len(plan)

    def advance(self, until_ns: int) -> None:
        """Let everything happen up to and including `until_ns`."""
        while self.queues.now_ns < until_ns:
            self._step(min(until_ns, self.queues.now_ns + self._step_ns))

    def stop_sending(self) -> None:
        """Send nothing that has not reached its buffer yet."""
        self._end = self._next

    def empty_ns(self) -> int:
        """Return when the last packet of the plan has been served, given that all of them have arrived."""
        return self.queues.now_ns + self.queues.empty_after_ns()

    def arrived_by_ns(self, sent_ns: int) -> int:
        """Return when a packet sent at `sent_ns` is at its buffer."""
        return sent_ns + self._way_ns

    def read(self, rows: slice, interval_ns: int) -> TrafficSampled:
        """Return what the nodes of `rows` saw since they were read last, and their state now."""
        queues = self.queues
        return self._meter.read(rows, queues.now_ns, interval_ns, queues.backlog_bytes(), queues.limit_bytes)

    def delivered_bytes(self, rows: slice) -> Ints:
        """Return what has been served since the start, a byte in service not counted."""
        passed = self._meter.arrived_bytes[rows] - self._meter.dropped_bytes[rows]
        served: Ints = passed - self.queues.backlog_bytes()[rows]
        return served

    def _step(self, until_ns: int) -> None:
        plan, begin = self._plan, self._next
        end = min(self._end, int(np.searchsorted(plan.t_ns, until_ns - self._way_ns, side="right")))
        if begin >= end:
            self.queues.idle_until(until_ns)
            return
        self._next = end
        t_ns = plan.t_ns[begin:end] + self._way_ns
        node, new_flows = self.switch.route(plan.flow[begin:end], t_ns)
        arrivals = Arrivals.grouped(t_ns, plan.size_bytes[begin:end].astype(np.int64), node, len(self._nodes))
        waiting_ns, admitted = self.queues.serve(arrivals, until_ns)
        self._meter.count(arrivals, admitted)
        if len(new_flows):
            self._meter.count_new_flows(new_flows)
        passed = slice(None) if admitted is None else admitted
        self._delays.add(arrivals.node[passed], waiting_ns[passed] + self._whole_way_ns)

    def client_evidence(self) -> tuple[ClientEvidence, ...]:
        """Return what each client has sent."""
        plan, count = self._plan, len(self._plan.clients)
        pkts, amounts = np.zeros((2, count), dtype=np.int64)
        for begin in range(0, self._next, _BLOCK_PKTS):
            block = slice(begin, min(begin + _BLOCK_PKTS, self._next))
            client = plan.flows.client[plan.flow[block]]
            pkts += np.bincount(client, minlength=count)
            amounts += np.bincount(client, weights=plan.size_bytes[block], minlength=count).astype(np.int64)
        return tuple(
            ClientEvidence(name, planned_pkts=sent, sent_pkts=sent, sent_bytes=amount)
            for name, sent, amount in zip(plan.clients, pkts.tolist(), amounts.tolist(), strict=True)
        )

    def node_evidence(self) -> tuple[NodeEvidence, ...]:
        """Return what each node counted, once everything is served."""
        return tuple(self._one_node(row, name) for row, name in enumerate(self._nodes))

    def _one_node(self, row: int, name: str) -> NodeEvidence:
        meter = self._meter
        arrived_pkts, arrived_bytes = int(meter.arrived_pkts[row]), int(meter.arrived_bytes[row])
        dropped_pkts, dropped_bytes = int(meter.dropped_pkts[row]), int(meter.dropped_bytes[row])
        return NodeEvidence(
            node=name,
            arrived_pkts=arrived_pkts,
            arrived_bytes=arrived_bytes,
            dropped_pkts=dropped_pkts,
            dropped_bytes=dropped_bytes,
            delivered_pkts=arrived_pkts - dropped_pkts,
            delivered_bytes=arrived_bytes - dropped_bytes,
            delay=self._delays.histogram(row),
        )
