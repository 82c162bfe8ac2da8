"""`partition`: mesh messages between the groups are lost; messages to the balancer arrive."""

from __future__ import annotations

from testbed.scenario.fault import FaultSpec
from testbed.simulation.fault_acts.act import FaultAct


class Act(FaultAct):
    """Divides the mesh and joins it again."""

    def begin(self, spec: FaultSpec) -> None:
        """See `FaultAct.begin`."""
        self._divide(spec, apart=True)

    def end(self, spec: FaultSpec) -> None:
        """See `FaultAct.end`."""
        self._divide(spec, apart=False)

    def _divide(self, spec: FaultSpec, *, apart: bool) -> None:
        cluster = self.context.clusters[0]
        assert cluster.mesh is not None
        cluster.mesh.divide(spec.groups, apart=apart)
        if cluster.peers is not None:
            cluster.peers.divide(spec.groups, apart=apart)
