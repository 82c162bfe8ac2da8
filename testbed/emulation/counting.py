"""Counting at every place a packet can be: what the trial hands over as `Evidence`.

Counters of the kernel run since the interface was made, and set-up sends a few packets of its own (neighbour
discovery, the controller's probes): what counts is the difference between the end and the moment before the start.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from pyroute2 import IPRoute

from testbed.controllers.pipeline import ANSWERED_COOKIE
from testbed.emulation import bulk_tcp, kernel
from testbed.emulation.faults import Faults
from testbed.emulation.network import EmulatedNetwork
from testbed.emulation.open_vswitch import OpenVSwitch
from testbed.emulation.sender import SendReport
from testbed.emulation.shaping import QdiscReader
from testbed.emulation.xdp import NodeProgram, SinkProgram
from testbed.emulation.xdp_meter import SinkCounters
from testbed.results.evidence import ClientEvidence, Evidence, NodeEvidence
from testbed.results.histogram import Histogram
from testbed.spec.scenario import Scenario
from testbed.spec.topology import Network
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
        programs: Mapping[str, NodeProgram],
        sinks: Mapping[str, SinkProgram],
        qdiscs: Mapping[str, QdiscReader],
        switch: OpenVSwitch,
        network: EmulatedNetwork,
    ) -> None:
        self._described, self._scenario, self._packets = plan.network, plan.scenario, plan.packets
        self._programs, self._sinks, self._qdiscs = programs, sinks, qdiscs
        self._switch, self._network = switch, network
        switch.dropped_pkts()
        self._qdiscs_before = {node: reader.read() for node, reader in qdiscs.items()}
        self._interfaces_before = self._interface_drops()

    def evidence(
        self,
        senders: Sequence[SenderRecord],
        faults: Faults,
        xdp_modes: Mapping[str, str],
        *,
        ran_ns: int,
        setup_s: float,
        machine: Mapping[str, Any],
    ) -> Evidence:
        """Return the evidence of the trial; call it once, when the queues are drained."""
        drops, (asked, unanswered) = self._interface_drops(), self._packet_ins()
        lost = {name: count - self._interfaces_before.get(name, 0) for name, count in drops.items()}
        return Evidence(
            engine="emulation",
            ran_ns=ran_ns,
            clients=tuple(self._client_evidence(record, lost) for record in senders),
            nodes=tuple(self._node_evidence(node, xdp_modes[node], lost, faults, ran_ns) for node in self._programs),
            switch_dropped_pkts=self._switch.dropped_pkts(),
            fault_dropped_pkts=self._lost_by_faults(faults) if self._scenario.faults else None,
            faults_unseen=tuple(faults.unseen),
            broken_flows=self._broken_flows(faults),
            first_delay=self._first_delay(),
            setup_s=setup_s,
            packet_ins=asked,
            packet_ins_lost_pkts=unanswered,
            **machine,
        )

    def _planned_pkts(self, client: str) -> int:
        return len(self._packets.of_client(client))

    def _client_evidence(self, record: SenderRecord, lost: Mapping[str, int]) -> ClientEvidence:
        client = record["client"]
        ends = [self._described.interface(*pair) for pair in ((client, "s1"), ("s1", client))]
        sent = client_evidence(record, self._planned_pkts(client))
        return replace(sent, veth_dropped_pkts=sum(lost[name] for name in ends))

    def _node_evidence(
        self, node: str, xdp_mode: Any, lost: Mapping[str, int], faults: Faults, ran_ns: int
    ) -> NodeEvidence:
        program, sink = self._programs[node], self._sinks[node].snapshot()
        arrived, classes = program.snapshot(), program.class_meters()
        data, tcp = classes[self._data_class], classes[bulk_tcp.TCP_CLASS]
        qdisc, before = self._qdiscs[node].read(), self._qdiscs_before[node]
        counts, edges_ns = self._sinks[node].delay_histogram()
        return NodeEvidence(
            node=node,
            arrived_pkts=int(data["arrived_pkts"]),
            arrived_bytes=int(data["arrived_bytes"]),
            dropped_pkts=int(data["dropped_pkts"]),
            dropped_bytes=int(data["dropped_bytes"]),
            delivered_pkts=sink.delivered_pkts,
            delivered_bytes=sink.delivered_bytes,
            in_flight_pkts=qdisc.backlog_pkts,
            malformed_pkts=arrived.malformed_pkts,
            qdisc_sent_pkts=(qdisc.sent_pkts - before.sent_pkts) % 2**32,  # the kernel's counter has 32 bits
            qdisc_sent_bytes=qdisc.sent_bytes - before.sent_bytes,
            qdisc_dropped_pkts=qdisc.dropped_pkts - before.dropped_pkts - faults.books.discarded_pkts.get(node, 0),
            veth_dropped_pkts=sum(lost[name] for name in self._data_path(node, faults.books.link_pkts)),
            reordered_pkts=sink.reordered_pkts,
            duplicate_pkts=sink.duplicate_pkts,
            unbuffered_pkts=self._sinks[node].unbuffered_pkts(),
            missing_pkts=int(self._sinks[node].flows()["missing_pkts"].sum()),
            delay=Histogram(edges_ns, counts, sink.delay_max_ns),
            xdp_mode=xdp_mode,
            crashes=faults.done.crashes(node) if self._scenario.faults else None,
            absent_ns=faults.done.absent_ns(node, ran_ns) if self._scenario.faults else None,
            **self._deflected(program),
            **self._marked(data, sink),
            **self._tcp(tcp),
        )

    def _packet_ins(self) -> tuple[int, int]:
        """Return what the switch handed to the controller, and what of it did not come back, whoever lost it."""
        asked = self._switch.packet_ins("s1")
        return asked, asked - self._switch.matched_pkts("s1", ANSWERED_COOKIE)

    def _first_delay(self) -> Histogram:
        delays_ns = np.concatenate([sink.flows()["first_delay_ns"] for sink in self._sinks.values()])
        return Histogram.of(delays_ns[delays_ns > 0])

    @property
    def _data_class(self) -> int:
        return bulk_tcp.PLANNED_CLASS if self._scenario.tcp else 0

    def _lost_by_faults(self, faults: Faults) -> int:
        missed = sum(int(program.fault_pkts()[self._data_class]) for program in self._programs.values())
        books = faults.books
        return missed + sum(books.discarded_pkts.values()) + sum(books.link_pkts.values())

    def _broken_flows(self, faults: Faults) -> int | None:
        """Return how many flows changed node for no fault; unknown where that may be: deflection, idle flows."""
        scenario = self._scenario
        if scenario.buffer.deflect or scenario.duration_ns > scenario.balancer.affinity_idle_ns:
            return None
        return faults.done.broken_flows()

    def _deflected(self, program: NodeProgram) -> dict[str, Any]:
        if not self._scenario.buffer.deflect:
            return {}
        handed, taken = program.deflected_by_class()
        return {
            "deflected_pkts": int(handed[self._data_class]),
            "deflected_in_pkts": int(taken[self._data_class]),
        }

    def _marked(self, data: NDArray[np.void], sink: SinkCounters) -> dict[str, Any]:
        if self._scenario.buffer.ecn_threshold_bytes is None:
            return {}
        return {"marked_pkts": int(data["marked_pkts"]), "marked_delivered_pkts": sink.ce_pkts}

    def _tcp(self, meter: NDArray[np.void]) -> dict[str, Any]:
        names = ("arrived_pkts", "arrived_bytes", "dropped_pkts", "marked_pkts")
        return {f"tcp_{name}": int(meter[name]) for name in names} if self._scenario.tcp else {}

    def _data_path(self, node: str, metered: Container[str]) -> list[str]:
        """Return the interfaces a packet crosses from the switch to the sink of `node`.

        A link that is metered is left out: what it drops is in the books of the faults, and the kernel counts a frame
        that meets an end which is going down at either end.
        """
        described, backend = self._described, self._described.next_hop(node)
        links = ((node, backend),) if node in metered else (("s1", node), (node, backend))
        return [described.interface(*ends) for link in links for ends in (link, link[::-1])]

    def _interface_drops(self) -> dict[str, int]:
        """Return rx + tx drops of every interface of the data network, by name."""
        drops = _drops_here()
        for host in self._described.hosts:
            with kernel.network_of(self._network.pid(host.name)):
                drops.update(_drops_here())
        return drops


def _drops_here() -> dict[str, int]:
    with IPRoute() as netlink:
        drops = {}
        for link in netlink.get_links():
            stats = link.get_attr("IFLA_STATS64") or link.get_attr("IFLA_STATS")
            drops[link.get_attr("IFLA_IFNAME")] = stats["rx_dropped"] + stats["tx_dropped"]
        return drops


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
