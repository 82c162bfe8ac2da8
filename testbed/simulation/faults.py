"""Faults in virtual time, with the meaning they have on the wire (``emulation/faults.py``).

    crash       the node takes nothing in, its agent and its mesh member end, what lies in its queue is thrown away
    link_down   nothing reaches the node; `port_down_ns` later the switch sees its port down and tells the balancer
    partition   mesh messages between the groups reach nobody; the balancer is reached from everywhere
    kill        the balancer ends
    pause       agent and mesh member of the node stop, and go on after `for`

They happen at their instant and all at once, so each is observed as soon as it is commanded.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

from testbed.simulation.agenda import Agenda
from testbed.simulation.agents import Agents
from testbed.simulation.control import Control
from testbed.simulation.history import History
from testbed.simulation.mesh import Mesh
from testbed.simulation.network_model import NetworkModel
from testbed.simulation.packet_plane import PacketPlane
from testbed.spec.scenario import FaultSpec
from testbed.traffic.fault_losses import FlowRows, PlannedTimes, broken_flows, loss_of
from testbed.traffic.plan import PacketPlan


@dataclass(frozen=True, slots=True)
class Ground:
    """What faults act on."""

    plane: PacketPlane
    agents: Agents
    control: Control
    mesh: Mesh
    row_of: dict[str, int]


@dataclass(slots=True)
class _Done:
    """A fault that was carried out."""

    number: int
    spec: FaultSpec
    commanded_ns: int
    flows: dict[str, FlowRows] = field(default_factory=dict)
    healed: bool = False


class Faults:
    """The faults of a scenario, entered in the agenda."""

    def __init__(
        self, specs: tuple[FaultSpec, ...], ground: Ground, agenda: Agenda, history: History, model: NetworkModel
    ) -> None:
        self._ground, self._agenda, self._history, self._model = ground, agenda, history, model
        self._done: list[_Done] = []
        for number, spec in enumerate(specs):
            agenda.at(spec.at_ns, partial(self._begin, number, spec))

    def finish(self) -> None:
        """Heal at the end of sending what was to heal later, and begin nothing more."""
        for done in self._done:
            self._heal(done)

    def report_losses(self, plan: PacketPlan, ran_ns: int) -> None:
        """Record what each fault cost; call it when the queues are drained."""
        times = PlannedTimes(plan)
        after = self._ground.plane.flows()
        for done in self._done:
            if done.flows:
                loss = loss_of(done.spec.node, done.flows, after, times, ran_ns)
                self._tell("FaultLosses", done, **asdict(loss))

    def broken_flows(self) -> int:
        """Return how many flows changed node for no fault; call it when the queues are drained."""
        failed = frozenset(node for done in self._done for node in _victims(done.spec))
        return broken_flows(self._ground.plane.flows(), failed)

    # ------------------------------------------------------------------------------------------------------- steps

    def _begin(self, number: int, spec: FaultSpec) -> None:
        done = _Done(number, spec, self._agenda.now_ns)
        self._done.append(done)
        self._ground.plane.advance(done.commanded_ns)
        if spec.kind in ("crash", "link_down"):
            done.flows = self._ground.plane.flows()
        self._tell("FaultCommanded", done, t_commanded_ns=done.commanded_ns, for_ns=spec.for_ns)
        getattr(self, f"_{spec.kind}")(spec)
        self._tell("FaultObserved", done, took_ms=0.0)
        if spec.for_ns is not None:
            self._agenda.after(spec.for_ns, partial(self._heal, done))

    def _heal(self, done: _Done) -> None:
        if done.spec.for_ns is None or done.healed:
            return
        done.healed = True
        if done.spec.partition is not None:
            self._ground.mesh.divide(done.spec.partition, apart=False)
        else:
            self._ground.agents.go_on(done.spec.node)
            self._ground.mesh.go_on(done.spec.node)
        self._tell("FaultHealed", done)

    def _crash(self, spec: FaultSpec) -> None:
        self._ground.plane.crash(self._ground.row_of[spec.node])
        self._ground.agents.stop(spec.node)
        self._ground.mesh.kill(spec.node)

    def _link_down(self, spec: FaultSpec) -> None:
        ground, row = self._ground, self._ground.row_of[spec.node]
        ground.plane.cut(row)

        def notice() -> None:
            ground.plane.advance(self._agenda.now_ns)
            ground.plane.switch.set_port(row, down=True)

        self._agenda.after(self._model.port_down_ns + ground.plane.behind_switch_ns, notice)
        heard_ns = self._model.port_down_ns + self._model.port_report_ns
        self._agenda.after(heard_ns, lambda: ground.control.port_changed(spec.node, up=False))

    def _partition(self, spec: FaultSpec) -> None:
        self._ground.mesh.divide(spec.partition or (), apart=True)

    def _kill(self, _spec: FaultSpec) -> None:
        self._ground.control.kill()

    def _pause(self, spec: FaultSpec) -> None:
        self._ground.agents.stop(spec.node)
        self._ground.mesh.stop(spec.node)

    def _tell(self, kind: str, done: _Done, **fields: Any) -> None:
        fault = {"fault": done.number, "what": done.spec.kind, "nodes": list(_victims(done.spec))}
        self._history.tell(kind, **fault, **fields)


def _victims(spec: FaultSpec) -> tuple[str, ...]:
    """Return the nodes whose suspicion it explains."""
    if spec.partition is not None:
        largest = max(spec.partition, key=len)
        return tuple(node for group in spec.partition if group is not largest for node in group)
    return () if spec.kind == "kill" else (spec.node,)
