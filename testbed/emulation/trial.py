"""One emulated trial, from inside the sandbox: build, start, watch, drain, count.

    prepare ─ every part made, every process ready ─ t0 ─ traffic ─ drain ─ counts ─ Outcome

This is PID 1 of the sandbox: it holds the maps of all XDP programs and forks the processes.  When it ends, so does it.
"""

from __future__ import annotations

import os
import signal
import socket
import time
import traceback
from collections.abc import Callable, Collection
from dataclasses import replace
from functools import partial

from testbed.controllers import framework
from testbed.emulation.cluster import Cluster
from testbed.emulation.cpu_quota import CpuQuota
from testbed.emulation.dataplane.counting import Counting
from testbed.emulation.dataplane.node_buffers import NodeBuffers
from testbed.emulation.drain import Drain
from testbed.emulation.faults.act import FaultContext
from testbed.emulation.faults.faults import Faults
from testbed.emulation.inventory.inventory import Inventory
from testbed.emulation.inventory.processes import Watched
from testbed.emulation.machine import MachineWatch
from testbed.emulation.network import forwarding, switch_ports
from testbed.emulation.network.mininet import MESH_SUPERVISOR_IP, EmulatedNetwork
from testbed.emulation.network.names import write_names
from testbed.emulation.network.open_vswitch import OpenVSwitch
from testbed.emulation.processes.announcer import Announcer
from testbed.emulation.processes.channel import EventRecord, Failure, Outcome, RecordWriter
from testbed.emulation.processes.clock import RunClock
from testbed.emulation.processes.process_set import ProcessSet
from testbed.emulation.processes.stage_watch import ordered_faults, packet_stages, process_stages, sender_stages
from testbed.emulation.processes.status_table import SETTING_UP_NS, TRAFFIC, TRIAL, StatusTable
from testbed.emulation.processes.trial_process import TrialProcess, join_all
from testbed.emulation.restarts import Restarts
from testbed.engine import TrialPlan
from testbed.errors import EXIT_INTERRUPTED, EXIT_OK, EXIT_TOOL_FAILED, Interrupted, ToolError
from testbed.policies.orchestrator import Orchestrator
from testbed.records.events import LogEntry
from testbed.records.evidence import NodeEvidence, TcpEvidence
from testbed.records.registry import evaluate_declarations
from testbed.system import interrupts, kernel, streams, waiting
from testbed.traffic.planned_load import ahead_of
from testbed.units import NS_PER_MS, NS_PER_S

_START_AHEAD_NS = 60 * NS_PER_MS  # between "all are ready" and t0: time to hand t0 to every process
_WATCH_NS = 50 * NS_PER_MS
_LONGEST_AFTER_NS = 10 * NS_PER_S  # senders give a packet up when it is a second late
_FAULT_PRIORITY = 9
_EXITING_NS = 200 * NS_PER_MS  # a process that dies loses its descriptors first and is reported dead after that


