"""What an engine hands over when a trial ends: counts at every place a packet can be, and how well time was kept.

A field an engine cannot give is None, and every check on it is absent from the verdict (and named there as not
checked).  Zero means *measured, and none*.  Packets are data packets unless said otherwise, bytes are frame lengths
(Ethernet header included, no FCS).  Counts cover the whole trial, from before the first packet to after the drain.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from testbed.files import records
from testbed.records.changes import Change
from testbed.records.fates import FateEvidence
from testbed.records.histogram import Histogram
from testbed.records.stages import OrderedFault, Stage

XdpMode = Literal["native", "generic"]


@dataclass(frozen=True, slots=True)
class ClientEvidence:
    """What one client sent.

    Attributes:
        client: its name, such as ``c1``.
        planned_pkts: packets of the plan, but for those that were not due any more when the run was stopped.
        sent_pkts, sent_bytes: what the kernel took from the sender.
        send_errors: packets the kernel refused until they were given up.
        lateness: actual minus planned send time.
        failure: why the sender gave up before the end; empty when it did not.
        failed_pkts: packets that it did not try to send for that reason.
        link_dropped_pkts: frames dropped on its link to the switch, planned or not.
    """

    client: str
    planned_pkts: int
    sent_pkts: int
    sent_bytes: int
    send_errors: int = 0
    lateness: Histogram | None = None
    failure: str = ""
    failed_pkts: int = 0
    link_dropped_pkts: int | None = None

    @property
    def unexplained_pkts(self) -> int:
        """Return the packets of the plan that were neither sent nor given up."""
        return self.planned_pkts - self.sent_pkts - self.send_errors - self.failed_pkts


@dataclass(frozen=True, slots=True)
class NodeEvidence:
    """What one node and the backend behind it counted.

    Attributes:
        node: its name, such as ``n1``.
        arrived_pkts, arrived_bytes: data packets that reached the buffer, dropped ones included.
        dropped_pkts, dropped_bytes: those the buffer refused because they passed the limit.
        delivered_pkts, delivered_bytes: data packets that reached the backend's sink, duplicates included.
        fault_dropped_pkts: data packets that a fault kept from arriving: the node had crashed, its link was down or
            lost them; in no other count.
        discarded_pkts: frames thrown away with the egress qdisc's queue when the node crashed, planned or not.
        in_flight_pkts: frames still in the egress qdisc when counting ended, planned or not.
        malformed_pkts: packets the node's program could not parse.
        ttl_expired_pkts: packets that came to the node with no hop left.
        aborted_pkts: XDP_ABORTED and failed redirects, a fault of the program.
        qdisc_sent_pkts, qdisc_sent_bytes: what the egress qdisc sent, other traffic included.
        qdisc_dropped_pkts: what it dropped by itself; its queue is meant to be endless.
        link_dropped_pkts, backend_link_dropped_pkts: frames dropped on its links to the switch and to the backend,
            planned or not.
        reordered_pkts: packets at the sink with a lower sequence number than one before, summed over flows.
        duplicate_pkts: packets the sink saw more than once.
        unbuffered_pkts: packets at the sink that the node's buffer had not admitted.
        missing_pkts: sequence numbers below the highest that never came, summed over flows.
        delay: one-way delay, sender's send call to sink.
        loop: duration of the agent's loop, sample to notification.
        lateness: how late the agent's tick began.
        xdp_mode: how the node's program is attached.
        crashes: how often a fault of the scenario killed the node's processes.
        absent_ns: how long faults kept them from running.
        deflected_pkts: those a full buffer handed to a sibling, where they arrive once more; not in `dropped_pkts`.
        deflected_in_pkts: those that came from a sibling, part of `arrived_pkts`.
        marked_pkts: those admitted with a congestion mark (ECN).
        marked_delivered_pkts: marked ones that reached the sink.
        tcp_arrived_pkts, tcp_arrived_bytes, tcp_dropped_pkts, tcp_marked_pkts: the same of TCP's segments, which are no
            data packets and in no other count but those of qdisc and interfaces.
    """

    node: str
    arrived_pkts: int
    arrived_bytes: int
    dropped_pkts: int
    dropped_bytes: int
    delivered_pkts: int
    delivered_bytes: int
    in_flight_pkts: int = 0
    malformed_pkts: int | None = None
    ttl_expired_pkts: int | None = None
    aborted_pkts: int | None = None
    fault_dropped_pkts: int | None = None
    discarded_pkts: int | None = None
    qdisc_sent_pkts: int | None = None
    qdisc_sent_bytes: int | None = None
    qdisc_dropped_pkts: int | None = None
    link_dropped_pkts: int | None = None
    backend_link_dropped_pkts: int | None = None
    reordered_pkts: int | None = None
    duplicate_pkts: int | None = None
    missing_pkts: int | None = None
    unbuffered_pkts: int | None = None
    delay: Histogram | None = None
    loop: Histogram | None = None
    lateness: Histogram | None = None
    xdp_mode: XdpMode | None = None
    crashes: int | None = None
    absent_ns: int | None = None
    deflected_pkts: int | None = None
    deflected_in_pkts: int | None = None
    marked_pkts: int | None = None
    marked_delivered_pkts: int | None = None
    tcp_arrived_pkts: int | None = None
    tcp_arrived_bytes: int | None = None
    tcp_dropped_pkts: int | None = None
    tcp_marked_pkts: int | None = None


@dataclass(frozen=True, slots=True)
class TrunkEvidence:
    """What a link between two switches lost.

    Attributes:
        link: its name, such as ``s1-s2``.
        link_dropped_pkts: frames dropped at its interfaces, in either direction, planned or not.
        queue_dropped_pkts: packets of the plan that its queues refused, for a link with a rate.
        fault_dropped_pkts: packets of the plan that were lost on it while a fault cut it.
    """

    link: str
    link_dropped_pkts: int | None = None
    queue_dropped_pkts: int | None = None
    fault_dropped_pkts: int | None = None


@dataclass(frozen=True, slots=True)
class RegionEvidence:
    """What became of the packets of one region, with several sites.

    Attributes:
        region: its name, that of the site at whose edge it is.
        sent_pkts: packets of its clients.
        delivered_pkts, delivered_bytes: those that reached a backend; bytes by site, in the order of the sites.
        delay: one-way delay, the WAN included.
    """

    region: str
    sent_pkts: int
    delivered_pkts: int
    delivered_bytes: tuple[int, ...]
    delay: Histogram


@dataclass(frozen=True, slots=True)
class TcpEvidence:
    """What one source of TCP connections saw, according to its kernel (TCP_INFO).

    Attributes:
        source, client, congestion, streams: as in the scenario.
        broken_streams: connections that did not live to the end.
        ran_ns: how long it sent.
        acked_bytes: payload the other ends acknowledged.
        retransmitted_pkts: retransmitted segments.
        rtt: the kernel's smoothed round-trip time of every connection, each 10 ms.
    """

    source: str
    client: str
    congestion: str
    streams: int
    broken_streams: int
    ran_ns: int
    acked_bytes: int
    retransmitted_pkts: int
    rtt: Histogram


@dataclass(frozen=True, slots=True)
class Evidence:
    """All a trial leaves behind besides its samples and events.

    Attributes:
        engine: which engine ran.
        ran_ns: how long the trial ran, first planned packet to the end of sending (shorter than planned when
            interrupted).
        clients, nodes: one entry each, in the order of the network.
        trunks: one entry a link between switches.
        tcp: one entry a TCP source, in the order of the scenario.
        fates: what became of the planned packets, each identified; None where packets are only counted.
        switch_dropped_pkts: frames that found the sockets of the switch full.
        switch_refused_pkts: frames the switch took in and neither sent nor handed to the controller, though its tables
            had a way for them: a port took no more, or deciding failed.
        switch_unrouted_pkts: frames its tables had no way for, but for those in `fragments_dropped_pkts` and
            `kernels_dropped_pkts`.
        fault_counted_pkts: what the faults that take a node away cost, by the counters of the places.
        fault_numbered_pkts: the same by the numbers of the packets that were delivered nowhere.
        faults_unseen: faults, and ends of faults, that were commanded and not seen to happen.
        ordered: the faults that were carried out, each turn of a flap by itself.
        stages: what packets pass and who acts meanwhile, with the times when each stood still.
        changes: what the run relies on and the scenario did not order to change, in the order in which to name it.
        softnet_dropped_pkts: drops of the machine's backlog queues, for information: the kernel keeps them by core, not
            by network, and adds each to the rx drops of the interface it was for, where those of the run are counted.
        neighbour_overflows: times the kernel's neighbour table was full.
        fragments_dropped_pkts: fragments to the VIP that the balancer's pipeline dropped; no planned packet is one.
        kernels_dropped_pkts: frames that hosts' kernels sent by themselves (ARP, neighbour discovery, MLD, IGMP) and
            that the balancer's pipeline dropped.
        packet_ins: packets the switch handed to the controller.
        packet_ins_lost_pkts: those that did not come back.
        first_delay: one-way delay of the first packet of each flow, by which a flow's placement shows.
        moved_flows_ns: when those flows began that changed node though no fault had hit a node they were at.
        cpu_idle_ratio: idle share of all cores over the trial, 0..1.
        cpu_idle_worst_ratio: the lowest idle share of all cores in any one second.
        cpu_steal_ratio: share of time the hypervisor kept from this machine.
        cpu_demand_ratio: the largest share of half a second that the main thread of a real-time process, or the thread
            of the switch that forwards, ran or waited to run.
        cpu_demand_waited_ratio: of it, the share that it waited.
        cpu_demand_process: whose it was.
        runqueue_mean: mean number of runnable tasks, for information.
        real_time: whether the processes of the trial had the fixed priorities they ask for.
        throttled_ns: time a CPU quota stopped the control groups that the trial is in.
        suspended_ns: time the machine was suspended while the trial ran.
        control_loop: sample to notification of all agents, when not kept by node.
        setup_s, teardown_s: wall time to build and to remove the network.
        restarted: what happened to each process that ended unexpectedly and was restarted, in time order.
        regions: one entry a region, with several sites.
        wan_bytes: bytes of planned packets that were sent from a region to a site elsewhere.
        report_bytes: bytes of the reports that sites sent to each other, headers included.
    """

    engine: str
    ran_ns: int
    clients: tuple[ClientEvidence, ...]
    nodes: tuple[NodeEvidence, ...]
    fates: FateEvidence | None = None
    switch_dropped_pkts: int | None = None
    switch_refused_pkts: int | None = None
    switch_unrouted_pkts: int | None = None
    fault_counted_pkts: int | None = None
    fault_numbered_pkts: int | None = None
    faults_unseen: tuple[str, ...] | None = None
    ordered: tuple[OrderedFault, ...] = ()
    stages: tuple[Stage, ...] = ()
    changes: tuple[Change, ...] | None = None
    softnet_dropped_pkts: int | None = None
    neighbour_overflows: int | None = None
    fragments_dropped_pkts: int | None = None
    kernels_dropped_pkts: int | None = None
    packet_ins: int | None = None
    packet_ins_lost_pkts: int | None = None
    first_delay: Histogram | None = None
    moved_flows_ns: tuple[int, ...] | None = None
    cpu_idle_ratio: float | None = None
    cpu_idle_worst_ratio: float | None = None
    cpu_steal_ratio: float | None = None
    cpu_demand_ratio: float | None = None
    cpu_demand_waited_ratio: float | None = None
    cpu_demand_process: str | None = None
    runqueue_mean: float | None = None
    real_time: bool | None = None
    throttled_ns: int | None = None
    suspended_ns: int | None = None
    control_loop: Histogram | None = None
    setup_s: float | None = None
    teardown_s: float | None = None
    tcp: tuple[TcpEvidence, ...] = ()
    trunks: tuple[TrunkEvidence, ...] = ()
    restarted: tuple[str, ...] = ()
    regions: tuple[RegionEvidence, ...] = ()
    wan_bytes: int | None = None
    report_bytes: int | None = None

    def to_record(self) -> dict[str, Any]:
        """Return the JSON form, written to ``evidence.json``."""
        return _record(self)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Evidence:
        """Return the evidence that `to_record` wrote; keys of later versions are left out.

        Raises:
            pydantic.ValidationError: when a field is missing or of another type.
        """
        return records.made(record, cls)


def _record(part: Any) -> dict[str, Any]:
    return {f.name: _plain(getattr(part, f.name)) for f in dataclasses.fields(part)}


def _plain(value: Any) -> Any:
    if isinstance(value, Histogram):
        return value.to_record()
    if isinstance(value, FateEvidence):
        return _record(value)
    if isinstance(value, tuple):
        return [_record(item) if dataclasses.is_dataclass(item) else item for item in value]
    return value


def total(values: Iterable[int | None]) -> int | None:
    """Return the sum of the measured values, None when nothing was measured."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None
