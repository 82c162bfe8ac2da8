"""One emulated trial, from inside the sandbox: build, start, watch, drain, count.

    prepare ─ every part made, every member ready ─ t0 ─ traffic ─ drain ─ counts ─ Outcome

This is PID 1.  It holds the maps of all XDP programs and forks the members: a sender for each client, the balancer, an
agent for each node.  When it returns the sandbox is gone, so there is no way to forget something.
"""

from __future__ import annotations

import mmap
import os
import select
import socket
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from controllers import load_balancer
from controllers.config import BalancerConfig, Station, Vip
from controllers.liveness import MeshAccess
from controllers.mesh_messages import KEY_BYTES
from testbed.emulation import bulk_tcp, kernel, offloads, shaping
from testbed.emulation.agent import Agent, AgentParts
from testbed.emulation.clock import RunClock
from testbed.emulation.counting import Counting
from testbed.emulation.faults import Faults, Ground
from testbed.emulation.machine import MachineWatch
from testbed.emulation.members import Body, Line, Member, wait_all_ready
from testbed.emulation.mesh import MESH_PORT, MeshMember, MeshParts
from testbed.emulation.network import MESH_SUPERVISOR_IP, EmulatedNetwork, mesh_ip
from testbed.emulation.open_vswitch import OpenVSwitch
from testbed.emulation.records import EventRecord, Failure, Outcome, RecordWriter
from testbed.emulation.sender import Sender
from testbed.emulation.shared_state import SharedState
from testbed.emulation.xdp import NodeProgram, PassProgram, SinkProgram
from testbed.errors import EXIT_OK, EXIT_TOOL_FAILED, MachineError, TestbedError, ToolError
from testbed.events import Action, Event, Ints, Record
from testbed.policies.brain import NodeBrain
from testbed.policies.forecast import Forecaster
from testbed.policies.membership import BALANCER
from testbed.policies.pool import make_pool
from testbed.results.evidence import TcpEvidence
from testbed.spec.scenario import Scenario
from testbed.spec.topology import VIP_IP, VIP_IP6, VIP_MAC, Host, Network, bucket_bytes
from testbed.traffic.frames import ECT_0
from testbed.traffic.plan import PacketPlan
from testbed.units import NS_PER_MS, NS_PER_S

NOTIFY_PORT = 7000
CONTROLLER_PORT = 6653
STOP = b"stop"
_START_AHEAD_NS = 60 * NS_PER_MS  # between "all are ready" and t0: time to hand t0 to every member
_WATCH_S = 0.05
_SETTLED_NS = 200 * NS_PER_MS
_SENDER_PRIORITY = 12
_FAULT_PRIORITY = 9

MakeForecaster = Callable[[tuple[str, ...], Ints], "Forecaster | None"]


@dataclass(frozen=True, slots=True)
class TrialPlan:
    """What a trial is told before the sandbox is forked.

    Attributes:
        scenario, network: what to build.
        packets: what to send.
        make_forecaster: gives a fresh forecaster for nodes and their rates, None when the policy has none.
        seed_of: derives the seed of a named stream.
        logs: where daemons and members write.
        run_id: the mark in every data packet.
    """

    scenario: Scenario
    network: Network
    packets: PacketPlan
    make_forecaster: MakeForecaster
    seed_of: Callable[[str], int]
    logs: Path

    @property
    def run_id(self) -> int:
        """Return the 32-bit mark of this run's packets."""
        return zlib.crc32(self.packets.digest().encode()) or 1


