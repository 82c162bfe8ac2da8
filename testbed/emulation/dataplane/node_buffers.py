"""The buffers of a trial's nodes: the XDP program at the ingress of each node, the queue and the sink behind it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Collection

import numpy as np

from testbed.emulation.dataplane.times_map import TimesMap
from testbed.emulation.dataplane.xdp import NodeProgram, PassProgram, SinkProgram, XdpMode
from testbed.emulation.dataplane.xdp_stage import slots_for
from testbed.emulation.network import offloads, shaping
from testbed.emulation.network.mininet import EmulatedNetwork
from testbed.engine import TrialPlan
from testbed.errors import MachineError, ToolError
from testbed.policies.brain import NodeBrain
from testbed.records.events import Ints
from testbed.scenario.network import bucket_bytes
from testbed.scenario.routing import longest_delay_ns, routes_of
from testbed.system import kernel
from testbed.traffic.frames import PLANNED_DSCP
from testbed.traffic.numbers import PacketNumbers
from testbed.units import NS_PER_S

PLANNED_CLASS, OTHER_CLASS = 1, 0  # traffic classes of the node's program: whatever is not planned is counted apart


class NodeBuffers:
    """Loads and attaches everything on construction, before the agents are forked.

    Attributes:
        programs, sinks, qdiscs: of every node, by its name.
        xdp_modes: how the program of every node is attached.
        numbers: of the packets that the programs know one by one.
        times: when each of them was seen; None where nobody asked.
        limit_bytes: the limits the nodes start with, int64 [n], in the order of the network.

    Raises:
        MachineError: a program cannot be loaded or attached.
    """

    def __init__(
        self,
        plan: TrialPlan,
        network: EmulatedNetwork,
        doing: Callable[[str], None] = lambda _: None,
        afxdp: Collection[str] = (),
    ) -> None:
        """Load everything; `doing` is called with each node, `afxdp` are the switch's ports with a program already."""
        self._plan, self._network, self._afxdp = plan, network, afxdp
        self.numbers = PacketNumbers.of_plan(plan.packets)
        self.times = TimesMap(self.numbers.total) if plan.scenario.record_packets else None
        self.programs: dict[str, NodeProgram] = {}
        self.sinks: dict[str, SinkProgram] = {}
        self.qdiscs: dict[str, shaping.QdiscReader] = {}
        self.xdp_modes: dict[str, XdpMode] = {}
        self.limit_bytes = self._first_limits()
        for node, limit_bytes in zip(plan.network.nodes, self.limit_bytes.tolist(), strict=True):
            doing(f"loading the programs of {node.name}")
            self._load_node(node.name, plan.network.node_rate_bps(node.name), limit_bytes)

    def _first_limits(self) -> Ints:
        nodes = self._plan.network.nodes
        names = tuple(node.name for node in nodes)
        rates = np.array([self._plan.network.node_rate_bps(name) for name in names], dtype=np.int64)
        brain = NodeBrain(names, self._plan.scenario.buffer, rates, self._plan.make_forecaster(names, rates))
        return brain.initial_limit_bytes()

    @property
    def run_id(self) -> int:
        """Return the mark of the packets that are planned."""
        return self._plan.run_id

    def behind_pkts(self, node: str) -> int:
        """Return how many planned packets the node's program has let in and its sink has not seen."""
        planned = self.programs[node].class_meters()[PLANNED_CLASS]
        handed = int(self.programs[node].deflected_by_class()[0][PLANNED_CLASS])
        admitted = int(planned["arrived_pkts"]) - int(planned["dropped_pkts"]) - handed
        return admitted - self.sinks[node].snapshot().delivered_pkts

    def crashed_pkts(self, node: str) -> int:
        """Return how many planned packets came to the node while it had crashed."""
        return int(self.programs[node].crashed_pkts()[PLANNED_CLASS])

    @property
    def _slots(self) -> int:
        """Return for how long the programs keep the worst packets: the run, and as long as its queues may drain."""
        return slots_for(self._plan.scenario.duration_ns + self._plan.longest_drain_ns + 5 * NS_PER_S)

    def _way_delay_ns(self, node: str) -> int:
        """Return the delay of the links from a client to the node; of clients that differ, the largest."""
        network = self._plan.network
        routes = routes_of(network)
        return max(longest_delay_ns(network, routes, client.name, node) for client in network.clients)

    def begin(self, t0_ns: int) -> None:
        """Tell the programs when the run begins."""
        for program in self.programs.values():
            program.begin(t0_ns)
        for sink in self.sinks.values():
            sink.begin(t0_ns)

    def discard_queue(self, node: str) -> int:
        """Throw away what waits in the queue of a node whose program lets nothing in; return how many packets."""
        before = self.qdiscs[node].read()
        with kernel.network_of(self._network.pid(node)):
            shaping.discard_queue(self._egress(node))
        self.programs[node].forget_queue()
        after = self.qdiscs[node].read()
        if after.backlog_pkts:
            raise ToolError(f"emptying the queue of {node}", f"{after.backlog_pkts} packets are still in it")
        return after.dropped_pkts - before.dropped_pkts

    def renew_queue(self, node: str) -> None:
        """Give a node whose queue was discarded the queue and the limit it began with."""
        with kernel.network_of(self._network.pid(node)):
            shaping.renew_queue(self._egress(node))
        self.restore_limit(node)

    def restore_limit(self, node: str) -> None:
        """Give a node whose agent restarts its initial limit."""
        names = [host.name for host in self._plan.network.nodes]
        self.programs[node].set_limit(int(self.limit_bytes[names.index(node)]))

    def _egress(self, node: str) -> str:
        network = self._plan.network
        return network.interface(node, network.next_hop(node))

    def _load_node(self, node: str, rate_bps: int, limit_bytes: int) -> None:
        plan, network = self._plan, self._plan.network
        backend = network.next_hop(node)
        egress = network.interface(node, backend)
        program = self._program_of(node, rate_bps, limit_bytes)
        sink = SinkProgram(plan.run_id, self.numbers, slots=self._slots, times=self.times, log_directory=plan.logs)
        with kernel.network_of(self._network.pid(node)):
            shaping.shape(egress, rate_bps, 2 * plan.scenario.buffer.max_bytes)
            self.qdiscs[node] = shaping.QdiscReader(egress)
            ingress = network.data_interface(node)
            self.xdp_modes[node] = program.attach(socket.if_nametoindex(ingress))
            offloads.switch_gro_off(ingress)
        with kernel.network_of(self._network.pid(backend)):
            sink.attach(socket.if_nametoindex(network.interface(backend, node)))
        self.programs[node], self.sinks[node] = program, sink
        if plan.scenario.buffer.deflect and network.switch_port(node) not in self._afxdp:
            self._take_back(network.switch_port(node))

    def _program_of(self, node: str, rate_bps: int, limit_bytes: int) -> NodeProgram:
        host, scenario = self._plan.network.host(node), self._plan.scenario
        program = NodeProgram(
            rate_bps,
            bucket_bytes(rate_bps),
            limit_bytes,
            number=host.number,
            mac=host.mac,
            local_addresses=(host.ip, host.ip6),
            run=self._plan.run_id,
            numbers=self.numbers,
            slots=self._slots,
            way_delay_ns=self._way_delay_ns(node),
            times=self.times,
            log_directory=self._plan.logs,
        )
        program.set_ecn_threshold(scenario.buffer.ecn_threshold_bytes or 0)
        program.set_classes({PLANNED_DSCP: PLANNED_CLASS})
        return program

    def _take_back(self, port: str) -> None:
        """Make the switch's end of a node's link take frames the node's program sends back.

        Raises:
            MachineError: it cannot, so that every deflected packet would be lost.
        """
        with PassProgram(self._plan.logs) as program:
            if program.attach(socket.if_nametoindex(port)) != "native":
                happened = f"{port} does not support native XDP ({program.native_refusal})"
                raise MachineError("buffer.deflect", happened, "set buffer.deflect to false")
        offloads.switch_gro_off(port)
