"""The interface of a fault in virtual time: how it begins and ends."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from testbed.scenario.fault import FaultSpec
from testbed.simulation.agenda import Agenda
from testbed.simulation.assembly import Assembly
from testbed.simulation.cluster import Cluster
from testbed.simulation.exchange import Exchange
from testbed.simulation.journeys import Journeys
from testbed.simulation.mesh import Mesh
from testbed.simulation.network_model import NetworkModel
from testbed.simulation.packet_plane import PacketPlane

Measured = dict[str, int]


@dataclass(frozen=True, slots=True)
class FaultContext:
    """What faults act on.

    Attributes:
        plane: all nodes, by `row_of`.
        clusters: one, or one a site.
        exchange: between sites; None without.
        row_of: the rows of all nodes.
        journeys: through the switches in front of the nodes; None with several sites.
    """

    plane: PacketPlane
    clusters: tuple[Assembly, ...]
    exchange: Exchange | None
    row_of: dict[str, int]
    seed_of: Callable[[str], int]
    agenda: Agenda
    model: NetworkModel
    journeys: Journeys | None = None

    def of(self, node: str) -> Assembly:
        """Return the cluster of a node."""
        return next(cluster for cluster in self.clusters if node in cluster.row_of)

    def changing(self, node: str) -> tuple[Cluster, Mesh]:
        """Return what starts and stops the nodes of its cluster, and their mesh."""
        cluster = self.of(node)
        assert cluster.cluster is not None
        assert cluster.mesh is not None
        return cluster.cluster, cluster.mesh

    def running(self, site: str) -> tuple[str, ...]:
        """Return the nodes of a site that are in service or on their way, in order."""
        assert self.exchange is not None
        cluster = self.clusters[self.exchange.sites.index(site)]
        return tuple(node for node in cluster.names if cluster.cluster is None or cluster.cluster.runs(node))


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
