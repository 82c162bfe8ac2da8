"""Counts packets at every place where a packet can be; the result of the trial is `Evidence`.

The counters of the kernel start when an interface is created, and set-up sends a few packets (neighbour discovery,
probes of the controller).  So the difference between the end and the time just before the start is used.

Our own programs distinguish planned packets from others; the kernel and the switch count frames of any traffic.
`testbed.results.accounting` says what follows from both.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from testbed.emulation.dataplane.link_drops import LinkDrops
from testbed.emulation.dataplane.node_buffers import OTHER_CLASS, PLANNED_CLASS, NodeBuffers
from testbed.emulation.dataplane.packet_ends import fates_of
from testbed.emulation.dataplane.packet_times import packet_times
from testbed.emulation.dataplane.xdp import NodeProgram
from testbed.emulation.dataplane.xdp_meter import SinkCounters
from testbed.emulation.faults.faults import Faults
from testbed.emulation.network.mininet import EmulatedNetwork
from testbed.emulation.network.open_vswitch import OpenVSwitch
from testbed.emulation.network.switch_counts import SwitchCounts
from testbed.emulation.processes.sender import SendReport
from testbed.records.engines import EMULATION
from testbed.records.evidence import ClientEvidence, Evidence, NodeEvidence, TrunkEvidence
from testbed.records.fates import FateEvidence
from testbed.records.histogram import Histogram
from testbed.scenario.model import Scenario
from testbed.scenario.network import Network
from testbed.traffic.fates import Fates
from testbed.traffic.fault_losses import LostPackets
from testbed.traffic.packet_times import PacketTimes
from testbed.traffic.plan import PacketPlan

SenderRecord = Mapping[str, Any]


class _Plan(Protocol):
    @property
    def network(self) -> Network: ...
    @property
    def scenario(self) -> Scenario: ...
    @property
    def packets(self) -> PacketPlan: ...


class Counting:
    """Knows every counter of a trial; made just before the start."""

    def __init__(
        self,
        plan: _Plan,
        buffers: NodeBuffers,
        switch: OpenVSwitch,
        network: EmulatedNetwork,
        afxdp: Collection[str] = (),
    ) -> None:
        """Read what changes; `afxdp` are the ports of the switch with AF_XDP sockets."""
        self._described, self._scenario, self._packets = plan.network, plan.scenario, plan.packets
        self._buffers, self._programs, self._sinks = buffers, buffers.programs, buffers.sinks
        self._qdiscs = buffers.qdiscs
        self._qdiscs_before = {node: reader.read() for node, reader in self._qdiscs.items()}
        self._links = LinkDrops(network, afxdp)
        in_kernel = plan.scenario.topology.switch_ports == "kernel"
        bridges, ports = plan.network.data_switches, plan.network.switch_ports
        self._switch = SwitchCounts(switch, bridges, ports, in_kernel=in_kernel)

    def evidence(
        self,
        senders: Sequence[SenderRecord],
        faults: Faults,
        cut_pkts: Mapping[str, int],
        *,
        ran_ns: int,
        setup_s: float,
        machine: Mapping[str, Any],
    ) -> Evidence:
        """Return the evidence of the trial; call it once, when the queues are drained and the faults closed.

        `cut_pkts` are packets thrown away with queues that did not get empty, by node: they were in flight.
        """
        self._links.look()
        fates = fates_of(self._packets, senders, self._buffers, faults)
        lost = LostPackets.of(self._packets, fates.lost(), fates.swallowed_at(self._sinks))
        switch = self._switch.loss(faults.swallowed_frames())
        return Evidence(
            engine=EMULATION,
            ran_ns=ran_ns,
            clients=tuple(self._client_evidence(record) for record in senders),
            nodes=tuple(self._node_evidence(node, faults, ran_ns, cut_pkts.get(node, 0)) for node in self._programs),
            fates=self._fate_evidence(fates),
            trunks=self._trunk_evidence(faults.cut_pkts()),
            switch_dropped_pkts=switch.dropped_pkts + self._links.at_sockets(),
            switch_refused_pkts=switch.refused_pkts,
            switch_unrouted_pkts=switch.unrouted_pkts,
            faults_unseen=tuple(faults.unseen),
            moved_flows_ns=self._moved_flows_ns(faults, lost),
            first_delay=self._first_delay(),
            setup_s=setup_s,
            fragments_dropped_pkts=switch.fragments_pkts,
            kernels_dropped_pkts=switch.kernels_pkts,
            packet_ins=switch.asked_pkts,
            packet_ins_lost_pkts=switch.unanswered_pkts,
            **self._fault_losses(faults, lost),
            **machine,
        )

    def packet_times(self, senders: Sequence[SenderRecord], faults: Faults, t0_ns: int) -> PacketTimes | None:
        """Return when each packet was seen in the run that began at `t0_ns`; None where nobody asked."""
        if self._buffers.times is None:
            return None
        fates = fates_of(self._packets, senders, self._buffers, faults)
        numbers = {node.name: node.number for node in self._described.nodes}
        return packet_times(self._packets, senders, self._buffers.times.read(), fates, numbers, t0_ns)

    def _fate_evidence(self, fates: Fates) -> FateEvidence:
        unplanned = sum(sink.snapshot().unplanned_pkts for sink in self._sinks.values())
        return FateEvidence(unplanned_pkts=unplanned, **fates.counts())

    def _fault_losses(self, faults: Faults, lost: LostPackets) -> dict[str, Any]:
        """Record what the faults cost, and return it by counters and by packets.

        Where nodes deflect, flows are at several of them, so the flow of a packet does not show which node lost it.
        """
        told = faults.record_losses(lost)
        if faults.done.breaking and self._scenario.buffer.deflect:
            return {}
        counted = sum(fault.counted_pkts or 0 for fault in faults.done.breaking)
        return {"fault_counted_pkts": counted, "fault_numbered_pkts": told}

    def _client_evidence(self, record: SenderRecord) -> ClientEvidence:
        client = record["client"]
        sent = client_evidence(record, self._planned_pkts(client))
        return replace(sent, link_dropped_pkts=self._links.between(client, self._described.switch_of(client)))

    def _trunk_evidence(self, cut_pkts: Mapping[str, int]) -> tuple[TrunkEvidence, ...]:
        return tuple(
            TrunkEvidence(
                link.name,
                link_dropped_pkts=self._links.between(link.a, link.b),
                fault_dropped_pkts=cut_pkts.get(link.name),
            )
            for link in self._described.trunks
        )

    def _planned_pkts(self, client: str) -> int:
        return len(self._packets.of_client(client))

    def _node_evidence(self, node: str, faults: Faults, ran_ns: int, cut_pkts: int) -> NodeEvidence:
        program, sink = self._programs[node], self._sinks[node].snapshot()
        arrived, classes = program.snapshot(), program.class_meters()
        data = classes[PLANNED_CLASS]
        before = self._qdiscs_before[node]
        qdisc = self._qdiscs[node].find() or before  # taken away: the inventory names it, what it counted is lost
        counts, edges_ns = self._sinks[node].delay_histogram()
        discarded, by_faults = faults.counters.discarded_pkts[node], self._scenario.unsteady
        return NodeEvidence(
            node=node,
            arrived_pkts=int(data["arrived_pkts"]),
            arrived_bytes=int(data["arrived_bytes"]),
            dropped_pkts=int(data["dropped_pkts"]),
            dropped_bytes=int(data["dropped_bytes"]),
            delivered_pkts=sink.delivered_pkts,
            delivered_bytes=sink.delivered_bytes,
            in_flight_pkts=max(0, _in_queue(program, data, sink) - discarded) if cut_pkts else qdisc.backlog_pkts,
            malformed_pkts=arrived.malformed_pkts,
            ttl_expired_pkts=arrived.ttl_expired_pkts,
            fault_dropped_pkts=self._kept_away(node, faults) if by_faults else None,
            discarded_pkts=discarded if by_faults else None,
            qdisc_sent_pkts=(qdisc.sent_pkts - before.sent_pkts) % 2**32,  # the kernel's counter has 32 bits
            qdisc_sent_bytes=qdisc.sent_bytes - before.sent_bytes,
            qdisc_dropped_pkts=qdisc.dropped_pkts - before.dropped_pkts - discarded - cut_pkts,
            link_dropped_pkts=self._links.between(self._described.switch_of(node), node),
            backend_link_dropped_pkts=self._links.between(node, self._described.next_hop(node)),
            reordered_pkts=sink.reordered_pkts,
            duplicate_pkts=sink.duplicate_pkts,
            unbuffered_pkts=self._sinks[node].unbuffered_pkts(),
            missing_pkts=int(self._sinks[node].flows()["missing_pkts"].sum()),
            delay=Histogram(edges_ns, counts, sink.delay_max_ns),
            xdp_mode=self._buffers.xdp_modes[node],
            crashes=faults.done.crashes(node) if by_faults else None,
            absent_ns=faults.done.absent_ns(node, ran_ns) if by_faults else None,
            **self._deflected(program),
            **self._marked(data, sink),
            **self._tcp(classes[OTHER_CLASS]),
        )

    def _kept_away(self, node: str, faults: Faults) -> int:
        """Return how many planned packets faults kept from a node: on its way, on its link, or as it had crashed."""
        return int(self._programs[node].fault_pkts()[PLANNED_CLASS]) + faults.link_pkts(node)

    def _first_delay(self) -> Histogram:
        delays_ns = np.concatenate([sink.flows()["first_delay_ns"] for sink in self._sinks.values()])
        return Histogram.of(delays_ns[delays_ns > 0])

    def _moved_flows_ns(self, faults: Faults, lost: LostPackets) -> tuple[int, ...] | None:
        """Return when the flows began that changed node for no fault; None where they may: deflection."""
        scenario = self._scenario
        if scenario.buffer.deflect:
            return None
        return faults.done.moved_flows_ns(lost, scenario.balancer.affinity_idle_ns)

    def _deflected(self, program: NodeProgram) -> dict[str, Any]:
        if not self._scenario.buffer.deflect:
            return {}
        handed, taken = program.deflected_by_class()
        return {
            "deflected_pkts": int(handed[PLANNED_CLASS]),
            "deflected_in_pkts": int(taken[PLANNED_CLASS]),
        }

    def _marked(self, data: NDArray[np.void], sink: SinkCounters) -> dict[str, Any]:
        if self._scenario.buffer.ecn_threshold_bytes is None:
            return {}
        return {"marked_pkts": int(data["marked_pkts"]), "marked_delivered_pkts": sink.ce_pkts}

    def _tcp(self, meter: NDArray[np.void]) -> dict[str, Any]:
        names = ("arrived_pkts", "arrived_bytes", "dropped_pkts", "marked_pkts")
        return {f"tcp_{name}": int(meter[name]) for name in names} if self._scenario.tcp else {}


def _in_queue(program: NodeProgram, data: NDArray[np.void], sink: SinkCounters) -> int:
    """Return the planned packets between a node's program and its sink: a queue holds packets of others beside them."""
    handed, _ = program.deflected_by_class()
    admitted = int(data["arrived_pkts"]) - int(data["dropped_pkts"]) - int(handed[PLANNED_CLASS])
    return admitted - sink.delivered_pkts


def client_evidence(record: SenderRecord, planned_pkts: int) -> ClientEvidence:
    """Return what a client sent of the `planned_pkts` that the plan has for it.

    Packets that were not due when the run was stopped are no part of it; those that a failure left are.
    """
    report: SendReport = record["report"]
    return ClientEvidence(
        client=record["client"],
        planned_pkts=planned_pkts - (report.skipped_pkts if report.stopped else 0),
        sent_pkts=report.sent_pkts,
        sent_bytes=report.sent_bytes,
        send_errors=report.unsent_pkts,
        lateness=report.lateness,
        failure=report.failure,
        failed_pkts=report.skipped_pkts if report.failure else 0,
    )
