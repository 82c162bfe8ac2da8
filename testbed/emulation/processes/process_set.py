"""The processes of a trial: which ones there are, and what each of them is given.

    a sender for each client, a source for each TCP entry, their sink, the balancer and its standby, an agent per node,
    the mesh

They are forked in groups, as soon as what they need exists: frames take longest to build, and an agent needs the XDP
program of its node.
"""

from __future__ import annotations

import mmap
import socket
from collections.abc import Iterable, Sequence

import numpy as np

from testbed.controllers.process import LONGEST_WAIT_NS
from testbed.emulation.dataplane.limit_watch import LimitWatch
from testbed.emulation.dataplane.node_buffers import NodeBuffers
from testbed.emulation.inventory.processes import Watched
from testbed.emulation.network.mininet import MESH_SUPERVISOR_IP, EmulatedNetwork, mesh_ip
from testbed.emulation.network.open_vswitch import OpenVSwitch
from testbed.emulation.processes import bulk_tcp, controller_process
from testbed.emulation.processes.agent_parts import AgentParts, NodeCells, agent_parts
from testbed.emulation.processes.agents import SHARED_AGENTS, Agents
from testbed.emulation.processes.balancer_config import balancer_config
from testbed.emulation.processes.channel import EventRecord, RecordWriter
from testbed.emulation.processes.clock import RunClock
from testbed.emulation.processes.controller_process import CONTROLLER_PORT, CONTROLLERS, STANDBY_PORT
from testbed.emulation.processes.mesh import MESH_PORT, SHARED_MESH, MeshHost, MeshParts
from testbed.emulation.processes.pool_lock import nobody_inside
from testbed.emulation.processes.pulse import Pulse
from testbed.emulation.processes.sender import Sender
from testbed.emulation.processes.shared_state import SharedPeers, SharedState
from testbed.emulation.processes.status_table import PATIENCE_NS, TRIAL, StatusTable
from testbed.emulation.processes.trial_process import (
    LISTENING,
    Body,
    Stopped,
    TrialConnection,
    TrialProcess,
    wait_all_ready,
)
from testbed.engine import TrialPlan
from testbed.policies.cohorts import Cohort, divided
from testbed.policies.membership import BALANCER
from testbed.policies.pool import make_pool
from testbed.records.events import Ints, NodeLeft
from testbed.scenario.apart import nodes_apart
from testbed.scenario.network import Host
from testbed.system import kernel
from testbed.traffic.frames import ECT_0, PLANNED_DSCP
from testbed.traffic.plan import PacketPlan
from testbed.wire.mesh_messages import ORCHESTRATOR
from testbed.wire.sealing import Keyring, RunSecret

NOTIFY_PORT = 7000
TCP_SINK = "TCP sink"
_SENDER_PRIORITY = 12


