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

from testbed.engine import STOPPED_DRAIN_NS, Outcome, Recorder, TrialPlan, Writer
from testbed.errors import InputError
from testbed.policies.membership import BALANCER
from testbed.records.engines import SIMULATION
from testbed.records.evidence import Evidence, NodeEvidence
from testbed.scenario.complaints import Complaint, refuse_first
from testbed.scenario.model import Scenario
from testbed.scenario.network import Network
from testbed.scenario.routing import BASIS_BITS
from testbed.simulation.agenda import Agenda
from testbed.simulation.agents import POOL
from testbed.simulation.assembly import Assembly
from testbed.simulation.bounds import check
from testbed.simulation.course import Course
from testbed.simulation.exchange import Exchange
from testbed.simulation.fault_acts.act import FaultContext
from testbed.simulation.faults import Faults
from testbed.simulation.forwarding import Forwarding
from testbed.simulation.history import History
from testbed.simulation.journeys import Journeys
from testbed.simulation.network_model import NetworkModel
from testbed.simulation.packet_plane import PacketPlane
from testbed.simulation.packet_trace import PacketTrace
from testbed.simulation.sample_rows import SampleRows
from testbed.simulation.sites import assembled_sites
from testbed.system import interrupts
from testbed.traffic.packet_times import PacketTimes
from testbed.units import NS_PER_MS, NS_PER_S

__all__ = ["BALANCER", "POOL", "SETTLE_NS", "TICKED_NS", "Simulation", "simulate"]

SETTLE_NS = 200 * NS_PER_MS
TICKED_NS = 10 * NS_PER_S
_NEVER = 2**62


class Simulation:
    """The engine of virtual time: see `engine.Engine`."""

    def complaints(self, scenario: Scenario, network: Network) -> Iterator[Complaint]:
        """Yield what it cannot simulate faithfully."""
        return check(scenario, network)

    def programs(self) -> Mapping[str, Path]:
        """Return none: it loads no program."""
        return {}

    def datapath(self, scenario: Scenario) -> str | None:
        """Return none: it has a switch of its own."""
        return None

    def run(self, plan: TrialPlan, recorder: Recorder) -> Outcome:
        """Run one trial; once asked to stop, the traffic ends, and the trial with it."""
        recorder.checkpoint()  # what is due before a trial begins
        course, stopping = Course(plan.scenario.duration_ns, recorder.waiting), interrupts.Stopping()

        def should_stop() -> bool:
            course.say(time.monotonic_ns())
            return stopping.heard()

        times: list[PacketTimes] = []
        with stopping:
            evidence = simulate(plan, recorder, should_stop=should_stop, course=course, packets=times.append)
        return Outcome(evidence, stopping.asked, packets=next(iter(times), None))


def simulate(
    plan: TrialPlan,
    writer: Writer,
    *,
    model: NetworkModel | None = None,
    cohorts: int | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    course: Course | None = None,
    packets: Callable[[PacketTimes], None] = lambda _: None,
) -> Evidence:
    """Run one trial in virtual time and return what it left behind.

    Args:
        plan: the experiment and its packets.
        writer: takes samples and events as they come.
        model: the delays; default those of `NetworkModel`.
        cohorts: in how many groups the nodes tick within the interval; default as `policies.cohorts` has it.
        should_stop: asked again and again; once it says so the traffic ends, and the run with it.
        course: receives the progress of the run.
        packets: receives when each packet was seen, where the scenario asks for it.

    Raises:
        InputError: what the engine cannot simulate faithfully.
    """
    if cohorts is not None and cohorts < 1:
        raise InputError("simulating the network", f"{cohorts} cohorts", "give 1 or more")
    refuse_first(check(plan.scenario, plan.network))
    course = course or Course(plan.scenario.duration_ns)
    trial = _Trial(plan, writer, model or NetworkModel(), cohorts, course)
    evidence = trial.run(should_stop)
    if (times := trial.packet_times()) is not None:
        packets(times)
    return evidence


