"""The faults of a scenario, carried out: each at its time, and recorded as commanded, as observed and as healed.

What they do is said in `fault_acts`.  A fault that was not seen to happen does not end the trial: it goes into the
evidence, and the verdict is INVALID, since what the run shows is not what the scenario says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from testbed.emulation.fault_acts import Acts, Books, Ground, Measured
from testbed.emulation.xdp import SinkProgram
from testbed.errors import ToolError
from testbed.spec.fault import FaultSpec
from testbed.spec.fault_timeline import FaultStep, timeline
from testbed.traffic.carried_out import CarriedOut, Fault
from testbed.traffic.fault_losses import FlowRows
from testbed.traffic.plan import PacketPlan
from testbed.units import NS_PER_MS

Tell = Callable[[str, dict[str, Any]], None]


class Faults:
    """The faults of a scenario in the order of their times.

    Attributes:
        done: those that were carried out.
        unseen: faults and heals that were not seen to happen, and why.
    """

    def __init__(
        self,
        specs: tuple[FaultSpec, ...],
        ground: Ground,
        sinks: Mapping[str, SinkProgram],
        plan: PacketPlan,
        now_ns: Callable[[], int],
        tell: Tell,
    ) -> None:
        """Prepare; `now_ns` is the run's clock, `tell` records a kind with its fields."""
        self._acts, self._sinks, self._plan = Acts(ground, specs), sinks, plan
        self._now_ns, self._record = now_ns, tell
        self._specs = specs
        self._steps = list(timeline(specs))
        self.done = CarriedOut(tuple(sinks))
        self.unseen: list[str] = []

    @property
    def books(self) -> Books:
        """Return what they cost so far."""
        return self._acts.books

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
        """Heal at the end of sending what was to go on later: stopped processes could not be ended."""
        for fault in self.done.to_end():
            self._heal(fault)
        self._steps = []

    def close(self, ran_ns: int) -> None:
        """Count and record what each fault cost; call it when the queues are drained."""
        self._acts.close()
        self.done.end_epoch(self._flows())
        for fault, loss in self.done.losses(self._plan, ran_ns):
            self._tell("FaultLosses", fault, **loss)

    # ------------------------------------------------------------------------------------------------------- steps

    def _begin(self, step: FaultStep) -> None:
        spec, epoch = self._specs[step.fault], self._begin_epoch()
        done = self.done.add(Fault(step, spec, self._now_ns(), epoch))
        self._tell("FaultCommanded", done, t_commanded_ns=done.commanded_ns, for_ns=spec.for_ns)
        self._see("FaultObserved", done, self._acts.begin)

    def _heal(self, done: Fault) -> None:
        done.healed_epoch = self._begin_epoch()
        self._tell("FaultEndCommanded", done, t_commanded_ns=self._now_ns())
        self._see("FaultHealed", done, self._acts.end)
        done.over_ns = self._now_ns()

    def _see(self, kind: str, done: Fault, act: Callable[[FaultSpec], Measured]) -> None:
        began_ns = self._now_ns()
        try:
            measured = act(done.spec)
        except ToolError as error:
            self.unseen.append(f"{done.spec.kind} {done.spec.link or done.spec.node}".strip())
            self._tell("FaultNotSeen", done, reason=str(error))
            return
        self._tell(kind, done, took_ms=(self._now_ns() - began_ns) / NS_PER_MS, **measured)

    # ----------------------------------------------------------------------------------------------------- records

    def _begin_epoch(self) -> int:
        epoch = self.done.end_epoch(self._flows())
        for sink in self._sinks.values():
            sink.begin_epoch(epoch)
        return epoch

    def _flows(self) -> dict[str, FlowRows]:
        return {node: sink.flows() for node, sink in self._sinks.items()}

    def _tell(self, kind: str, fault: Fault, **fields: Any) -> None:
        self._record(kind, {**fault.record(), **fields})
