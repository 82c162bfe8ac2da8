"""`site_loss`: the site reports nothing any more; `faults` crashes its nodes with it, and restarts them.

The edge of its region lives on, and decides where the flows of the region go.
"""

from __future__ import annotations

from testbed.scenario.fault import FaultSpec
from testbed.simulation.fault_acts.act import FaultAct


class Act(FaultAct):
    """Silences sites."""

    def begin(self, spec: FaultSpec) -> None:
        """See `FaultAct.begin`."""
        assert self.context.exchange is not None
        self.context.exchange.lose(spec.site)

    def end(self, spec: FaultSpec) -> None:
        """See `FaultAct.end`."""
        assert self.context.exchange is not None
        self.context.exchange.regain(spec.site)