class _Trial:
    def __init__(
        self, trial: TrialPlan, writer: Writer, model: NetworkModel, cohorts: int | None, course: Course
    ) -> None:
        self._trial, self._scenario, self._model = trial, trial.scenario, model
        self._agenda = agenda = Agenda()
        self._history = History(writer, agenda)
        self._samples = SampleRows(writer)
        self._exchange: Exchange | None = None
        self._journeys: Journeys | None = None
        if trial.network.sites:
            self._clusters, self._plane, self._exchange = assembled_sites(trial, writer, agenda, model, self._samples)
        else:
            self._clusters = (Assembly(trial, agenda, self._history, model, cohorts),)
            self._plane = self._one_plane(self._clusters[0])
            self._clusters[0].connect(self._plane, self._samples)
        self._faults = self._made_faults() if self._scenario.unsteady else None
        self._course, self._longest_drain_ns = course, trial.longest_drain_ns
        self._ticked_ns = self._end_ns = _NEVER  # until when entries are done, and the run lasts

    def _one_plane(self, cluster: Assembly) -> PacketPlane:
        trial = self._trial
        scenario, network, packets, seed_of = trial.scenario, trial.network, trial.packets, trial.seed_of
        basis, path_seed = seed_of(BALANCER) & BASIS_BITS, seed_of("paths")
        given = scenario, network, packets
        trace = PacketTrace(packets) if scenario.record_packets else None
        slots = cluster.control.slots
        way = Forwarding(*given, slots, self._model, hash_basis=basis, path_seed=path_seed, trace=trace)
        self._journeys = way
        return PacketPlane(*given, cluster.limits, way, self._model, trace, way.cuts)

    def _made_faults(self) -> Faults:
        rows = {node.name: row for row, node in enumerate(self._trial.network.nodes)}
        context = FaultContext(
            self._plane, self._clusters, self._exchange, rows, self._trial.seed_of, self._agenda, self._model,
            self._journeys,
        )  # fmt: skip
        return Faults(self._scenario.faults, context, self._history, self._scenario.balancer.affinity_idle_ns)

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
            regions=self._plane.region_evidence(),
            wan_bytes=None if self._exchange is None else self._exchange.wan_bytes,
            report_bytes=None if self._exchange is None else self._exchange.sent_bytes,
        )

    def packet_times(self) -> PacketTimes | None:
        """Return when each packet was seen, where the scenario asks for it; after the end."""
        return self._plane.packet_times()

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
        if self._faults is not None:
            self._faults.finish()
        for cluster in self._clusters:
            cluster.end()
        if self._exchange is not None:
            self._exchange.end()
        plane.advance(now_ns)
        plane.stop_sending()
        self._course.drains_ns = min(plane.empty_ns() - now_ns, self._longest_drain_ns)
        self._end_ns = now_ns + self._course.drains_ns + SETTLE_NS
        self._ticked_ns = min(self._end_ns, now_ns + TICKED_NS)

    def _nodes(self) -> tuple[NodeEvidence, ...]:
        nodes = self._plane.node_evidence()
        if self._faults is None:
            return nodes
        done, ran_ns = self._faults.done, self._ran_ns
        absent_ns = {name: ns for cluster in self._clusters for name, ns in cluster.absent_ns(ran_ns).items()}
        return tuple(
            replace(
                node,
                crashes=done.crashes(node.node),
                absent_ns=done.absent_ns(node.node, ran_ns) + absent_ns[node.node],
            )
            for node in nodes
        )

    def _moved_flows_ns(self) -> tuple[int, ...] | None:
        """Return when the flows began that changed node for no fault; None where one may rightly be at two nodes."""
        scenario = self._scenario
        if self._faults is None:
            return ()  # a pin of a serving node is never changed
        if scenario.buffer.deflect or self._exchange is not None:
            return None  # a flow whose site is lost, or whose link is cut, may be at two
        return self._faults.moved_flows_ns()
