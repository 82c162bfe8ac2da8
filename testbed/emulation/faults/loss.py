"""`loss`: packets on their way to the node are lost at random, drawn from the seed of the scenario."""

from __future__ import annotations

from collections.abc import Sequence

from testbed.emulation.faults.act import FaultAct, FaultContext, Measured, is_control
from testbed.emulation.inventory.difference import Difference
from testbed.errors import ToolError
from testbed.scenario.fault import FaultSpec
from testbed.scenario.network import Network


class Act(FaultAct):
    """Lets the node's program lose packets, and counts them."""

    def __init__(self, context: FaultContext, specs: Sequence[FaultSpec]) -> None:
        """See `FaultAct`."""
        super().__init__(context, specs)
        self._before: dict[str, tuple[int, int]] = {}

    def begin(self, spec: FaultSpec) -> None:
        """See `FaultAct.begin`."""
        assert spec.ratio is not None
        program = self.context.buffers.programs[spec.node]
        self._before[spec.node] = program.loss()
        program.set_loss(spec.ratio, self.context.seed_of(f"loss {spec.link}"))

    def end(self, spec: FaultSpec) -> Measured:
        """See `FaultAct.end`."""
        program = self.context.buffers.programs[spec.node]
        program.set_loss(0.0)
        before = self._before.pop(spec.node)
        met, lost = (after - old for after, old in zip(program.loss(), before, strict=True))
        if not met:
            raise ToolError(f"losing packets on {spec.link}", "no packet arrived during the fault")
        return {"met_pkts": met, "lost_pkts": lost}

    @staticmethod
    def covers(found: Difference, spec: FaultSpec, network: Network) -> bool:
        """Return whether it is what the node's program loses packets by."""
        return is_control(found, spec.node, "loss_threshold", "loss_seed")
