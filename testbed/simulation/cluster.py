"""Nodes that are added and drained in virtual time: executes the decisions of `policies.orchestrator`.

    StartNode ─ start_ns later, agent and mesh member begin ─▶ NodeReady
    stages ─ message_ns later ─▶ balancer, every living member of the mesh
    StopNode ─ agent and mesh member end

A node that is stopped before its start is complete never runs.  The start of a node that has crashed is complete when
its crash is over.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from testbed.policies.orchestrator import NodeLook, Orchestrator, Turn
from testbed.records.events import NodeFailed, NodeReady, StagesAnnounced, StartNode
from testbed.simulation.agenda import Agenda
from testbed.simulation.agents import Agents
from testbed.simulation.cluster_plane import ClusterPlane
from testbed.simulation.control import Control
from testbed.simulation.history import History
from testbed.simulation.mesh import Mesh
from testbed.simulation.network_model import NetworkModel


@dataclass(frozen=True, slots=True)
class ClusterParts:
    """What a node is made of, and where the stages are announced."""

    plane: ClusterPlane
    agents: Agents
    control: Control
    mesh: Mesh
    agenda: Agenda
    history: History
    model: NetworkModel


class Cluster:
    """The nodes, as the orchestrator has them.

    Attributes:
        lost: whether a fault keeps every node of it from starting.
    """

    def __init__(self, orchestrator: Orchestrator, parts: ClusterParts, spare: tuple[str, ...]) -> None:
        """Begin with agents and members of the `spare` nodes ended."""
        self._orchestrator, self._parts, self._agenda = orchestrator, parts, parts.agenda
        self._row_of = {node: row for row, node in enumerate(orchestrator.stages.nodes)}
        self._life: dict[str, int] = {}  # how often each node was started or stopped
        self._runs_ns: dict[str, int] = {}
        self._stopped_ns: dict[str, int] = dict.fromkeys(spare, 0)
        self._absent_ns: dict[str, int] = {}
        self._held: dict[str, int] = {}  # nodes that would begin but for a crash, and which life that is
        for node in spare:
            parts.agents.begin_absent(node)
            parts.mesh.kill(node)
        self.lost = False
        self._wake_next()

    def end(self) -> None:
        """Order nothing more."""
        self._orchestrator.end()

    def expect(self, demand_bps: int) -> None:
        """Take in the demand that other sites announce."""
        self._orchestrator.expect(demand_bps)

    def absent_ns(self, node: str, ran_ns: int) -> int:
        """Return how long, until `ran_ns`, the node was ordered not to run."""
        since_ns = self._stopped_ns.get(node)
        return self._absent_ns.get(node, 0) + (0 if since_ns is None else max(0, ran_ns - since_ns))

    def failed(self, node: str) -> None:
        """Note that a fault has ended the processes of a node; who started them sees it at once."""
        self._carry_out(self._orchestrator.tell(NodeFailed(node=node), self._agenda.now_ns))

    def repaired(self, node: str) -> None:
        """Take in that the crash of a node is over; what was ordered meanwhile begins."""
        life = self._held.pop(node, None)
        if life is not None:
            self._agenda.after(self._parts.model.start_ns, partial(self._begin, node, life))

    def runs(self, node: str) -> bool:
        """Return whether a node is not out of service by order."""
        return node not in self._stopped_ns

    # ---------------------------------------------------------------------------------------------------------- turns

    def _wake_next(self) -> None:
        due_ns = self._orchestrator.next_ns()
        if due_ns is not None:
            self._agenda.at(max(due_ns, self._agenda.now_ns), partial(self._wake, due_ns))

    def _wake(self, due_ns: int) -> None:
        if self._orchestrator.next_ns() == due_ns:  # else another entry has been made since
            self._carry_out(self._orchestrator.wake(self._agenda.now_ns, self._look))

    def _look(self) -> dict[str, NodeLook]:
        self._parts.plane.advance(self._agenda.now_ns)
        return {node: NodeLook(*seen) for node, seen in self._parts.plane.looks().items()}

    def _carry_out(self, turn: Turn) -> None:
        for noted in turn.history:
            self._parts.history.record(noted.policy, noted.direction, noted.record)
        for action in turn.actions:
            self._life[action.node] = self._life.get(action.node, 0) + 1
            if isinstance(action, StartNode):
                begin = partial(self._begin, action.node, self._life[action.node])
                self._agenda.after(self._parts.model.start_ns, begin)
            elif action.node not in self._stopped_ns:
                self._stop(action.node)
        if turn.announced is not None:
            self._agenda.after(self._parts.model.message_ns, partial(self._announce, turn.announced))
        self._wake_next()

    def _announce(self, stages: StagesAnnounced) -> None:
        self._parts.control.announced(stages)
        self._parts.mesh.announced(stages)

    # ---------------------------------------------------------------------------------------------------------- nodes

    def _begin(self, node: str, life: int) -> None:
        if self._life[node] != life or self.lost:
            return
        if self._parts.plane.has_crashed(self._row_of[node]):
            self._held[node] = life
            return
        now_ns = self._agenda.now_ns
        self._absent_ns[node] = self._absent_ns.get(node, 0) + now_ns - self._stopped_ns.pop(node)
        self._parts.plane.restart(self._row_of[node])
        self._parts.agents.restart(node)
        self._parts.mesh.restart(node)
        self._carry_out(self._orchestrator.tell(NodeReady(node=node), now_ns))

    def _stop(self, node: str) -> None:
        self._stopped_ns[node] = self._agenda.now_ns
        self._parts.agents.kill(node, "drain")
        self._parts.mesh.kill(node)
