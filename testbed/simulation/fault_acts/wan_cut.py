"""`wan_cut`: the link of the WAN between two sites loses all that is sent into it, packets and reports."""

from __future__ import annotations

from testbed.scenario.fault import FaultSpec
from testbed.simulation.fault_acts.act import FaultAct


class Act(FaultAct):
    """Cuts links between sites, and counts what they lost."""

    def begin(self, spec: FaultSpec) -> None:
        """See `FaultAct.begin`."""
        assert self.context.exchange is not None
        self.context.exchange.cut(spec.target, apart=True)

    def end(self, spec: FaultSpec) -> None:
        """See `FaultAct.end`."""
        assert self.context.exchange is not None
        self.context.exchange.cut(spec.target, apart=False)
