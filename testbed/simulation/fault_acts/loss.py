"""`loss`: packets on their way to the node are lost at random, the same ones as in the emulation."""

from __future__ import annotations

from testbed.scenario.fault import FaultSpec
from testbed.simulation.fault_acts.act import FaultAct, FaultContext, Measured
from testbed.simulation.link_loss import LinkLoss


class Act(FaultAct):
    """Lets links lose packets, and counts them."""

    def __init__(self, context: FaultContext) -> None:
        super().__init__(context)
        self._before: dict[str, tuple[int, int]] = {}

    def begin(self, spec: FaultSpec) -> None:
        """See `FaultAct.begin`."""
        link = self._link(spec.node)
        self._before[spec.node] = link.drawn_pkts, link.lost_pkts
        link.set(spec.ratio or 0.0, self.context.seed_of(f"loss {spec.link}"))

    def end(self, spec: FaultSpec) -> Measured:
        """See `FaultAct.end`."""
        link = self._link(spec.node)
        link.set(0.0)
        met, lost = self._before[spec.node]
        return {"met_pkts": link.drawn_pkts - met, "lost_pkts": link.lost_pkts - lost}

    def _link(self, node: str) -> LinkLoss:
        return self.context.plane.losses.setdefault(self.context.row_of[node], LinkLoss())
