"""The load of a scenario on a machine: packets, ticks and messages, independent of their costs.

Packets are counted per millisecond of the run, since a machine is overloaded by bursts and not by the mean.  A load can
be changed (fewer nodes, lower rates, a longer interval) without planning its traffic again; the search for the nearest
scenario that would be VALID uses this.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from testbed.policies.cohorts import OWN_TICKS, SHARED_TICKS
from testbed.policies.sharing import FULL_SYNC_MEMBERS
from testbed.records.events import Floats
from testbed.scenario.apart import nodes_apart
from testbed.scenario.mesh import FANOUT
from testbed.scenario.model import Scenario
from testbed.scenario.network import Network
from testbed.traffic.plan import PacketPlan
from testbed.units import NS_PER_MS, NS_PER_S

_TCP_SEGMENTS_AND_ANSWERS = 1.5  # every second segment is acknowledged
_SEGMENT_BITS = 1514 * 8
_LONGEST_MS = 60_000


@dataclass(frozen=True, eq=False)
class Load:
    """What a scenario asks for.

    Attributes:
        nodes: buffer nodes of both tiers.
        clients: hosts that send or could.
        interval_ns: sample interval.
        heartbeat_ns, sync_ns, watchers, fanout: of the mesh.
        sent_ms: packets that each sending client sends in each millisecond, float64 [client, ms].
        begun_ms: flows that send their first packet in it, float64 [ms].
        bits_per_s: planned traffic in the mean.
        hogs: processes that do nothing but run, of a fault.
        apart: nodes whose agent has a process of its own, and so ticks by itself (`scenario.apart`).
    """

    nodes: int
    clients: int
    interval_ns: int
    heartbeat_ns: int
    sync_ns: int
    watchers: int
    sent_ms: Floats
    begun_ms: Floats
    bits_per_s: float
    hogs: int = 0
    apart: int = 0
    fanout: int = FANOUT

    @property
    def ports(self) -> int:
        """Return the ports of the switch."""
        return self.nodes + self.clients

    @property
    def ticks_per_s(self) -> float:
        """Return how many samples all agents together take in a second."""
        return _ticks_per_s(self.nodes, self.interval_ns)

    @property
    def common_ticks(self) -> int:
        """Return how many ticks of an interval serve several nodes each; nodes apart part those between them."""
        return SHARED_TICKS + self.apart if self.nodes > OWN_TICKS and self.apart < self.nodes else 0

    @property
    def own_ticks(self) -> int:
        """Return how many ticks of an interval serve one node."""
        return self.apart if self.common_ticks else self.nodes

    @property
    def wake_ups_per_s(self) -> float:
        """Return how often in a second agents wake for a sample: once for all nodes that tick together."""
        return _ticks_per_s(self.own_ticks + self.common_ticks, self.interval_ns)

    @property
    def messages_per_s(self) -> float:
        """Return how many messages the mesh sends in a second."""
        return _messages_per_s(self.nodes, self.watchers, self.heartbeat_ns, self.sync_ns, self.fanout)

    @property
    def arrived_ms(self) -> Floats:
        """Return the packets that come to the switch in each millisecond, float64 [ms]."""
        summed: Floats = self.sent_ms.sum(axis=0)
        return summed

    def of_nodes(self, nodes: int) -> Load:
        """Return the load of so many nodes, each with the traffic that one has now."""
        apart = nodes if self.apart == self.nodes else min(self.apart, nodes)
        return replace(self.of_rate(nodes / self.nodes), nodes=nodes, apart=apart)

    def of_rate(self, share: float) -> Load:
        """Return the load with this share of the traffic."""
        return replace(self, sent_ms=self.sent_ms * share, bits_per_s=self.bits_per_s * share)

    def of_interval(self, interval_ns: int) -> Load:
        """Return the load with another sample interval."""
        return replace(self, interval_ns=interval_ns)


def load_of(scenario: Scenario, network: Network, plan: PacketPlan) -> Load:
    """Return what a scenario asks for."""
    from_ms, length = _window(scenario.duration_ns // NS_PER_MS + 1, plan)
    at_ms = plan.t_ns // NS_PER_MS - from_ms
    within = slice(*np.searchsorted(at_ms, (0, length)))
    at_ms, client, first = at_ms[within], plan.flows.client[plan.flow[within]], plan.seq[within] == 0
    sent = [np.bincount(at_ms[client == k], minlength=length) for k in range(len(plan.clients))]
    sent_ms = np.array(sent, dtype=np.float64)
    if scenario.tcp:
        sent_ms = np.vstack([sent_ms, np.full(sent_ms.shape[1], _tcp_pkts_per_ms(network, sent_ms, plan))])
    return Load(
        nodes=len(network.nodes),
        clients=len(network.clients),
        interval_ns=scenario.buffer.sample_interval_ns,
        heartbeat_ns=scenario.mesh.heartbeat_ns,
        sync_ns=scenario.mesh.sync_interval_ns,
        watchers=scenario.mesh.watchers,
        fanout=scenario.mesh.fanout,
        sent_ms=sent_ms,
        begun_ms=np.bincount(at_ms[first], minlength=length).astype(np.float64),
        bits_per_s=plan.total_bytes * 8 * NS_PER_S / plan.duration_ns,
        apart=len(nodes_apart(scenario, [node.name for node in network.nodes])),
        hogs=max((fault.target for fault in scenario.faults if fault.kind == "cpu_hog"), default=0),
    )


def _window(length: int, plan: PacketPlan) -> tuple[int, int]:
    """Return the part of a run to look at, where it begins and how long it is (ms): of a long one the busiest."""
    if length <= _LONGEST_MS:
        return 0, length
    per_s = np.bincount(plan.t_ns // NS_PER_S, minlength=length // 1000 + 1)
    seconds, summed = _LONGEST_MS // 1000, np.concatenate(([0], np.cumsum(per_s)))
    busiest = int(np.argmax(summed[seconds:] - summed[:-seconds]))
    return 1000 * busiest, _LONGEST_MS


def _tcp_pkts_per_ms(network: Network, sent_ms: Floats, plan: PacketPlan) -> float:
    """Return what TCP may send: all that the nodes serve and the plan leaves."""
    served_bps = sum(network.node_rate_bps(node.name) for node in network.nodes)
    planned_bps = plan.total_bytes * 8 * NS_PER_S / plan.duration_ns
    return max(0.0, served_bps - planned_bps) / _SEGMENT_BITS / 1000 * _TCP_SEGMENTS_AND_ANSWERS


def ticks_per_s(scenario: Scenario) -> float:
    """Return how many samples all agents of a scenario take in a second."""
    return _ticks_per_s(scenario.topology.all_nodes, scenario.buffer.sample_interval_ns)


def _ticks_per_s(nodes: int, interval_ns: int) -> float:
    return nodes * NS_PER_S / interval_ns


def messages_per_s(scenario: Scenario) -> float:
    """Return how many messages the mesh of a scenario sends in a second."""
    mesh = scenario.mesh
    nodes, watchers = scenario.topology.all_nodes, mesh.watchers
    return _messages_per_s(nodes, watchers, mesh.heartbeat_ns, mesh.sync_interval_ns, mesh.fanout)


def _messages_per_s(nodes: int, watchers: int, heartbeat_ns: int, sync_ns: int, fanout: int) -> float:
    """Return the heartbeats to watchers, and the states to others and the balancer; a node alone has no mesh."""
    beats = min(watchers, nodes - 1) * NS_PER_S / heartbeat_ns
    others = nodes - 1 if nodes <= FULL_SYNC_MEMBERS else fanout
    states = (others + 1) * NS_PER_S / sync_ns if nodes > 1 else 0.0
    return nodes * (beats + states)
