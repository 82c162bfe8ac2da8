"""`pause`: agent and mesh member of the node stop, and go on later."""

from __future__ import annotations

from testbed.scenario.fault import FaultSpec
from testbed.simulation.fault_acts.act import FaultAct


class Act(FaultAct):
    """Stops the processes of nodes."""

    def begin(self, spec: FaultSpec) -> None:
        """See `FaultAct.begin`."""
        self.ground.agents.stop(spec.node)
        self.ground.mesh.stop(spec.node)

    def end(self, spec: FaultSpec) -> None:
        """See `FaultAct.end`."""
        self.ground.agents.go_on(spec.node)
        self.ground.mesh.go_on(spec.node)
