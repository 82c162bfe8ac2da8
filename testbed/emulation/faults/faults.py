"""Executes the faults of a scenario at their times, and records when each was commanded, observed and removed.

The files of the kinds define the effects.  If a fault was not observed, the trial continues, but this is recorded in
the evidence and the verdict is INVALID: the run did not do what the scenario says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from testbed.emulation.dataplane.xdp import SinkProgram
from testbed.emulation.faults.act import FaultContext, LossCounters, Measured
from testbed.emulation.faults.fault_acts import Acts
from testbed.errors import ToolError
from testbed.records.events import LogEntry
from testbed.records.faults import FaultCommanded, FaultEndCommanded, FaultHealed, FaultNotSeen, FaultObserved
from testbed.scenario.fault import FaultSpec
from testbed.scenario.fault_timeline import FaultStep, timeline
from testbed.traffic.carried_out import CarriedOut, Fault
from testbed.traffic.fault_losses import FlowRows, LostPackets
from testbed.traffic.numbers import Words
from testbed.units import NS_PER_MS

Write = Callable[[LogEntry], None]


class Faults:
    """The faults of a scenario in the order of their times.

    Attributes:
        done: those that were carried out.
        unseen: faults and heals that were not seen to happen, and why.
    """

    def __init__(
        self,
        specs: tuple[FaultSpec, ...],
        context: FaultContext,
        sinks: Mapping[str, SinkProgram],
        now_ns: Callable[[], int],
        write: Write,
    ) -> None:
        """Prepare; `now_ns` is the run's clock, `write` records what happens."""
        self._acts, self._counters, self._sinks = Acts(context, specs), context.counters, sinks
        self._now_ns, self._record = now_ns, write
        self._specs = specs
        self._steps = list(timeline(specs))
        self.done = CarriedOut(tuple(sinks))
        self.unseen: list[str] = []
        self._lost_before: dict[FaultStep, int] = {}  # of the places, before each fault that takes a node away

    @property
    def counters(self) -> LossCounters:
        """Return what they cost so far."""
        return self._counters

    def link_pkts(self, node: str) -> int:
        """Return how many planned packets the node's link swallowed while it was down."""
        return self._acts.link_pkts(node)

    def swallowed_frames(self) -> int:
        """Return how many frames of any kind links have swallowed while they were down."""
        return self._acts.swallowed_frames()

    def swallowed_by_links(self) -> dict[str, Words]:
        """Return which packets those are, of each link that a fault takes down, by node."""
        return self._acts.swallowed_by_links()

    def cut_off(self) -> dict[str, Words]:
        """Return which packets links between switches have lost while they were down, by link."""
        return self._acts.cut_off()

    def cut_pkts(self) -> dict[str, int]:
        """Return how many planned packets that is, one that came twice counted twice."""
        return self._acts.cut_pkts()

    def next_ns(self) -> int | None:
        """Return when the next step is due."""
        return self._steps[0].at_ns if self._steps else None

    def carry_out_due(self) -> None:
        """Do every step whose time has come."""
        while self._steps and self._steps[0].at_ns <= self._now_ns():
            step = self._steps.pop(0)
            if step.begins:
                self._begin(step)
            else:
                self._heal(self.done.of(step))

    def finish(self) -> None:
        """At the end of sending, end faults that would last longer: stopped processes could not be ended."""
        for fault in self.done.to_end():
            self._heal(fault)
        self._steps = []

    def close(self) -> None:
        """Count what each fault cost; call it when the queues are drained."""
        self._acts.close()
        self.done.end_epoch(self._flows())
        for fault in self.done.breaking:
            if fault.counted_pkts is None:
                self._count(fault)

    def record_losses(self, lost: LostPackets) -> int:
        """Record what each fault cost, by counters and by the packets that are lost; return the sum of the latter."""
        lost_pkts = 0
        for losses in self.done.losses(lost):
            self._record(losses)
            lost_pkts += losses.lost_pkts
        return lost_pkts

    # ------------------------------------------------------------------------------------------------------- steps

    def _begin(self, step: FaultStep) -> None:
        spec, epoch = self._specs[step.fault], self._begin_epoch()
        done = self.done.add(Fault(step, spec, self._now_ns(), epoch))
        if spec.row.takes_node_away:
            self._lost_before[step] = self._acts.lost_packets(spec)
        self._record(done.record_of(FaultCommanded, t_commanded_ns=done.commanded_ns, for_ns=spec.for_ns))
        self._see(FaultObserved, done, self._acts.begin)

    def _heal(self, done: Fault) -> None:
        done.healed_epoch = self._begin_epoch()
        self._record(done.record_of(FaultEndCommanded, t_commanded_ns=self._now_ns()))
        self._see(FaultHealed, done, self._acts.end)
        done.over_ns = self._now_ns()
        if done.spec.row.takes_node_away:
            self._count(done)

    def _count(self, done: Fault) -> None:
        done.counted_pkts = self._acts.lost_packets(done.spec) - self._lost_before[done.step]

    def _see(self, kind: type[FaultObserved | FaultHealed], done: Fault, act: Callable[[FaultSpec], Measured]) -> None:
        began_ns = self._now_ns()
        try:
            measured = act(done.spec)
        except ToolError as error:
            self.unseen.append(f"{done.spec.kind} {done.spec.link or done.spec.node}".strip())
            self._record(done.record_of(FaultNotSeen, reason=str(error)))
            return
        self._record(done.record_of(kind, took_ms=(self._now_ns() - began_ns) / NS_PER_MS, **measured))

    # ----------------------------------------------------------------------------------------------------- records

    def _begin_epoch(self) -> int:
        epoch = self.done.end_epoch(self._flows())
        for sink in self._sinks.values():
            sink.begin_epoch(epoch)
        return epoch

    def _flows(self) -> dict[str, FlowRows]:
        return {node: sink.flows() for node, sink in self._sinks.items()}
