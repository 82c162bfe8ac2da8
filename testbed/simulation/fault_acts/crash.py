"""`crash`: the node receives nothing, its agent and mesh member end, its queue is discarded.

End of the fault: an empty queue, and a restarted agent and mesh member.
"""

from __future__ import annotations

from testbed.scenario.fault import FaultSpec
from testbed.simulation.fault_acts.act import FaultAct


class Act(FaultAct):
    """Crashes nodes and restarts them."""

    def begin(self, spec: FaultSpec) -> None:
        """See `FaultAct.begin`."""
        context = self.context
        context.plane.crash(context.row_of[spec.node])
        context.of(spec.node).agents.kill(spec.node)
        cluster, mesh = context.changing(spec.node)
        mesh.kill(spec.node)
        cluster.failed(spec.node)

    def end(self, spec: FaultSpec) -> None:
        """See `FaultAct.end`."""
        context = self.context
        context.plane.restart(context.row_of[spec.node])
        cluster, mesh = context.changing(spec.node)
        if cluster.runs(spec.node):
            context.of(spec.node).agents.restart(spec.node)
            mesh.restart(spec.node)
        else:
            cluster.repaired(spec.node)

    def lost_packets(self, node: str) -> int:
        """See `FaultAct.lost_packets`."""
        counters = self.context.plane.fault_losses
        assert counters is not None
        return counters.of(self.context.row_of[node], crash=True)
