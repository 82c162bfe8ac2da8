"""`crash`: the node takes nothing in, its agent and its mesh member end, what lies in its queue is thrown away.

Over: an empty queue, and an agent and a member that begin a new life.
"""

from __future__ import annotations

from testbed.scenario.fault import FaultSpec
from testbed.simulation.fault_acts.act import FaultAct


class Act(FaultAct):
    """Crashes nodes and starts them anew."""

    def begin(self, spec: FaultSpec) -> None:
        """See `FaultAct.begin`."""
        ground = self.ground
        ground.plane.crash(ground.row_of[spec.node])
        ground.agents.kill(spec.node)
        ground.mesh.kill(spec.node)

    def end(self, spec: FaultSpec) -> None:
        """See `FaultAct.end`."""
        ground = self.ground
        ground.plane.restart(ground.row_of[spec.node])
        ground.agents.restart(spec.node)
        ground.mesh.restart(spec.node)

    def toll(self, node: str) -> int:
        """See `FaultAct.toll`."""
        toll = self.ground.plane.toll
        assert toll is not None
        return toll.of(self.ground.row_of[node], crash=True)
