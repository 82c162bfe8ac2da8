"""The faults of a scenario in virtual time, with the same meaning as in the emulation.

``fault_acts`` defines the effect of each kind.  A fault takes effect at once and completely, so each is observed as
soon as it is commanded.  When a site is lost, each of its nodes that runs crashes.
"""

from __future__ import annotations

import importlib
from functools import partial

from testbed import units
from testbed.records.faults import FaultCommanded, FaultEndCommanded, FaultHealed, FaultObserved
from testbed.scenario.fault import FaultSpec
from testbed.scenario.fault_timeline import FaultStep, timeline
from testbed.simulation.fault_acts.act import FaultAct, FaultContext
from testbed.simulation.fault_loss_counters import FaultLossCounters
from testbed.simulation.history import History
from testbed.traffic.carried_out import CarriedOut, Fault


class Faults:
    """The faults of a scenario, entered in the agenda.

    Attributes:
        done: those that were carried out.
    """

    def __init__(self, specs: tuple[FaultSpec, ...], context: FaultContext, history: History, idle_ns: int) -> None:
        """Enter them; a flow that is silent for `idle_ns` may rightly change node."""
        self._specs, self._context, self._agenda, self._history = list(specs), context, context.agenda, history
        self._crashed_with: dict[FaultStep, list[FaultStep]] = {}  # a lost site, and its nodes
        acts = {spec.row.act for spec in specs if not spec.row.heals and not spec.row.order}
        acts |= {"crash"} if any(spec.site for spec in specs) else set()
        self._acts: dict[str, FaultAct] = {
            kind: importlib.import_module(f"testbed.simulation.fault_acts.{kind}").Act(context) for kind in acts
        }
        self.done = CarriedOut(tuple(context.row_of), by_place=context.exchange is not None)
        self._sending, self._idle_ns = True, idle_ns
        self._lost_before: dict[FaultStep, int] = {}  # before each fault that takes a node away
        for step in timeline(specs):
            self._agenda.at(step.at_ns, partial(self._begin if step.begins else self._heal_at, step))

    def finish(self) -> None:
        """At the end of sending, end faults that would last longer, as in the emulation, and begin no others."""
        for fault in self.done.to_end():
            self._heal(fault)
        self._sending = False

    def report_losses(self) -> tuple[int, int]:
        """Record what each fault cost, when the queues are drained; return the sum by counters and by packets."""
        self.done.end_epoch(self._context.plane.flows())
        for fault in self.done.breaking:
            if fault.counted_pkts is None:
                self._count(fault)
        numbered = 0
        for losses in self.done.losses(self._counters.lost()):
            self._history.note(losses)
            numbered += losses.lost_pkts
        return sum(fault.counted_pkts or 0 for fault in self.done.breaking), numbered

    def moved_flows_ns(self) -> tuple[int, ...]:
        """Return when the flows began that changed node for no fault; call it when the queues are drained."""
        return self.done.moved_flows_ns(self._counters.lost(), self._idle_ns)

    @property
    def _counters(self) -> FaultLossCounters:
        counters = self._context.plane.fault_losses
        assert counters is not None
        return counters

    def _so_far(self, spec: FaultSpec) -> int:
        """Return what faults of that kind and node have cost so far."""
        return self._acts[spec.row.act].lost_packets(spec.node)

    def _count(self, fault: Fault) -> None:
        fault.counted_pkts = self._so_far(fault.spec) - self._lost_before[fault.step]

    # ------------------------------------------------------------------------------------------------------- steps

    def _begin(self, step: FaultStep) -> None:
        if not self._sending:
            return
        spec, now_ns = self._specs[step.fault], self._agenda.now_ns
        fault = self.done.add(Fault(step, spec, now_ns, self._begin_epoch()))
        if spec.row.takes_node_away:
            self._lost_before[step] = self._so_far(spec)
        self._history.note(fault.record_of(FaultCommanded, t_commanded_ns=now_ns, for_ns=spec.for_ns))
        self._acts[spec.row.act].begin(spec)
        self._history.note(fault.record_of(FaultObserved, took_ms=0.0))
        if spec.site:
            self._crashed_with[step] = [self._crash(node) for node in self._context.running(spec.site)]

    def _crash(self, node: str) -> FaultStep:
        """Crash a node of a site that is lost."""
        step = FaultStep(self._agenda.now_ns, True, len(self._specs))
        self._specs.append(FaultSpec.model_validate({"at": units.duration_text(step.at_ns), "crash": node}))
        self._begin(step)
        return step

    def _heal_at(self, step: FaultStep) -> None:
        if self._sending:
            self._heal(self.done.of(step))

    def _heal(self, fault: Fault) -> None:
        for step in self._crashed_with.pop(fault.step, ()):
            self._heal(self.done.of(step))
        fault.over_ns, fault.healed_epoch = self._agenda.now_ns, self._begin_epoch()
        if fault.spec.row.takes_node_away:
            self._count(fault)
        self._history.note(fault.record_of(FaultEndCommanded, t_commanded_ns=fault.over_ns))
        measured = self._acts[fault.spec.row.act].end(fault.spec) or {}
        self._history.note(fault.record_of(FaultHealed, took_ms=0.0, **measured))

    def _begin_epoch(self) -> int:
        plane = self._context.plane
        plane.advance(self._agenda.now_ns)
        epoch = self.done.end_epoch(plane.flows())
        plane.begin_epoch(epoch)
        return epoch
