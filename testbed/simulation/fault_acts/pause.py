"""`pause`: agent and mesh member of the node are stopped and resumed later."""

from __future__ import annotations

from testbed.scenario.fault import FaultSpec
from testbed.simulation.fault_acts.act import FaultAct


class Act(FaultAct):
    """Stops the processes of nodes."""

    def begin(self, spec: FaultSpec) -> None:
        """See `FaultAct.begin`."""
        self.context.of(spec.node).agents.stop(spec.node)
        self.context.changing(spec.node)[1].stop(spec.node)

    def end(self, spec: FaultSpec) -> None:
        """See `FaultAct.end`."""
        self.context.of(spec.node).agents.go_on(spec.node)
        self.context.changing(spec.node)[1].go_on(spec.node)
