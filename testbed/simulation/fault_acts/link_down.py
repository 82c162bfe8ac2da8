"""`link_down`, and `flap` once a period: nothing reaches the node.

The switch sees its port down `port_ns` later and reports it to the balancer.  The end of the fault works the same way.
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

    def lost_packets(self, node: str) -> int:
        """See `FaultAct.lost_packets`."""
        counters = self.context.plane.fault_losses
        assert counters is not None
        return counters.of(self.context.row_of[node], crash=False)

    def _set(self, node: str, *, down: bool) -> None:
        context, row, model = self.context, self.context.row_of[node], self.context.model
        cluster = context.of(node)
        context.plane.set_link(row, down=down)

        def notice() -> None:
            context.plane.advance(context.agenda.now_ns)
            cluster.plane.switch.set_port(cluster.row_of[node], down=down)

        context.agenda.after(model.port_ns + context.plane.behind_switch_ns, notice)
        reported_ns = model.port_ns + model.port_report_ns
        context.agenda.after(reported_ns, lambda: cluster.control.port_changed(node, up=not down))
