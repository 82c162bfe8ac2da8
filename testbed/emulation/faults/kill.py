"""`kill`: the active controller is killed, or all controllers."""

from __future__ import annotations

from testbed.emulation.faults.act import FaultAct
from testbed.emulation.processes.controller_process import CONTROLLERS
from testbed.scenario.fault import FaultSpec


class Act(FaultAct):
    """Kills controllers; nothing heals it."""

    def begin(self, spec: FaultSpec) -> None:
        """See `FaultAct.begin`."""
        alive = [process.name for process in self.context.alive(*CONTROLLERS)]
        self.context.end(*(alive if spec.target == "controllers" else alive[:1]))