class Trial:
    """Runs in the sandbox; `run` returns its exit status.

    A request to stop (SIGTERM) ends set-up at once; later it ends the traffic, and what was is counted.
    """

    def __init__(self, plan: TrialPlan, records: socket.socket, table: StatusTable, quota: CpuQuota) -> None:
        self._status, self._row = table, table.row(TRIAL)
        self._quota = quota
        self._plan, self._records_end = plan, records
        self._records = RecordWriter(records)
        self._clock = RunClock()
        self._stopping = self._may_count = False
        self._fates: list[Callable[[], str | None]] = []  # each says how a part of the trial has ended
        self._cluster: Cluster | None = None
        self._let_go: Collection[str] = ()  # the processes that a fault has ended

    def run(self) -> int:
        """Do the trial."""
        streams.send_to(self._plan.logs / "trial.log")
        for number in interrupts.STOP_SIGNALS:
            signal.signal(number, self._stop)
        try:
            self._prepare()
            counting = self._go()
            self._finish(counting)
        except BaseException as error:  # noqa: BLE001 (the top-level handler of PID 1; Mininet ends with SystemExit)
            traceback.print_exc()
            self._records.send(Failure.of(TRIAL, self._cause(error)))
            return EXIT_TOOL_FAILED
        return EXIT_OK

    def _cause(self, error: BaseException) -> BaseException:
        """Return why the trial failed: a part of it that has ended says more than what that led to."""
        until_ns = time.monotonic_ns() + _EXITING_NS
        fate = None
        while not isinstance(error, Interrupted) and fate is None and time.monotonic_ns() < until_ns:
            waiting.readable([], NS_PER_MS)
            fate = self._fate_of_a_part()
        return error if fate is None else ToolError("running the trial", fate, "read logs/ in the run directory")

    def _fate_of_a_part(self) -> str | None:
        """Return how a part of the trial has ended that was to live on, None while all live."""
        return next(filter(None, (fate() for fate in self._fates)), None)

    def _stop(self, *_: object) -> None:
        self._stopping = True
        if not self._may_count:
            raise Interrupted("running the trial", "interrupted before its traffic began")

    # ------------------------------------------------------------------------------------------------------ prepare

    def _prepare(self) -> None:
        doing = partial(self._row.does, patience_ns=SETTING_UP_NS)
        self._phase("starting the switch")
        evaluate_declarations()
        self._real_time = kernel.may_run_in_real_time()
        # A cached flow must be gone before its pin is: else it would follow the slots for a moment.
        self._switch = OpenVSwitch(self._plan.logs, self._plan.scenario.balancer.affinity_idle_ns // 2)
        self._fates.append(self._switch.fate)
        with self._switch.needed():
            self._build(doing)

    def _phase(self, name: str) -> None:
        """Begin a phase of the set-up."""
        self._row.does(name, SETTING_UP_NS)
        self._plan.phases.begin(name, time.monotonic_ns())

    def _build(self, doing: Callable[[str], None]) -> None:
        plan = self._plan
        largest_bytes = max(source.packet_bytes for source in plan.scenario.planned)
        ports = switch_ports.choose(plan.scenario, plan.network, self._switch)
        self._phase("making the network")
        in_kernel = bool(ports.of("kernel"))
        self._network = EmulatedNetwork(plan.network, largest_bytes, doing, ports.of("afxdp"), in_kernel=in_kernel)
        self._phase("waiting for the ports of the switch")
        framework.preload(plan.scenario.controller.framework)  # while the switch makes its ports
        self._ports = switch_ports.settled(ports, plan.scenario.topology.switch_ports, self._switch)
        write_names(plan.network)
        self._phase("forking senders and controllers")
        self._processes = ProcessSet(plan, self._records_end, self._clock, self._network, self._status)
        self._fates.append(self._fate_of_process)
        self._processes.fork_senders()  # their frames take longest to make
        self._processes.fork_tcp()
        self._processes.others += self._processes.fork_controllers(self._switch)
        self._phase("loading the programs")
        self._buffers = NodeBuffers(plan, self._network, doing, self._ports.of("afxdp"))
        self._phase("connecting the controllers")
        self._processes.wait_listening()
        self._switch.connect_controllers(plan.network.data_switches, self._processes.controller_ports)
        forwarding.install(plan.network, self._switch, plan.seed_of("paths"))
        self._phase("forking agents and the mesh")
        self._processes.fork_agents(self._buffers)
        self._processes.fork_mesh()
        self._phase("waiting for the processes")
        self._processes.wait_ready()
        self._phase("setting up counters and buffers of the switch")
        self._switch.count_packet_ins(plan.network.switch)
        for port in self._ports.of("packet")[:1]:
            self._switch.widen_buffers(port.rpartition("-")[0], port)

    # ----------------------------------------------------------------------------------------------------- traffic

    def _go(self) -> Counting:
        """Start the clock, watch until the senders are done, and return what counts the outcome."""
        buffers = self._buffers
        context = self._context_of_faults()
        self._faults = Faults(self._plan.scenario.faults, context, buffers.sinks, self._clock.now_ns, self._write)
        self._let_go = self._faults.counters.ended
        self._may_count = True
        self._phase("recording the initial configuration")
        counting = Counting(self._plan, buffers, self._switch, self._network, self._ports.of("afxdp"))
        self._inventory = Inventory(self._network, buffers.programs, self._plan.logs, self._clock.now_ns)
        watch = MachineWatch(self._quota)
        self._phase("distributing the start time")
        ready_s = {process.name: self._plan.phases.since_s(process.ready_ns) for process in self._processes.all}
        t0_ns = self._t0_ns = time.monotonic_ns() + _START_AHEAD_NS
        self._clock.start_at(t0_ns)
        buffers.begin(t0_ns)
        for process in self._processes.all:
            process.start(t0_ns)
        if self._plan.scenario.unsteady:
            kernel.run_in_real_time(_FAULT_PRIORITY)  # a fault is to happen at its time, and all of it at once
        self._cluster = self._make_cluster(t0_ns) if self._plan.scenario.reshapes else None
        self._restarts = self._make_restarts(context, t0_ns)
        self._setup = {"phases_s": self._plan.phases.lasted_s(t0_ns), "ready_s": ready_s}
        self._setup_s = self._plan.phases.since_s(t0_ns)
        self._row.does(TRAFFIC)
        self._watch_until_sent(watch)
        now_ns = time.monotonic_ns()
        self._ran_ns = min(now_ns - t0_ns, self._plan.scenario.duration_ns)
        ended = {*self._faults.counters.ended, *(source.name for source in self._processes.tcp)}
        self._stages = tuple(process_stages(self._processes.pulses, t0_ns, now_ns, ended, self._ran_ns))
        self._machine = watch.finish()
        self._drain = self._drained()
        self._row.does("comparing the configuration", SETTING_UP_NS)
        beside = [found for limits in self._processes.limits.values() for found in limits.differences()]
        self._changes = self._inventory.changes(self._watched(), self._faults.done.every, beside)
        return counting

    def _watch_until_sent(self, watch: MachineWatch) -> None:
        sources = self._processes.sources
        told = False
        while not all(source.ended() for source in sources):
            filenos = self._cluster.filenos() if self._cluster else []
            waiting.readable([self._inventory.fileno(), *filenos], self._until_due_ns())
            self._row.sign(time.monotonic_ns())
            if self._stopping and not told:
                told = True
                for source in sources:
                    source.stop()
            self._inventory.look(self._watched())
            self._faults.carry_out_due()
            if self._cluster is not None:
                self._cluster.turn()
            watch.tick()
            if self._plan.restarts:
                self._restarts.look()
            self._check_parts()
            self._check_end()
        self._faults.finish()
        if self._cluster is not None:
            self._cluster.end()

    def _check_end(self) -> None:
        """Fail if a source still sends long after the last packet was due."""
        if self._clock.now_ns() < self._plan.scenario.duration_ns + _LONGEST_AFTER_NS:
            return
        late = ", ".join(source.name for source in self._processes.sources if not source.ended())
        happened = f"{late} has not ended {_LONGEST_AFTER_NS // NS_PER_S} s after its last packet was due"
        raise ToolError("watching the trial", happened, "do not signal processes of a trial, and run again")

    def _watched(self) -> list[Watched]:
        """Return the processes that are not to change now: none of them before the clock has started."""
        if not self._clock.now_ns():
            return []
        daemons = [Watched(name, pid) for name, pid in {**self._switch.pids, "trial": os.getpid()}.items()]
        return daemons + self._processes.watched(self._processes.others if self._stopping else self._processes.all)

    def _write(self, record: LogEntry) -> None:
        self._records.send(EventRecord.of(self._clock.now_ns(), record))

    def _context_of_faults(self) -> FaultContext:
        processes, buffers = self._processes, self._buffers
        return FaultContext(
            network=self._network,
            buffers=buffers,
            seed_of=self._plan.seed_of,
            processes={process.name: process for process in processes.others},
            release=processes.release_memory,
            revive=lambda node: processes.revive(node, buffers, self._t0_ns),
            failed=lambda node: self._cluster.failed(node) if self._cluster else None,
            runs=lambda node: self._cluster is None or self._cluster.runs(node),
        )

    def _make_restarts(self, faults: FaultContext, t0_ns: int) -> Restarts:
        return Restarts(self._processes, self._buffers, self._switch, faults, t0_ns, self._row, self._write)

    def _make_cluster(self, t0_ns: int) -> Cluster:
        plan, processes = self._plan, self._processes
        ahead = ahead_of(plan.packets, plan.scenario.autoscaler.period_ns)
        ring = processes.orchestrator_ring()
        announcer = Announcer(processes.addresses, ring, self._clock.now_ns, MESH_SUPERVISOR_IP)
        return Cluster(
            Orchestrator(plan.scenario, plan.network, ahead),
            announcer,
            processes,
            self._buffers,
            self._faults.counters,
            t0_ns,
            self._records.send,
            plan.network.spare_nodes,
        )

    def _until_due_ns(self) -> int:
        due = (self._faults.next_ns(), self._cluster.next_ns() if self._cluster else None)
        due_ns = min((at_ns for at_ns in due if at_ns is not None), default=None)
        return _WATCH_NS if due_ns is None else min(_WATCH_NS, max(0, due_ns - self._clock.now_ns()))

    def _check_parts(self) -> None:
        if fate := self._fate_of_a_part():
            raise ToolError("watching the trial", fate, "read logs/ in the run directory")

    def _fate_of_process(self) -> str | None:
        others = (process.fate() for process in self._living if process.ended())
        return next(others, None) or next(filter(None, map(self._fate_of_source, self._processes.sources)), None)

    def _fate_of_source(self, source: TrialProcess) -> str | None:
        """Return how a source ended, unless it ended normally or on request of the trial."""
        rightly = (EXIT_OK, EXIT_INTERRUPTED) if self._stopping else (EXIT_OK,)
        return source.fate() if source.ended() and source.status not in rightly else None

    @property
    def _living(self) -> list[TrialProcess]:
        """Return the processes that no fault has ended."""
        return [process for process in self._processes.others if process.name not in self._let_go]

    def _drained(self) -> Drain:
        """Wait until the queues are empty, or as long as may be; return them."""
        drain = Drain(self._buffers, self._plan.longest_drain_ns, self._row)
        drain.wait(lambda: self._stopping, self._look)
        return drain

    def _look(self) -> None:
        self._inventory.look(self._watched())
        self._check_parts()

    # ------------------------------------------------------------------------------------------------------ finish

    def _with_absence(self, node: NodeEvidence) -> NodeEvidence:
        """Return the evidence of a node with the time for which it was absent by order, too."""
        if self._cluster is None:
            return node
        interval_ns = self._plan.scenario.buffer.sample_interval_ns
        by_order_ns = self._cluster.absent_ns(node.node, self._ran_ns, interval_ns)
        return replace(node, absent_ns=(node.absent_ns or 0) + by_order_ns)

    def _finish(self, counting: Counting) -> None:
        living = self._living
        self._row.does("ending the processes of the trial", SETTING_UP_NS)
        costs = {process.name: process.cost() for process in living}
        self._fates.remove(self._fate_of_process)
        for process in living:
            process.stop()
        join_all([*living, *(self._cluster.ending() if self._cluster else ())])
        self._row.does("collecting the counters", SETTING_UP_NS)
        self._faults.close()
        reports, modes = [sender.reported() for sender in self._processes.senders], self._buffers.xdp_modes
        evidence = counting.evidence(
            reports,
            self._faults,
            self._drain.cut(),
            ran_ns=self._ran_ns,
            setup_s=self._setup_s,
            machine={**self._machine, **self._inventory.demand.evidence(), "real_time": self._real_time},
        )
        evidence = replace(
            evidence,
            tcp=tuple(TcpEvidence(**source.reported()) for source in self._processes.tcp),
            stages=(*sender_stages(reports), *packet_stages(self._buffers), *self._stages),
            ordered=(*ordered_faults(self._faults.done), *(self._cluster.ordered() if self._cluster else ())),
            nodes=tuple(self._with_absence(node) for node in evidence.nodes),
            changes=self._changes,
            restarted=tuple(self._restarts.fates),
        )
        if fate := self._switch.fate():
            raise ToolError("ending the trial", fate, "read logs/ in the run directory")
        # `members` holds the costs of the processes: keys of a run directory keep their names
        manifest = {"xdp_modes": modes, "members": costs, "setup": self._setup, "switch_ports": self._ports.record()}
        self._records.send(
            Outcome(evidence, manifest, self._stopping, counting.packet_times(reports, self._faults, self._t0_ns))
        )
