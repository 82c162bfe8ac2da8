"""The faults of a scenario, carried out: each at its time, and recorded as commanded, as observed and as healed.

What they do is said in `fault_acts`.  A fault that was not seen to happen does not end the trial: it goes into the
evidence, and the verdict is INVALID, since what the run shows is not what the scenario says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from testbed.emulation.fault_acts import Acts, Books, Ground
from testbed.emulation.xdp import SinkProgram
from testbed.errors import ToolError
from testbed.spec.fault_timeline import timeline
from testbed.spec.scenario import FaultSpec
from testbed.traffic.fault_losses import FlowRows, PlannedTimes, loss_of
from testbed.traffic.plan import PacketPlan
from testbed.units import NS_PER_MS

Tell = Callable[[str, dict[str, Any]], None]


@dataclass(slots=True)
class _Done:
    """A fault that was carried out."""

    number: int
    spec: FaultSpec
    commanded_ns: int
    over_ns: int | None = None
    flows: dict[str, FlowRows] = field(default_factory=dict)


class Faults:
    """The faults of a scenario in the order of their times.

    Attributes:
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
        self._acts, self._sinks, self._plan, self._now_ns, self._record = Acts(ground), sinks, plan, now_ns, tell
        self._specs = specs
        self._steps = list(timeline(specs))
        self._done: dict[int, _Done] = {}
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
                self._begin(step.fault, self._specs[step.fault])
            else:
                self._heal(self._done[step.fault])

    def finish(self) -> None:
        """Heal at the end of sending what was to go on later: stopped processes could not be ended."""
        for step in self._steps:
            if not step.begins and step.fault in self._done and self._specs[step.fault].kind in ("pause", "partition"):
                self._heal(self._done[step.fault])
        self._steps = []

    def close(self, ran_ns: int) -> None:
        """Count and record what each fault cost; call it when the queues are drained."""
        self._acts.close()
        after, times = self._flows(), PlannedTimes(self._plan)
        for done in self._done.values():
            if done.flows:
                loss = loss_of(done.spec.node, done.flows, after, times, ran_ns)
                self._tell("FaultLosses", done, **asdict(loss))

    @property
    def failed(self) -> frozenset[str]:
        """Return the nodes that a fault hit in a way that may move their flows."""
        return frozenset(node for done in self._done.values() for node in self._victims(done.spec))

    def crashes(self, node: str) -> int:
        """Return how often the processes of a node were killed."""
        return sum(done.spec.kind == "crash" for done in self._done_to(node))

    def absent_ns(self, node: str, ran_ns: int) -> int:
        """Return how long, until `ran_ns`, the processes of a node did not run."""
        return sum(
            min(ran_ns, done.over_ns or ran_ns) - min(ran_ns, done.commanded_ns)
            for done in self._done_to(node)
            if done.spec.kind in ("crash", "pause")
        )

    def _done_to(self, node: str) -> list[_Done]:
        return [done for done in self._done.values() if done.spec.node == node]

    # ------------------------------------------------------------------------------------------------------- steps

    def _begin(self, number: int, spec: FaultSpec) -> None:
        self._acts.prepare(spec)
        flows = self._flows() if spec.kind in ("crash", "link_down") else {}
        done = self._done[number] = _Done(number, spec, self._now_ns(), flows=flows)
        self._tell("FaultCommanded", done, t_commanded_ns=done.commanded_ns, for_ns=spec.for_ns)
        self._see("FaultObserved", done, self._acts.begin)

    def _heal(self, done: _Done) -> None:
        self._tell("FaultEndCommanded", done, t_commanded_ns=self._now_ns())
        self._see("FaultHealed", done, self._acts.end)
        done.over_ns = self._now_ns()

    def _see(self, kind: str, done: _Done, act: Callable[[FaultSpec], None]) -> None:
        began_ns = self._now_ns()
        try:
            act(done.spec)
        except ToolError as error:
            self.unseen.append(f"{done.spec.kind} {done.spec.node}".strip())
            self._tell("FaultNotSeen", done, reason=str(error))
            return
        self._tell(kind, done, took_ms=(self._now_ns() - began_ns) / NS_PER_MS)

    # ----------------------------------------------------------------------------------------------------- records

    def _victims(self, spec: FaultSpec) -> tuple[str, ...]:
        if spec.partition is not None:
            largest = max(spec.partition, key=len)
            return tuple(node for group in spec.partition if group is not largest for node in group)
        return (spec.node,) if spec.node else ()

    def _flows(self) -> dict[str, FlowRows]:
        return {node: sink.flows().copy() for node, sink in self._sinks.items()}

    def _tell(self, kind: str, done: _Done, **fields: Any) -> None:
        victims = list(self._victims(done.spec))
        fault = {"fault": done.number, "what": done.spec.kind, "nodes": victims}
        self._record(kind, {**fault, **fields})