class Trial:
    """Runs in the sandbox; `run` returns its exit status."""

    def __init__(self, plan: TrialPlan, records: socket.socket, control: socket.socket, began_ns: int) -> None:
        self._plan, self._records_end, self._control, self._began_ns = plan, records, control, began_ns
        self._records = RecordWriter(records)
        self._clock = RunClock()
        self._senders: list[Member] = []
        self._tcp: list[Member] = []
        self._others: list[Member] = []
        self._mesh_key = os.urandom(KEY_BYTES)
        self._states = {node.name: SharedState() for node in plan.network.nodes}

    def run(self) -> int:
        """Do the trial."""
        _log_to(self._plan.logs / "trial.log")
        try:
            self._prepare()
            counting = self._go()
            self._finish(counting)
        except TestbedError as error:
            self._records.send(Failure("trial", error))
            return EXIT_TOOL_FAILED
        return EXIT_OK

    # ------------------------------------------------------------------------------------------------------ prepare

    def _prepare(self) -> None:
        plan = self._plan
        # A cached flow must be gone before its pin is: else it would follow the slots for a moment.
        self._switch = OpenVSwitch(plan.logs, plan.scenario.balancer.affinity_idle_ns // 2)
        self._network = EmulatedNetwork(plan.network)
        self._fork_senders()  # their frames take longest to make
        self._fork_tcp()
        self._switch.widen_receive_buffers()
        self._fork_balancer()
        self._load_programs()
        self._switch.connect_controller("s1", CONTROLLER_PORT)  # the balancer has had time to listen
        self._fork_agents()
        self._fork_mesh()
        wait_all_ready([*self._senders, *self._tcp, *self._others])

    def _load_programs(self) -> None:
        buffer, network = self._plan.scenario.buffer, self._plan.network
        rates = np.array([network.node_rate_bps(node.name) for node in network.nodes], dtype=np.int64)
        names = tuple(node.name for node in network.nodes)
        self._limits = NodeBrain(names, buffer, rates, self._plan.make_forecaster(names, rates)).initial_limit_bytes()
        self._programs: dict[str, NodeProgram] = {}
        self._sinks: dict[str, SinkProgram] = {}
        self._qdiscs: dict[str, shaping.QdiscReader] = {}
        self._xdp_modes: dict[str, str] = {}
        for node, limit_bytes in zip(network.nodes, self._limits.tolist(), strict=True):
            self._load_node(node.name, network.node_rate_bps(node.name), limit_bytes)

    def _load_node(self, node: str, rate_bps: int, limit_bytes: int) -> None:
        plan, network = self._plan, self._plan.network
        backend = network.next_hop(node)
        egress = network.interface(node, backend)
        host = network.host(node)
        program = NodeProgram(
            rate_bps,
            bucket_bytes(rate_bps),
            limit_bytes,
            number=host.number,
            mac=host.mac,
            local_addresses=(host.ip, host.ip6),
            log_directory=plan.logs,
        )
        program.set_ecn_threshold(plan.scenario.buffer.ecn_threshold_bytes or 0)
        program.set_classes({bulk_tcp.PLANNED_DSCP: bulk_tcp.PLANNED_CLASS} if plan.scenario.tcp else {})
        sink = SinkProgram(plan.run_id, len(plan.packets.flows), log_directory=plan.logs)
        with kernel.network_of(self._network.pid(node)):
            shaping.shape(egress, rate_bps, 2 * plan.scenario.buffer.max_bytes)
            self._qdiscs[node] = shaping.QdiscReader(egress)
            ingress = network.interface(node, "s1")
            self._xdp_modes[node] = program.attach(socket.if_nametoindex(ingress))
            offloads.switch_gro_off(ingress)
        with kernel.network_of(self._network.pid(backend)):
            sink.attach(socket.if_nametoindex(network.interface(backend, node)))
        self._programs[node], self._sinks[node] = program, sink
        if plan.scenario.buffer.deflect:
            self._take_back(network.interface("s1", node))

    def _take_back(self, port: str) -> None:
        """Make the switch's end of a node's link take frames the node's program sends back.

        Raises:
            MachineError: it cannot, so that every deflected packet would be lost.
        """
        with PassProgram(self._plan.logs) as program:
            if program.attach(socket.if_nametoindex(port)) != "native":
                happened = f"{port} takes no native XDP program ({program.native_refusal})"
                raise MachineError("buffer.deflect", happened, "set buffer.deflect to false")
        offloads.switch_gro_off(port)

    def _fork_senders(self) -> None:
        for client in self._plan.network.clients:
            packets = self._plan.packets.of_client(client.name)
            if len(packets):
                body = self._sender_of(client, packets)
                self._senders.append(Member(f"sender {client.name}", body, self._records_end))

    def _sender_of(self, client: Host, packets: PacketPlan) -> Body:
        interface, pid = self._plan.network.interface(client.name, "s1"), self._network.pid(client.name)

        def send(line: Line, _records: RecordWriter) -> None:
            kernel.enter_namespace(f"/proc/{pid}/ns/net", kernel.CLONE_NEWNET)
            run_id, direct = self._plan.run_id, self._plan.scenario.topology.link_delay_ns == 0
            sender = Sender(
                interface, packets, run_id, client, priority=_SENDER_PRIORITY, past_qdisc=direct, tos=self._tos
            )
            report = sender.run(line.ready())
            line.report({"client": client.name, "report": report})

        return send

    @property
    def _ecn(self) -> bool:
        return self._plan.scenario.buffer.ecn_threshold_bytes is not None

    @property
    def _tos(self) -> int:
        """Return the TOS byte of planned packets: beside TCP they have a class of their own."""
        dscp = bulk_tcp.PLANNED_DSCP if self._plan.scenario.tcp else 0
        return dscp << 2 | (ECT_0 if self._ecn else 0)

    def _fork_tcp(self) -> None:
        scenario, network = self._plan.scenario, self._plan.network
        if not scenario.tcp:
            return
        pids = {backend.name: self._network.pid(backend.name) for backend in network.of_role("backend")}
        self._others.append(Member("TCP sink", bulk_tcp.sink(pids, self._ecn), self._records_end))
        for number, spec in enumerate(scenario.tcp):
            body = bulk_tcp.source(spec, number, self._network.pid(spec.client), scenario.duration_ns, self._ecn)
            self._tcp.append(Member(f"TCP source {spec.name}", body, self._records_end))

    def _fork_balancer(self) -> None:
        config = self._balancer_config()
        notifications = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        notifications.bind((MESH_SUPERVISOR_IP, NOTIFY_PORT))

        def balance(line: Line, records: RecordWriter) -> None:
            def emit(t_ns: int, record: dict[str, Any]) -> None:
                records.send(EventRecord(t_ns, {**_directed(record), **record}))
                if record["kind"] == "BalancerReady":
                    line.say_ready()

            load_balancer.serve(config, notifications, emit)

        self._others.append(Member("balancer", balance, self._records_end))
        notifications.close()

    def _balancer_config(self) -> BalancerConfig:
        plan, network = self._plan, self._plan.network
        ends = [*network.clients, *network.nodes]
        interfaces = {host.name: network.interface("s1", host.name) for host in ends}
        ports = self._switch.port_numbers(list(interfaces.values()))

        def station(name: str) -> Station:
            host = network.host(name)
            return Station(name, ports[interfaces[name]], host.mac, host.ip, host.ip6)

        return BalancerConfig(
            dpid=1,
            listen_port=CONTROLLER_PORT,
            vip=Vip(VIP_IP, VIP_MAC, VIP_IP6),
            clients=tuple(station(client.name) for client in network.clients),
            nodes=tuple(station(node.name) for node in network.first_tier),
            second_tier=tuple(station(node.name) for node in network.nodes if node.tier > 1),
            deflecting=network.nodes if plan.scenario.buffer.deflect else (),
            mesh=MeshAccess(self._mesh_key, plan.run_id, self._mesh_members, plan.scenario.mesh.watchers),
            spec=plan.scenario.balancer,
            seed=plan.seed_of("balancer"),
            now_ns=self._clock.now_ns,
        )

    def _brain(self, node: str, rate_bps: Ints, members: int) -> NodeBrain:
        forecaster = self._plan.make_forecaster((node,), rate_bps)
        return NodeBrain((node,), self._plan.scenario.buffer, rate_bps, forecaster, pool_members=members)

    def _fork_agents(self) -> None:
        plan, network = self._plan, self._plan.network
        names = tuple(node.name for node in network.nodes)
        ledger: Ints = np.frombuffer(mmap.mmap(-1, 8 * len(names)), dtype=np.int64)
        ledger[:] = self._limits
        interval_ns = plan.scenario.buffer.sample_interval_ns
        for index, node in enumerate(names):
            rate = np.array([network.node_rate_bps(node)], dtype=np.int64)
            parts = AgentParts(
                node=node,
                namespace_pid=self._network.pid(node),
                egress=network.interface(node, network.next_hop(node)),
                program=self._programs[node],
                sink=self._sinks[node],
                brain=self._brain(node, rate, len(names)),
                pool=make_pool(plan.scenario.buffer, names, ledger),
                interval_ns=interval_ns,
                phase_ns=interval_ns * index // len(names),
                balancer=(MESH_SUPERVISOR_IP, NOTIFY_PORT),
                state=self._states[node],
                mac_of={host.name: host.mac for host in network.nodes} if plan.scenario.buffer.deflect else {},
                unplanned=bool(plan.scenario.tcp),
            )
            self._others.append(Member(f"agent {node}", Agent(parts), self._records_end))

    @property
    def _mesh_members(self) -> tuple[str, ...]:
        return tuple(node.name for node in self._plan.network.nodes)

    def _fork_mesh(self) -> None:
        """Fork a mesh member for each node; a node alone has nobody to watch it."""
        members = self._mesh_members if len(self._mesh_members) > 1 else ()
        self._others += [Member(f"mesh {node}", self._mesh_member(node), self._records_end) for node in members]

    def _mesh_member(self, node: str) -> MeshMember:
        plan, network = self._plan, self._plan.network
        parts = MeshParts(
            node=node,
            namespace_pid=self._network.pid(node),
            address_of={
                **{host.name: (mesh_ip(host), MESH_PORT) for host in network.nodes},
                BALANCER: (MESH_SUPERVISOR_IP, NOTIFY_PORT),
            },
            members=self._mesh_members,
            spec=plan.scenario.mesh,
            key=self._mesh_key,
            run_id=plan.run_id,
            seed=plan.seed_of(f"mesh {node}"),
            state=self._states[node],
        )
        return MeshMember(parts)

    # ----------------------------------------------------------------------------------------------------- traffic

    def _go(self) -> Counting:
        """Start the clock, watch until the senders are done, and return what counts the outcome."""
        counting = Counting(self._plan, self._programs, self._sinks, self._qdiscs, self._switch, self._network)
        watch = MachineWatch()
        t0_ns = time.monotonic_ns() + _START_AHEAD_NS
        self._clock.start_at(t0_ns)
        for member in [*self._others, *self._senders, *self._tcp]:
            member.start(t0_ns)
        self._faults = self._make_faults()
        if self._plan.scenario.faults:
            kernel.run_in_real_time(_FAULT_PRIORITY)  # a fault is to happen at its time, and all of it at once
        self._setup_s = (t0_ns - self._began_ns) / NS_PER_S
        self._watch_until_sent(watch)
        self._ran_ns = min(time.monotonic_ns() - t0_ns, self._plan.scenario.duration_ns)
        self._machine = watch.finish()
        self._drain()
        return counting

    def _watch_until_sent(self, watch: MachineWatch) -> None:
        sources = [*self._senders, *self._tcp]
        while not all(source.ended() for source in sources):
            if select.select([self._control], [], [], self._until_next_fault_s())[0]:
                self._control.recv(len(STOP))
                for source in sources:
                    source.stop()
            self._faults.carry_out_due()
            watch.tick()
            self._check_members()
        self._faults.finish()

    def _make_faults(self) -> Faults:
        def tell(kind: str, fields: dict[str, Any]) -> None:
            self._records.send(EventRecord(self._clock.now_ns(), {"kind": kind, **fields}))

        ground = Ground(
            network=self._network,
            programs=self._programs,
            sinks=self._sinks,
            qdiscs=self._qdiscs,
            members={member.name: member for member in self._others},
            plan=self._plan.packets,
            now_ns=self._clock.now_ns,
            tell=tell,
        )
        return Faults(self._plan.scenario.faults, ground)

    def _until_next_fault_s(self) -> float:
        due_ns = self._faults.next_ns()
        wait_s = _WATCH_S if due_ns is None else (due_ns - self._clock.now_ns()) / NS_PER_S
        return min(_WATCH_S, max(0.0, wait_s))

    def _check_members(self) -> None:
        dead = self._switch.dead() or next((member.name for member in self._living if member.ended()), None)
        sources = [*self._senders, *self._tcp]
        failed = next((source.name for source in sources if source.status not in (None, EXIT_OK)), None)
        if dead or failed:
            raise ToolError("watching the trial", f"{dead or failed} has died", "read logs/ in the run directory")

    @property
    def _living(self) -> list[Member]:
        """Return the members that no fault has ended."""
        return [member for member in self._others if member.name not in self._faults.ended]

    def _drain(self) -> None:
        """Wait until every queue is empty and nothing arrives any more, at most as long as a full buffer takes."""
        network, buffer = self._plan.network, self._plan.scenario.buffer
        slowest_bps = min(network.node_rate_bps(node.name) for node in network.nodes)
        longest_ns = buffer.max_bytes * 8 * NS_PER_S // slowest_bps + NS_PER_S
        now_ns = time.monotonic_ns()
        deadline_ns, settled_ns = now_ns + longest_ns, now_ns + _SETTLED_NS
        before = self._progress()
        while now_ns < min(deadline_ns, settled_ns):
            time.sleep(0.02)
            now_ns, after = time.monotonic_ns(), self._progress()
            if after != before or self._waiting_pkts():
                before, settled_ns = after, now_ns + _SETTLED_NS
            self._check_members()

    def _progress(self) -> tuple[int, ...]:
        counters = [program.snapshot().arrived_pkts for program in self._programs.values()]
        return (*counters, *(sink.snapshot().delivered_pkts for sink in self._sinks.values()))

    def _waiting_pkts(self) -> int:
        return sum(qdisc.read().backlog_pkts for qdisc in self._qdiscs.values())

    # ------------------------------------------------------------------------------------------------------ finish

    def _finish(self, counting: Counting) -> None:
        costs = {member.name: member.cost() for member in self._living}
        for member in self._living:
            member.stop()
        for member in self._living:
            member.join(timeout_s=1.0)
        self._faults.report_losses(self._ran_ns)
        reports = [sender.reported() for sender in self._senders]
        evidence = counting.evidence(
            reports, self._faults, self._xdp_modes, ran_ns=self._ran_ns, setup_s=self._setup_s, machine=self._machine
        )
        evidence = replace(evidence, tcp=tuple(TcpEvidence(**source.reported()) for source in self._tcp))
        self._records.send(Outcome(evidence, {"xdp_modes": self._xdp_modes, "members": costs}))


def _directed(record: dict[str, Any]) -> dict[str, str]:
    """Return whether a policy's record went in or came out; neither for records of the process itself."""
    kind = Record.kinds.get(record["kind"])
    if kind is None:
        return {}
    return {"direction": "in" if issubclass(kind, Event) else "out"} if issubclass(kind, (Event, Action)) else {}


def _log_to(path: Path) -> None:
    """Send what this process and its children print to a file."""
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o644)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    os.close(descriptor)
