"""The interface of a fault in virtual time: how it begins and ends."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from testbed.scenario.fault import FaultSpec
from testbed.simulation.agenda import Agenda
from testbed.simulation.agents import Agents
from testbed.simulation.cluster import Cluster
from testbed.simulation.control import Control
from testbed.simulation.mesh import Mesh
from testbed.simulation.network_model import NetworkModel
from testbed.simulation.packet_plane import PacketPlane
from testbed.simulation.peers import Peers

Measured = dict[str, int]


@dataclass(frozen=True, slots=True)
class FaultContext:
    """What faults act on."""

    plane: PacketPlane
    agents: Agents
    cluster: Cluster
    control: Control
    mesh: Mesh
    peers: Peers | None
    row_of: dict[str, int]
    seed_of: Callable[[str], int]
    agenda: Agenda
    model: NetworkModel


class FaultAct(ABC):
    """The act of one kind of fault; `begin` and `end` return what was measured."""

    def __init__(self, context: FaultContext) -> None:
        self.context = context

    @abstractmethod
    def begin(self, spec: FaultSpec) -> Measured | None:
        """Break what the fault says."""

    def end(self, spec: FaultSpec) -> Measured | None:  # noqa: B027 (some faults end by themselves)
        """Heal it."""

    def lost_packets(self, node: str) -> int:
        """Return how many planned packets faults of this kind have lost at that node so far."""
        return 0
