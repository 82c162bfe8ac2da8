"""`kill`: the active controller ends, or all controllers."""

from __future__ import annotations

from testbed.scenario.fault import FaultSpec
from testbed.simulation.fault_acts.act import FaultAct


class Act(FaultAct):
    """Ends controllers; nothing heals it."""

    def begin(self, spec: FaultSpec) -> None:
        """See `FaultAct.begin`."""
        self.context.clusters[0].control.kill(all_of_them=spec.target == "controllers")
