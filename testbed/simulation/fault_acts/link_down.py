"""`link_down`, and `flap` once a period: nothing reaches the node.

`port_ns` later the switch sees its port down and tells the balancer.  Over: the same the other way round.
"""

from __future__ import annotations

from testbed.scenario.fault import FaultSpec
from testbed.simulation.fault_acts.act import FaultAct


class Act(FaultAct):
    """Takes links down and up."""

    def begin(self, spec: FaultSpec) -> None:
        """See `FaultAct.begin`."""
        self._set(spec.node, down=True)

    def end(self, spec: FaultSpec) -> None:
        """See `FaultAct.end`."""
        self._set(spec.node, down=False)

    def toll(self, node: str) -> int:
        """See `FaultAct.toll`."""
        toll = self.ground.plane.toll
        assert toll is not None
        return toll.of(self.ground.row_of[node], crash=False)

    def _set(self, node: str, *, down: bool) -> None:
        ground, row, model = self.ground, self.ground.row_of[node], self.ground.model
        ground.plane.set_link(row, down=down)

        def notice() -> None:
            ground.plane.advance(ground.agenda.now_ns)
            ground.plane.switch.set_port(row, down=down)

        ground.agenda.after(model.port_ns + ground.plane.behind_switch_ns, notice)
        reported_ns = model.port_ns + model.port_report_ns
        ground.agenda.after(reported_ns, lambda: ground.control.port_changed(node, up=not down))
