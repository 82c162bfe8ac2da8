"""Faults in virtual time, with the meaning they have on the wire (``emulation/faults/fault_acts.py``).

    crash       the node takes nothing in, its agent and its mesh member end, what lies in its queue is thrown away.
                Over: an empty queue, and an agent and a member that begin a new life
    link_down   nothing reaches the node; `port_ns` later the switch sees its port down and tells the balancer.
                Over: the same the other way round
    flap        the same, once a period
    loss        packets on their way to the node are lost at random, the same ones as on the wire
    partition   mesh messages between the groups reach nobody; the balancer is reached from everywhere
    kill        the controller that steers ends, or all controllers
    pause       agent and mesh member of the node stop

They happen at their instant and all at once, so each is observed as soon as it is commanded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from testbed.records.faults import FaultCommanded, FaultEndCommanded, FaultHealed, FaultObserved
from testbed.scenario.fault import FaultSpec
from testbed.scenario.fault_timeline import FaultStep, timeline
from testbed.simulation.agenda import Agenda
from testbed.simulation.agents import Agents
from testbed.simulation.control import Control
from testbed.simulation.fault_toll import FaultToll
from testbed.simulation.history import History
from testbed.simulation.link_loss import LinkLoss
from testbed.simulation.mesh import Mesh
from testbed.simulation.network_model import NetworkModel
from testbed.simulation.packet_plane import PacketPlane
from testbed.simulation.peers import Peers
from testbed.traffic.carried_out import BREAKING, CarriedOut, Fault

Measured = dict[str, int]


@dataclass(frozen=True, slots=True)
class Ground:
    """What faults act on."""

    plane: PacketPlane
    agents: Agents
    control: Control
    mesh: Mesh
    peers: Peers | None
    row_of: dict[str, int]
    seed_of: Callable[[str], int]


class Faults:
    """The faults of a scenario, entered in the agenda.

    Attributes:
        done: those that were carried out.
    """

    def __init__(
        self, specs: tuple[FaultSpec, ...], ground: Ground, agenda: Agenda, history: History, model: NetworkModel
    ) -> None:
        self._specs, self._ground, self._agenda, self._history, self._model = specs, ground, agenda, history, model
        self.done = CarriedOut(tuple(ground.row_of))
        self._sending = True
        self._drawn_before: dict[int, tuple[int, int]] = {}
        self._tolls: dict[FaultStep, int] = {}  # before each fault that takes a node away
        for step in timeline(specs):
            agenda.at(step.at_ns, partial(self._begin if step.begins else self._heal_at, step))

    def finish(self) -> None:
        """Heal at the end of sending what was to go on later, as on the wire, and begin nothing more."""
        for fault in self.done.to_end():
            self._heal(fault)
        self._sending = False

    def report_losses(self) -> tuple[int, int]:
        """Record what each fault cost, when the queues are drained; return the sum by counters and by packets."""
        self.done.end_epoch(self._ground.plane.flows())
        for fault in self.done.breaking:
            if fault.counted_pkts is None:
                self._count(fault)
        numbered = 0
        for losses in self.done.losses(self._toll.lost()):
            self._history.note(losses)
            numbered += losses.lost_pkts
        return sum(fault.counted_pkts or 0 for fault in self.done.breaking), numbered

    def moved_flows_ns(self) -> tuple[int, ...]:
        """Return when the flows began that changed node for no fault; call it when the queues are drained."""
        return self.done.moved_flows_ns(self._toll.lost())

    @property
    def _toll(self) -> FaultToll:
        toll = self._ground.plane.toll
        assert toll is not None
        return toll

    def _so_far(self, spec: FaultSpec) -> int:
        """Return what faults of that kind and node have cost so far."""
        return self._toll.of(self._ground.row_of[spec.node], crash=spec.kind == "crash")

    def _count(self, fault: Fault) -> None:
        fault.counted_pkts = self._so_far(fault.spec) - self._tolls[fault.step]

    # ------------------------------------------------------------------------------------------------------- steps

    def _begin(self, step: FaultStep) -> None:
        if not self._sending:
            return
        spec, now_ns = self._specs[step.fault], self._agenda.now_ns
        fault = self.done.add(Fault(step, spec, now_ns, self._begin_epoch()))
        if spec.kind in BREAKING:
            self._tolls[step] = self._so_far(spec)
        self._history.note(fault.told(FaultCommanded, t_commanded_ns=now_ns, for_ns=spec.for_ns))
        self._change(fault, begins=True)
        self._history.note(fault.told(FaultObserved, took_ms=0.0))

    def _heal_at(self, step: FaultStep) -> None:
        if self._sending:
            self._heal(self.done.of(step))

    def _heal(self, fault: Fault) -> None:
        fault.over_ns, fault.healed_epoch = self._agenda.now_ns, self._begin_epoch()
        if fault.spec.kind in BREAKING:
            self._count(fault)
        self._history.note(fault.told(FaultEndCommanded, t_commanded_ns=fault.over_ns))
        measured = self._change(fault, begins=False)
        self._history.note(fault.told(FaultHealed, took_ms=0.0, **measured))

    def _begin_epoch(self) -> int:
        plane = self._ground.plane
        plane.advance(self._agenda.now_ns)
        epoch = self.done.end_epoch(plane.flows())
        plane.begin_epoch(epoch)
        return epoch

    def _change(self, fault: Fault, *, begins: bool) -> Measured:
        """Begin or end a fault; return what was measured of it."""
        ground, spec = self._ground, fault.spec
        if spec.partition is not None:
            ground.mesh.divide(spec.partition, apart=begins)
            if ground.peers is not None:
                ground.peers.divide(spec.partition, apart=begins)
        elif spec.kind == "kill":
            ground.control.kill(all_of_them=spec.kill == "controllers")
        elif spec.kind in ("link_down", "flap"):
            self._link(spec.node, down=begins)
        elif spec.kind == "loss":
            return self._lose(fault, begins=begins)
        elif spec.kind == "pause":
            for stopped in (ground.agents, ground.mesh):
                (stopped.stop if begins else stopped.go_on)(spec.node)
        else:
            row = ground.row_of[spec.node]
            (ground.plane.crash if begins else ground.plane.restart)(row)
            for lived in (ground.agents, ground.mesh):
                (lived.kill if begins else lived.restart)(spec.node)
        return {}

    def _lose(self, fault: Fault, *, begins: bool) -> Measured:
        row, spec = self._ground.row_of[fault.spec.node], fault.spec
        link = self._ground.plane.losses.setdefault(row, LinkLoss())
        if begins:
            self._drawn_before[row] = link.drawn_pkts, link.lost_pkts
            link.set(spec.ratio or 0.0, self._ground.seed_of(f"loss {spec.link}"))
            return {}
        link.set(0.0)
        met, lost = self._drawn_before[row]
        return {"met_pkts": link.drawn_pkts - met, "lost_pkts": link.lost_pkts - lost}

    def _link(self, node: str, *, down: bool) -> None:
        ground, row, model = self._ground, self._ground.row_of[node], self._model
        ground.plane.set_link(row, down=down)

        def notice() -> None:
            ground.plane.advance(self._agenda.now_ns)
            ground.plane.switch.set_port(row, down=down)

        self._agenda.after(model.port_ns + ground.plane.behind_switch_ns, notice)
        self._agenda.after(model.port_ns + model.port_report_ns, lambda: ground.control.port_changed(node, up=not down))
