"""What the agent of a cohort needs; created before its process is forked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from testbed.emulation.dataplane.limit_watch import LimitWatch
from testbed.emulation.dataplane.node_buffers import NodeBuffers
from testbed.emulation.dataplane.xdp import NodeProgram, SinkProgram
from testbed.emulation.network.mininet import EmulatedNetwork
from testbed.emulation.processes.pulse import Pulse
from testbed.emulation.processes.shared_state import SharedPeers, SharedState
from testbed.engine import TrialPlan
from testbed.policies.brain import NodeBrain
from testbed.policies.cohorts import Cohort, make_brain
from testbed.policies.pool import Pool
from testbed.policies.sharing import fresh_ns
from testbed.wire.sealing import Keyring


class NodeCells(NamedTuple):
    """What a node shares with others.

    Attributes:
        ring: its keys.
        state: where its mesh member looks for its state.
        peers: where that member leaves what the other nodes announce.
    """

    ring: Keyring
    state: SharedState
    peers: SharedPeers


@dataclass(frozen=True, slots=True)
class AgentNode:
    """A node, as its agent has it.

    Attributes:
        name: of the node.
        namespace_pid: a process in its network namespace.
        egress: the interface whose qdisc is the queue.
        program, sink: the XDP programs of the node and of what lies behind it; no sink where that is not ours.
        ring: its keys.
        state: where its mesh member looks for its state.
        peers: where that member leaves what the other nodes announce.
    """

    name: str
    namespace_pid: int
    egress: str
    program: NodeProgram
    sink: SinkProgram | None
    ring: Keyring
    state: SharedState
    peers: SharedPeers


@dataclass(frozen=True, slots=True)
class AgentParts:
    """What an agent works with; all of it made before the fork, the maps shared with the kernel.

    Attributes:
        nodes: the nodes of the cohort, in the order of the brain.
        policy: the name of the brain in the history.
        brain, pool: the policies; the pool's ledger is shared memory, used under the lock file.
        interval_ns, phase_ns: the agent wakes at t0 + phase + k * interval.
        balancer: returns where notifications go.
        peers_fresh_ns: how old what peers announce may be and still count.
        pulse: beaten at every tick.
        limits: is given every limit that is set, and what the packets met.
        mac_of: address of each node a sibling may be; empty when full nodes drop.
        unplanned: other traffic than planned packets shares the queues, so sinks do not see all that is delivered.
    """

    nodes: tuple[AgentNode, ...]
    policy: str
    brain: NodeBrain
    pool: Pool
    interval_ns: int
    phase_ns: int
    balancer: Callable[[], tuple[str, int]]
    peers_fresh_ns: int
    pulse: Pulse
    limits: LimitWatch
    mac_of: Mapping[str, str] = field(default_factory=dict)
    unplanned: bool = False


def agent_parts(
    plan: TrialPlan,
    network: EmulatedNetwork,
    buffers: NodeBuffers,
    cohort: Cohort,
    cells: Mapping[str, NodeCells],
    pool: Pool,
    balancer: tuple[str, int],
    pulse: Pulse,
    limits: LimitWatch,
) -> AgentParts:
    """Return the parts of a cohort's agent, with a fresh brain; `cells` are in the order of its nodes."""
    scenario = plan.scenario
    return AgentParts(
        nodes=tuple(_node(name, network, buffers, own) for name, own in cells.items()),
        policy=cohort.policy,
        brain=make_brain(cohort.rows, scenario.buffer, plan.network, plan.make_forecaster),
        pool=pool,
        interval_ns=scenario.buffer.sample_interval_ns,
        phase_ns=cohort.phase_ns,
        balancer=lambda: balancer,
        peers_fresh_ns=fresh_ns(scenario.mesh.sync_interval_ns),
        pulse=pulse,
        limits=limits,
        mac_of={host.name: host.mac for host in plan.network.nodes} if scenario.buffer.deflect else {},
        unplanned=bool(scenario.tcp),
    )


def _node(name: str, network: EmulatedNetwork, buffers: NodeBuffers, cells: NodeCells) -> AgentNode:
    egress = network.network.interface(name, network.network.next_hop(name))
    return AgentNode(name, network.pid(name), egress, buffers.programs[name], buffers.sinks[name], *cells)
