"""`link_down` of a link between switches, and `flap` once a period: packets are lost there, in both directions.

`port_ns` later both switches see their ports down and take their other ways, where they have any.  Over: the link
passes packets again at once, and the switches use it `port_ns` later.
"""

from __future__ import annotations

from testbed.scenario.fault import FaultSpec
from testbed.simulation.fault_acts.act import FaultAct, FaultContext, Measured
from testbed.simulation.journeys import Journeys


class Act(FaultAct):
    """Takes links between switches down and up."""

    def __init__(self, context: FaultContext) -> None:
        """See `FaultAct`."""
        super().__init__(context)
        self._lost_before: dict[str, int] = {}

    def begin(self, spec: FaultSpec) -> None:
        """See `FaultAct.begin`."""
        name = self._set(spec, down=True)
        self._lost_before[name] = self._journeys.cuts.lost_pkts[name]

    def end(self, spec: FaultSpec) -> Measured:
        """See `FaultAct.end`."""
        name = self._set(spec, down=False)
        return {"lost_pkts": self._journeys.cuts.lost_pkts[name] - self._lost_before.pop(name)}

    @property
    def _journeys(self) -> Journeys:
        assert self.context.journeys is not None
        return self.context.journeys

    def _set(self, spec: FaultSpec, *, down: bool) -> str:
        context, journeys = self.context, self._journeys
        name = journeys.cuts.network.trunk(spec.place).name
        journeys.cuts.set_down(name, down=down)

        def notice() -> None:
            context.plane.advance(context.agenda.now_ns)
            journeys.reroute()

        context.agenda.after(context.model.port_ns + context.plane.behind_switch_ns, notice)
        return name
