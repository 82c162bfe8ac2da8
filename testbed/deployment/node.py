"""A buffer node outside the emulation: the agent, forecaster, mesh member and XDP program of a trial, in a pod.

    frames ─▶ in0 ─ XDP ─ out0 ─▶ backend           agent process ── notifications ─▶ balancer
                                                     mesh process ─── heartbeats ◀──▶ other nodes
    main process: reports ─▶ roster ─ answers ─▶ stage of life · /metrics /healthz /readyz · SIGTERM ─▶ drain

**Draining.**  On SIGTERM the node continues to work, and its reports ask to be drained.  The balancer then assigns no
new flow to it.  Once its flows have been silent for `balancer.affinity_idle`, or were moved after
`autoscaler.drain_deadline`, and its queue is empty, the answer says that it is absent, and it ends.  Without an answer
for `UNANSWERED_NS` no balancer can move its flows; then it ends when its queue is empty.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from testbed.deployment import tunnels
from testbed.deployment.clock import ClusterClock
from testbed.deployment.cluster import Cluster, described
from testbed.deployment.discovery import Directory
from testbed.deployment.pod import LATE_NS, Pod
from testbed.deployment.reporter import REPORT_PORT, UNANSWERED_NS, Reporter
from testbed.deployment.web import Gauges, served
from testbed.emulation.dataplane.limit_watch import LimitWatch
from testbed.emulation.dataplane.xdp import NodeProgram
from testbed.emulation.network import shaping
from testbed.emulation.processes.agent_parts import AgentNode, AgentParts
from testbed.emulation.processes.agents import Agents
from testbed.emulation.processes.channel import RecordWriter
from testbed.emulation.processes.mesh import MESH_PORT, MeshHost, MeshParts
from testbed.emulation.processes.process_set import NOTIFY_PORT
from testbed.emulation.processes.pulse import Pulse
from testbed.emulation.processes.shared_state import SharedPeers, SharedState
from testbed.emulation.processes.trial_process import Body, Stopped, TrialConnection
from testbed.forecaster.maker import forecaster_maker
from testbed.openmetrics.live import LiveMetrics
from testbed.policies.brain import NodeBrain
from testbed.policies.cohorts import BRAIN
from testbed.policies.membership import BALANCER
from testbed.policies.pool import make_pool
from testbed.policies.sharing import fresh_ns
from testbed.records.events import Ints, StageOfLife
from testbed.scenario.network import bucket_bytes
from testbed.units import NS_PER_S
from testbed.wire.node_report import Report
from testbed.wire.sealing import Keyring

_BACKEND = "backend"
_OVERTIME_NS = 10 * NS_PER_S  # of the roster's own deadline


@dataclass(frozen=True, slots=True)
class _Node:
    """What the processes of a node share, made before they are forked."""

    cluster: Cluster
    name: str
    program: NodeProgram
    brain: NodeBrain
    ring: Keyring
    directory: Directory
    state: SharedState
    peers: SharedPeers


def prepare(cluster: Cluster, name: str) -> _Node:
    """Load the program of a node, and lay its queue and tunnels; their other ends are not known yet."""
    spec, number = cluster.spec, cluster.nodes.index(name)
    rates: Ints = np.array((spec.rate,), dtype=np.int64)
    model = cluster.path.parent / spec.buffer.reads if spec.buffer.reads else None
    make_forecaster = forecaster_maker(spec.buffer, None, 1, model)
    brain = NodeBrain((name,), spec.buffer, rates, make_forecaster((name,), rates))
    tunnels.remove(tunnels.INGRESS, tunnels.EGRESS)
    tunnels.make(tunnels.INGRESS, tunnels.vni_of(number))
    tunnels.make(tunnels.EGRESS, tunnels.BACKEND_VNI)
    limit_bytes = int(brain.initial_limit_bytes()[0])
    program = NodeProgram(spec.rate, bucket_bytes(spec.rate), limit_bytes, number=number, run=cluster.run_id)
    program.set_ecn_threshold(spec.buffer.ecn_threshold_bytes or 0)
    shaping.shape(tunnels.EGRESS, spec.rate, 2 * spec.buffer.max_bytes)
    program.attach(socket.if_nametoindex(tunnels.INGRESS))
    tunnels.join(tunnels.INGRESS, tunnels.EGRESS)
    hosts = {node: (cluster.host_of(node), MESH_PORT) for node in cluster.nodes if node != name}
    hosts |= {BALANCER: (spec.balancer_host, NOTIFY_PORT), _BACKEND: (spec.backend_host, 0)}
    here = {name: ("0.0.0.0", MESH_PORT)}  # noqa: S104  # a pod has the addresses that its platform gives it
    directory = Directory(hosts, fixed=here)
    return _Node(cluster, name, program, brain, cluster.ring(name), directory, SharedState(), SharedPeers())


def agent_parts(node: _Node, pulse: Pulse) -> AgentParts:
    """Return what the agent of the node works with."""
    spec, limits = node.cluster.spec, node.brain.initial_limit_bytes()
    own = AgentNode(
        name=node.name,
        namespace_pid=os.getpid(),
        egress=tunnels.EGRESS,
        program=node.program,
        sink=None,
        ring=node.ring,
        state=node.state,
        peers=node.peers,
    )
    return AgentParts(
        nodes=(own,),
        policy=f"{BRAIN}:{node.name}",
        brain=node.brain,
        pool=make_pool(spec.buffer, (node.name,), limits.copy()),
        interval_ns=spec.buffer.sample_interval_ns,
        phase_ns=0,
        balancer=lambda: node.directory[BALANCER],
        peers_fresh_ns=fresh_ns(node.cluster.mesh.sync_interval_ns),
        pulse=pulse,
        limits=LimitWatch((node.name,), limits, tunnels.MTU + 14),
        unplanned=True,
    )


def mesh_parts(node: _Node) -> MeshParts:
    """Return what the mesh member of the node works with; who else is there it hears from the roster."""
    others = tuple(name for name in node.cluster.nodes if name != node.name)
    return MeshParts(
        node=node.name,
        namespace_pid=os.getpid(),
        address_of=node.directory,
        members=node.cluster.nodes,
        absent=others,
        spec=node.cluster.mesh,
        ring=node.ring,
        seed=node.cluster.nodes.index(node.name),
        state=node.state,
        peers=node.peers,
    )


def run(cluster: Cluster, name: str, address: str) -> None:
    """Be a node until SIGTERM, and then until it is drained; metrics and probes are answered at `address`."""
    clock, node = ClusterClock(), prepare(cluster, name)
    labels = {"run": cluster.spec.name, "scenario": cluster.spec.name, "policy": cluster.spec.buffer.policy}
    pod = Pod(LiveMetrics(labels, {**described(cluster.spec), "node": name}, 0, clock.now_ns()), clock)
    agent_pulse, mesh_pulse = pod.pulse("agent", cluster.spec.buffer.sample_interval_ns), pod.pulse("mesh")
    pod.fork("agent", _with_discovery(node.directory, Agents([agent_parts(node, agent_pulse)])))
    if len(cluster.nodes) > 1:
        pod.fork("mesh", _with_discovery(node.directory, MeshHost([mesh_parts(node)], mesh_pulse)))
    pod.start()
    stopped = Stopped()
    node.directory.on_change(_updating_tunnels(cluster.nodes.index(name)))
    node.directory.start()
    reporter = Reporter(
        node.ring, lambda: (node.directory[BALANCER][0], REPORT_PORT), _look(node.program), clock.now_ns
    )
    life = _MainLoop(node, pod, reporter, clock)
    with served(address, pod.metrics, life.gauges({**labels, "node": name}), life.unhealthy, life.unready):
        life.until(stopped)
    pod.stop()


def _with_discovery(directory: Directory, body: Callable[[TrialConnection, RecordWriter], None]) -> Body:
    """Return a process that does `body` and keeps the addresses of others up to date."""

    def live(trial: TrialConnection, records: RecordWriter) -> None:
        directory.start()
        body(trial, records)

    return live


def _updating_tunnels(number: int) -> Callable[[str, str], None]:
    """Return what lets the tunnels follow the addresses of their other ends."""
    tunnel_to = {BALANCER: (tunnels.INGRESS, tunnels.vni_of(number)), _BACKEND: (tunnels.EGRESS, tunnels.BACKEND_VNI)}

    def changed(name: str, ip: str) -> None:
        if name in tunnel_to:
            tunnels.connect(*tunnel_to[name], ip)

    return changed


def _look(program: NodeProgram) -> Callable[[], Report]:
    def look() -> Report:
        seen = program.snapshot()
        return Report(False, seen.arrived_pkts, seen.arrived_bytes, program.backlog_bytes(time.monotonic_ns()))

    return look


class _MainLoop:
    """The loop of the main process, and what it answers."""

    def __init__(self, node: _Node, pod: Pod, reporter: Reporter, clock: ClusterClock) -> None:
        self._node, self._pod, self._reporter, self._clock = node, pod, reporter, clock

    def until(self, stopped: Stopped) -> None:
        """Live until stopped, and then until drained."""
        deadline_ns: int | None = None
        while not self._done(deadline_ns):
            within_ns = self._reporter.due_ns() - self._clock.now_ns()
            self._pod.turn([self._reporter.fileno()], within_ns)
            self._pod.refuse_loss()
            self._reporter.turn()
            if stopped and deadline_ns is None:
                self._reporter.draining = True
                spec = self._node.cluster.spec.autoscaler
                deadline_ns = self._clock.now_ns() + spec.drain_deadline_ns + _OVERTIME_NS

    def _done(self, deadline_ns: int | None) -> bool:
        if deadline_ns is None:
            return False
        answer, now_ns = self._reporter.answer, self._clock.now_ns()
        if answer is None or self._reporter.unanswered_ns > UNANSWERED_NS:
            return self._node.program.backlog_bytes(time.monotonic_ns()) == 0
        return answer.stage is StageOfLife.ABSENT or now_ns >= deadline_ns

    def unhealthy(self) -> str:
        """Return why the node has to be restarted."""
        late_ns = self._pod.late_ns()
        return f"a loop has not come round for {late_ns // 10**6} ms" if late_ns > LATE_NS else ""

    def unready(self) -> str:
        """Return why the node is not ready."""
        answer, peers = self._reporter.answer, self._node.peers.read()
        if answer is None or self._reporter.unanswered_ns > UNANSWERED_NS:
            return "the balancer does not answer"
        if answer.stage is not StageOfLife.SERVING:
            return f"it is {answer.stage.name.lower()}"
        heard_ns = 0 if peers is None else peers.taken_ns
        if answer.serving > 1 and self._clock.now_ns() - heard_ns > UNANSWERED_NS:
            return "it hears no other node"
        return ""

    def gauges(self, labels: dict[str, str]) -> Gauges:
        """Return the node's own values."""
        rows = (
            ("testbed_node_ready", "1 while the node is ready", lambda: float(not self.unready())),
            ("testbed_node_stage", "0 absent, 1 joining, 2 serving, 3 draining, 4 leaving", self._stage),
            ("testbed_node_loop_silence_seconds", "longest time that a loop has not come round", self._silence_s),
        )
        return Gauges(labels, rows)

    def _stage(self) -> float:
        return float(self._reporter.answer.stage) if self._reporter.answer is not None else 0.0

    def _silence_s(self) -> float:
        return self._pod.late_ns() / NS_PER_S
