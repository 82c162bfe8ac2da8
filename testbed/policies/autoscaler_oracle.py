"""`oracle`: knows the traffic plan, and so the highest load until another decision has an effect.

A lower bound for what a rule can spare, not a rule to be had.
"""

from __future__ import annotations

from testbed.policies.autoscaler import Ahead, AutoscalerRow, Capacity, Wish
from testbed.records.events import LoadMeasured
from testbed.scenario.autoscaler import AutoscalerSpec


class Oracle:
    """Reads the plan."""

    slack, stabilises = 0, False

    def __init__(self, spec: AutoscalerSpec, capacity: Capacity, ahead: Ahead) -> None:
        self._capacity, self._ahead = capacity, ahead
        self._reach_ns = spec.horizon_ns + spec.period_ns

    def wish(self, seen: LoadMeasured, now_ns: int) -> Wish:
        """See `ScalingRule.wish`."""
        planned_bps = self._ahead(now_ns, now_ns + self._reach_ns)
        return Wish(self._capacity.nodes_for(planned_bps), planned_bps, "plan")


ROWS = (
    AutoscalerRow(
        name="oracle",
        doc="uses the planned load up to the next decision's effect; a lower bound on the number of nodes",
        reads_plan=True,
        rule=Oracle,
    ),
)
