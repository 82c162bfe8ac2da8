"""Virtual time: the same scenario, plan and policies as in the emulation, driven by an event queue instead of a clock.

    agents ─ notifications ─▶ control ─ changes ─▶ switch
      ▲ │ limits                 ▲
      │ ▼                        │ report
     plane ◀─── faults ───────▶ mesh

Everything that makes decisions has entries in the event queue (`agenda`).  The data plane has none: it advances in one
step from one event to the next, however many packets lie between them (`packet_plane`).

After the last planned packet the queues drain, for at most the time that an emulated run allows
(`engine.longest_drain_ns`).  The run ends `SETTLE_NS` later, as the emulation waits for late packets.  Packets that are
still in a queue then are in flight.  During this time no packets arrive, so agents tick for at most `TICKED_NS`, and
the rest is one step: a slow link costs only virtual time.

A request to stop is checked before each event, and between the steps of the data plane if many packets lie before the
next event.  It ends the traffic at once; no agent ticks after that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from testbed.engine import STOPPED_DRAIN_NS, Outcome, Recorder, TrialPlan, Writer
from testbed.errors import InputError
from testbed.policies.buffer_rules import heeds_severity
from testbed.policies.orchestrator import Orchestrator
from testbed.policies.pool import make_pool
from testbed.records.engines import SIMULATION
from testbed.records.evidence import Evidence, NodeEvidence
from testbed.scenario.apart import nodes_apart
from testbed.scenario.complaints import Complaint, refuse_first
from testbed.scenario.model import Scenario
from testbed.scenario.network import Network
from testbed.simulation.agenda import Agenda
from testbed.simulation.agents import POOL, Agents
from testbed.simulation.bounds import check
from testbed.simulation.cluster import Cluster, ClusterParts
from testbed.simulation.cohorts import make_cohorts
from testbed.simulation.control import BALANCER, Control
from testbed.simulation.course import Course
from testbed.simulation.fault_acts.act import FaultContext
from testbed.simulation.faults import Faults
from testbed.simulation.history import History
from testbed.simulation.mesh import Mesh
from testbed.simulation.network_model import NetworkModel
from testbed.simulation.packet_plane import PacketPlane
from testbed.simulation.peers import Peers
from testbed.simulation.sample_rows import SampleRows
from testbed.system import interrupts
from testbed.traffic.planned_load import ahead_of
from testbed.units import NS_PER_MS, NS_PER_S

__all__ = ["BALANCER", "POOL", "SETTLE_NS", "TICKED_NS", "Simulation", "simulate"]

SETTLE_NS = 200 * NS_PER_MS
TICKED_NS = 10 * NS_PER_S
_BASIS_BITS = 0xFFFF
_NEVER = 2**62


class Simulation:
    """The engine of virtual time: see `engine.Engine`."""

    def complaints(self, scenario: Scenario, network: Network) -> Iterator[Complaint]:
        """Yield what it cannot simulate faithfully."""
        return check(scenario, network)

    def programs(self) -> Mapping[str, Path]:
        """Return none: it loads no program."""
        return {}

    def datapath(self) -> str | None:
        """Return none: it has a switch of its own."""
        return None

    def run(self, plan: TrialPlan, recorder: Recorder) -> Outcome:
        """Run one trial; once asked to stop, the traffic ends, and the trial with it."""
        recorder.checkpoint()  # what is due before a trial begins
        course, stopping = Course(plan.scenario.duration_ns, recorder.waiting), interrupts.Stopping()

        def should_stop() -> bool:
            course.say(time.monotonic_ns())
            return stopping.heard()

        with stopping:
            evidence = simulate(plan, recorder, should_stop=should_stop, course=course)
        return Outcome(evidence, stopping.asked)


def simulate(
    plan: TrialPlan,
    writer: Writer,
    *,
    model: NetworkModel | None = None,
    cohorts: int | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    course: Course | None = None,
) -> Evidence:
    """Run one trial in virtual time and return what it left behind.

    Args:
        plan: the experiment and its packets.
        writer: takes samples and events as they come.
        model: the delays; default those of `NetworkModel`.
        cohorts: in how many groups the nodes tick within the interval; default as `policies.cohorts` has it.
        should_stop: asked again and again; once it says so the traffic ends, and the run with it.
        course: receives the progress of the run.

    Raises:
        InputError: what the engine cannot simulate faithfully.
    """
    if cohorts is not None and cohorts < 1:
        raise InputError("simulating the network", f"{cohorts} cohorts", "give 1 or more")
    refuse_first(check(plan.scenario, plan.network))
    course = course or Course(plan.scenario.duration_ns)
    return _Trial(plan, writer, model or NetworkModel(), cohorts, course).run(should_stop)


class _Trial:
    def __init__(
        self, trial: TrialPlan, writer: Writer, model: NetworkModel, cohorts: int | None, course: Course
    ) -> None:
        scenario, network, plan, seed_of = trial.scenario, trial.network, trial.packets, trial.seed_of
        names, seed = tuple(node.name for node in network.nodes), seed_of(BALANCER)
        apart = nodes_apart(scenario, names)
        made = make_cohorts(scenario.buffer, network, trial.make_forecaster, cohorts, apart)
        limits = np.concatenate([cohort.brain.initial_limit_bytes() for cohort in made])
        self._scenario, self._plan = scenario, plan
        self._agenda = agenda = Agenda()
        history = History(writer, agenda)
        self._samples = SampleRows(writer)
        control = Control(scenario, network, seed, agenda, history, model)
        basis = seed & _BASIS_BITS
        self._plane = PacketPlane(
            scenario, network, plan, limits, control.slots,
            hash_basis=basis, path_seed=seed_of("paths"), model=model,
        )  # fmt: skip
        peers = None
        if len(names) > 1 and heeds_severity(scenario.buffer):
            peers = Peers(names, scenario.mesh.sync_interval_ns, model.message_ns, agenda)
        self._agents = Agents(
            made, make_pool(scenario.buffer, names, limits.copy()), self._plane, scenario.buffer.sample_interval_ns,
            agenda, history, self._samples, model,
            notify=control.notified, slots_held=lambda: control.slots_held, peers=peers,
        )  # fmt: skip
        control.connect(self._plane, self._agents.name)
        self._faults = self._cluster = None
        if scenario.unsteady:
            spare = network.spare_nodes
            mesh = Mesh(names, scenario.mesh, seed_of, agenda, history, model, control.reported, spare)
            parts = ClusterParts(self._plane, self._agents, control, mesh, agenda, history, model)
            orchestrator = Orchestrator(scenario, network, ahead_of(plan, scenario.autoscaler.period_ns))
            self._cluster = cluster = Cluster(orchestrator, parts, spare)
            rows = {name: row for row, name in enumerate(names)}
            context = FaultContext(
                self._plane, self._agents, cluster, control, mesh, peers, rows, seed_of, agenda, model
            )
            self._faults = Faults(scenario.faults, context, history, scenario.balancer.affinity_idle_ns)
        self._course, self._longest_drain_ns = course, trial.longest_drain_ns
        self._ticked_ns = self._end_ns = _NEVER  # until when entries are done, and the run lasts

    def run(self, should_stop: Callable[[], bool]) -> Evidence:
        """Drive the agenda to the end."""
        self._ran_ns = self._scenario.duration_ns
        self._agenda.at(self._plane.arrived_by_ns(self._ran_ns), self._all_sent)
        self._drive(should_stop)
        self._plane.advance(self._end_ns)
        self._samples.flush()
        counted, numbered = (0, 0) if self._faults is None else self._faults.report_losses()
        return Evidence(
            engine=SIMULATION,
            ran_ns=self._ran_ns,
            clients=self._plane.client_evidence(),
            nodes=self._nodes(),
            trunks=self._plane.trunk_evidence(),
            faults_unseen=None if self._faults is None else (),
            fault_counted_pkts=counted,
            fault_numbered_pkts=numbered,
            moved_flows_ns=self._moved_flows_ns(),
            packet_ins=0,  # flows are placed in the switch
        )

    def _drive(self, should_stop: Callable[[], bool]) -> None:
        """Do the entries of the agenda, until they end or the run is to be stopped."""
        agenda, plane = self._agenda, self._plane
        while (next_ns := agenda.next_ns()) <= self._ticked_ns:
            self._course.now_ns = agenda.now_ns
            while plane.is_far(next_ns) and not should_stop():
                plane.advance_a_step(next_ns)
            if should_stop():
                self._stop()
                return
            agenda.step()

    def _stop(self) -> None:
        """End the traffic where it is; entries that are still to come are left undone."""
        self._agenda.now_ns = now_ns = max(self._agenda.now_ns, self._plane.queues.now_ns)
        if self._end_ns == _NEVER:
            self._ran_ns = min(self._ran_ns, now_ns)
            self._all_sent()
        self._end_ns = min(self._end_ns, now_ns + STOPPED_DRAIN_NS)

    def _all_sent(self) -> None:
        """The last packet has reached its buffer."""
        now_ns, plane = self._agenda.now_ns, self._plane
        if self._faults is not None and self._cluster is not None:
            self._faults.finish()
            self._cluster.end()
        plane.advance(now_ns)
        plane.stop_sending()
        self._course.drains_ns = min(plane.empty_ns() - now_ns, self._longest_drain_ns)
        self._end_ns = now_ns + self._course.drains_ns + SETTLE_NS
        self._ticked_ns = min(self._end_ns, now_ns + TICKED_NS)

    def _nodes(self) -> tuple[NodeEvidence, ...]:
        nodes = self._plane.node_evidence()
        if self._faults is None or self._cluster is None:
            return nodes
        done, cluster, ran_ns = self._faults.done, self._cluster, self._ran_ns
        return tuple(
            replace(
                node,
                crashes=done.crashes(node.node),
                absent_ns=done.absent_ns(node.node, ran_ns) + cluster.absent_ns(node.node, ran_ns),
            )
            for node in nodes
        )

    def _moved_flows_ns(self) -> tuple[int, ...] | None:
        """Return when the flows began that changed node for no fault; None where one may rightly be at two nodes."""
        scenario = self._scenario
        if self._faults is None:
            return ()  # a pin of a serving node is never changed
        if scenario.buffer.deflect:
            return None
        return self._faults.moved_flows_ns()