class ProcessSet:
    """Forks the processes of a trial and keeps track of them.

    Attributes:
        senders: of planned packets, one a client that sends.
        tcp: sources of bulk TCP.
        others: processes that serve until they are asked to end.
        pulses: of every process with a loop, by the name of the member, and of the agent and the mesh member of every
            node, as ``agent`` or ``mesh`` and its name, also where they share one; a node's outlive its processes.
        absent: nodes that are no members of the mesh at present.
        limits: what watches the limits of nodes, by the brain that sets them; empty before the agents are forked.
    """

    def __init__(
        self, plan: TrialPlan, records: socket.socket, clock: RunClock, network: EmulatedNetwork, table: StatusTable
    ) -> None:
        self._plan, self._records_end, self._clock, self._network = plan, records, clock, network
        self._status = table
        self.senders: list[TrialProcess] = []
        self.tcp: list[TrialProcess] = []
        self.others: list[TrialProcess] = []
        self.pulses: dict[str, Pulse] = {}
        self.limits: dict[str, LimitWatch] = {}
        self._until_ns: dict[str, int] = {}
        self._secret = RunSecret()
        self.absent = plan.network.spare_nodes
        self._states = {node.name: SharedState() for node in plan.network.nodes}
        self._peers = {node.name: SharedPeers() for node in plan.network.nodes}

    def _fork(self, name: str, body: Body, period_ns: int = 0) -> TrialProcess:
        """Fork a process; it knows the keys that `body` was given and no others.

        `period_ns` is how long its loop waits at most, where that is long.
        """
        row = self._status.row(name)
        row.patience_ns = PATIENCE_NS + 2 * period_ns

        def live(trial: TrialConnection, records: RecordWriter) -> None:
            self._secret.forget()
            body(trial, records)

        return TrialProcess(name, live, self._records_end, row)

    def _ring(self, owner: str) -> Keyring:
        orchestrator = (ORCHESTRATOR,) if self._plan.scenario.reshapes else ()
        return self._secret.ring(owner, self._plan.run_id, (*self._mesh_members, BALANCER, *orchestrator))

    @property
    def addresses(self) -> dict[str, tuple[str, int]]:
        """Return where each member of the mesh and the balancer listen."""
        members = {node.name: (mesh_ip(node), MESH_PORT) for node in self._plan.network.nodes}
        return {**members, BALANCER: (MESH_SUPERVISOR_IP, NOTIFY_PORT)}

    def orchestrator_ring(self) -> Keyring:
        """Return the keys with which the stages of the nodes are announced."""
        return self._ring(ORCHESTRATOR)

    @property
    def sources(self) -> list[TrialProcess]:
        """Return who sends: the trial lasts until they have ended."""
        return [*self.senders, *self.tcp]

    @property
    def all(self) -> list[TrialProcess]:
        """Return every process."""
        return [*self.others, *self.senders, *self.tcp]

    def watched(self, processes: Iterable[TrialProcess]) -> list[Watched]:
        """Return the processes whose state must not change; a sender may end once it has sent everything."""
        return [Watched(process.name, process.pid, self._until_ns.get(process.name)) for process in processes]

    def wait_ready(self) -> None:
        """Wait until every process is ready."""
        wait_all_ready(self.all, self._status.row(TRIAL))

    def _pulse(self, process: str, period_ns: int = LONGEST_WAIT_NS) -> Pulse:
        """Return the pulse of a process, made before it is forked."""
        if process not in self.pulses:
            self.pulses[process] = self._status.row(process).pulse(period_ns)
        return self.pulses[process]

    def fork_senders(self) -> None:
        """Fork a sender for each client that has packets to send."""
        for client in self._plan.network.clients:
            packets = self._plan.packets.of_client(client.name)
            if len(packets):
                body = self._sender_of(client, packets)
                self.senders.append(self._fork(f"sender {client.name}", body))
                self._until_ns[self.senders[-1].name] = int(packets.t_ns[-1])

    def _sender_of(self, client: Host, packets: PacketPlan) -> Body:
        interface, pid = self._plan.network.data_interface(client.name), self._network.pid(client.name)
        run_id, scenario = self._plan.run_id, self._plan.scenario

        def send(trial: TrialConnection, _records: RecordWriter) -> None:
            kernel.enter_namespace(f"/proc/{pid}/ns/net", kernel.CLONE_NEWNET)
            sender = Sender(
                *(interface, packets, run_id, client),
                priority=_SENDER_PRIORITY,
                alive=trial.sign,
                past_qdisc=scenario.topology.link_delay_ns == 0,
                tos=self._tos,
                keep_stamps=scenario.record_packets,
            )
            Stopped(sender.stop)  # also while it waits for the start, and while it reports
            report = sender.run(trial.ready())
            trial.report({"client": client.name, "report": report})
            trial.stopped_early = report.stopped

        return send

    @property
    def _ecn(self) -> bool:
        return self._plan.scenario.buffer.ecn_threshold_bytes is not None

    @property
    def _tos(self) -> int:
        """Return the TOS byte of planned packets, by which a node's program tells them from all others."""
        return PLANNED_DSCP << 2 | (ECT_0 if self._ecn else 0)

    def fork_tcp(self) -> None:
        """Fork the sources and the sink of bulk TCP."""
        scenario, network = self._plan.scenario, self._plan.network
        if not scenario.tcp:
            return
        pids = {backend.name: self._network.pid(backend.name) for backend in network.of_role("backend")}
        sink = bulk_tcp.sink(pids, self._ecn, self._pulse(TCP_SINK))
        self.others.append(self._fork(TCP_SINK, sink))
        for number, spec in enumerate(scenario.tcp):
            name, pid = f"TCP source {spec.name}", self._network.pid(spec.client)
            body = bulk_tcp.source(spec, number, pid, scenario.duration_ns, self._ecn, self._pulse(name))
            self.tcp.append(self._fork(name, body))
            self._until_ns[name] = scenario.duration_ns

    @property
    def controller_ports(self) -> tuple[int, ...]:
        """Return the ports on 127.0.0.1 the switch is to connect to."""
        return (CONTROLLER_PORT, STANDBY_PORT) if self._plan.scenario.controller.standby else (CONTROLLER_PORT,)

    def fork_controllers(self, switch: OpenVSwitch) -> list[TrialProcess]:
        """Fork the balancer of the switch, and the standby, connected to each other; return them."""
        config = balancer_config(
            self._plan, switch, self._mesh_members, CONTROLLER_PORT, self._clock.now_ns, self._ring(BALANCER)
        )
        at, standby = (MESH_SUPERVISOR_IP, NOTIFY_PORT), self._plan.scenario.controller.standby
        return controller_process.fork(config, at, self._fork, self._pulse, standby=standby)

    def wait_listening(self) -> None:
        """Wait until the switch can connect to every controller: one that refuses it is tried again a second later."""
        controllers = [process for process in self.others if process.name in CONTROLLERS]
        wait_all_ready(controllers, self._status.row(TRIAL), LISTENING)

    def fork_agents(self, buffers: NodeBuffers) -> None:
        """Fork the agents: one process for all nodes but those that live apart; all share the ledger of the pool."""
        names, spec = self._mesh_members, self._plan.scenario.buffer
        ledger: Ints = np.frombuffer(mmap.mmap(-1, 8 * len(names)), dtype=np.int64)
        ledger[:] = buffers.limit_bytes
        self._pool = make_pool(spec, names, ledger)
        cohorts = divided(names, spec.sample_interval_ns, apart=nodes_apart(self._plan.scenario, names))
        self._apart = {names[cohort.rows.start]: cohort for cohort in cohorts if cohort.apart}
        self._shared = [cohort for cohort in cohorts if not cohort.apart]
        if self._shared:
            self.others.append(self._fork_agents(SHARED_AGENTS, self._shared, buffers))
        alone = [(node, cohort) for node, cohort in self._apart.items() if node not in self._plan.network.spare_nodes]
        self.others += [self._fork_agents(f"agent {node}", [cohort], buffers) for node, cohort in alone]

    def _fork_agents(self, name: str, cohorts: Sequence[Cohort], buffers: NodeBuffers) -> TrialProcess:
        interval_ns = self._plan.scenario.buffer.sample_interval_ns
        return self._fork(name, Agents([self._agent_parts(cohort, buffers) for cohort in cohorts]), interval_ns)

    def _agent_parts(self, cohort: Cohort, buffers: NodeBuffers) -> AgentParts:
        """Return what the agent of a cohort works with; its pulse and what watches its limits outlive it."""
        names, interval_ns = self._mesh_members[cohort.rows], self._plan.scenario.buffer.sample_interval_ns
        pulse = self.pulses.get(f"agent {names[0]}") or Pulse(interval_ns)
        self.pulses.update({f"agent {node}": pulse for node in names})
        if cohort.policy not in self.limits:
            frame_bytes = self._network.largest_frame_bytes
            self.limits[cohort.policy] = LimitWatch(names, buffers.limit_bytes[cohort.rows], frame_bytes)
        cells = {node: NodeCells(self._ring(node), self._states[node], self._peers[node]) for node in names}
        to = (MESH_SUPERVISOR_IP, NOTIFY_PORT)
        return agent_parts(
            self._plan, self._network, buffers, cohort, cells, self._pool, to, pulse, self.limits[cohort.policy]
        )

    @property
    def _mesh_members(self) -> tuple[str, ...]:
        return tuple(node.name for node in self._plan.network.nodes)

    def fork_mesh(self) -> None:
        """Fork the mesh: one process for all nodes but those that live apart; a node alone has nobody to monitor it."""
        names = self._mesh_members
        apart = nodes_apart(self._plan.scenario, names)
        self._shared_mesh = [node for node in names if node not in apart]
        if len(names) > 1:
            self.others += [self._fork_mesh(SHARED_MESH, self._shared_mesh)] if self._shared_mesh else []
            alone = apart - set(self._plan.network.spare_nodes)
            self.others += [self._fork_mesh(f"mesh {node}", [node]) for node in names if node in alone]

    def _fork_mesh(self, name: str, nodes: Sequence[str]) -> TrialProcess:
        if f"mesh {nodes[0]}" not in self.pulses:
            pulse = self._status.row(name).pulse(LONGEST_WAIT_NS)
            self.pulses.update({f"mesh {node}": pulse for node in nodes})
        return self._fork(name, MeshHost([self._mesh_parts(node) for node in nodes], self.pulses[f"mesh {nodes[0]}"]))

    def release_memory(self, node: str, reason: str = "crash") -> None:
        """Give back to the pool what a node held that is gone, all but its floor."""
        with nobody_inside():
            left, now_ns = NodeLeft(node=node, reason=reason), self._clock.now_ns()
            self._pool.handle(left, now_ns)
        RecordWriter(self._records_end).send(EventRecord.of(now_ns, left, "pool", "in"))

    def revive(self, node: str, buffers: NodeBuffers, t0_ns: int) -> list[TrialProcess]:
        """Restart the processes of a crashed node and return them, running."""
        processes = self.fork_node(node, buffers)
        wait_all_ready(processes, self._status.row(TRIAL))
        self.take_in(processes, t0_ns)
        return processes

    def of_node(self, node: str) -> list[TrialProcess]:
        """Return the last processes of a node that lives apart."""
        return [process for process in self.others if process.name in (f"agent {node}", f"mesh {node}")]

    def fork_node(self, node: str, buffers: NodeBuffers) -> list[TrialProcess]:
        """Fork the processes of a node that lives apart and has none; return them, not ready yet."""
        processes = [self._fork_agents(f"agent {node}", [self._apart[node]], buffers)]
        if len(self._mesh_members) > 1:
            processes.append(self._fork_mesh(f"mesh {node}", [node]))
        return processes

    def nodes_of(self, name: str) -> list[str]:
        """Return the nodes whose agent is the process of that name; none for any other process."""
        if name == SHARED_AGENTS:
            return [node for cohort in self._shared for node in self._mesh_members[cohort.rows]]
        kind, _, node = name.partition(" ")
        return [node] if kind == "agent" else []

    def fork_anew(self, name: str, buffers: NodeBuffers, switch: OpenVSwitch) -> list[TrialProcess]:
        """Fork the process of a name once more, and return it, not ready yet; nothing for one that cannot be."""
        kind, _, node = name.partition(" ")
        if kind in (SHARED_AGENTS, "agent"):
            return [self._fork_agents(name, [self._apart[node]] if node else self._shared, buffers)]
        if kind == SHARED_MESH:
            return [self._fork_mesh(name, [node] if node else self._shared_mesh)]
        alone = name in CONTROLLERS and not self._plan.scenario.controller.standby
        return self.fork_controllers(switch) if alone else []

    def take_in(self, processes: Sequence[TrialProcess], t0_ns: int) -> None:
        """Start processes that are ready; they replace those that had the same names before."""
        for process in processes:
            process.start(t0_ns)
        fresh = {process.name: process for process in processes}
        for former in self.others:
            if former.name in fresh:
                former.close()
        before = [process for process in self.others if process.name not in fresh]
        self.others = [*before, *processes]

    def _mesh_parts(self, node: str) -> MeshParts:
        plan = self._plan
        return MeshParts(
            node=node,
            namespace_pid=self._network.pid(node),
            address_of=self.addresses,
            members=self._mesh_members,
            absent=self.absent,
            spec=plan.scenario.mesh,
            ring=self._ring(node),
            seed=plan.seed_of(f"mesh {node}"),
            state=self._states[node],
            peers=self._peers[node],
        )
