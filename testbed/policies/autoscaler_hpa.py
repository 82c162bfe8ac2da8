"""`hpa`: the rule of the Kubernetes Horizontal Pod Autoscaler, with the load of a node as its metric.

    desired = ceil(current × metric / target)       metric: mean utilisation of the ready nodes, target: `utilisation`

Nothing changes while metric / target is within `tolerance` of 1.  Nodes that are not ready yet count as idle when
nodes are to be added; if the ratio is then within the tolerance or below 1, nothing changes.  The stabilisation window
for removals is `stabilisation`, 300 s by default as there.

Source: Kubernetes documentation, "Horizontal Pod Autoscaling", section "Algorithm details".
"""

from __future__ import annotations

from testbed.policies.autoscaler import AutoscalerRow, Capacity, Wish
from testbed.records.events import LoadMeasured
from testbed.scenario.autoscaler import AutoscalerSpec


class Hpa:
    """Remembers nothing: the window is the frame's."""

    slack, stabilises = 0, True

    def __init__(self, spec: AutoscalerSpec, capacity: Capacity) -> None:
        self._capacity, self._tolerance = capacity, spec.tolerance_ratio

    def wish(self, seen: LoadMeasured, now_ns: int) -> Wish:
        """See `ScalingRule.wish`."""
        current, ready = seen.serving + seen.joining, max(1, seen.serving)
        ratio = seen.load_bps / (ready * self._capacity.used_bps)
        counted = ready
        if ratio > 1 and seen.joining:
            counted, ratio = current, seen.load_bps / (current * self._capacity.used_bps)
            if ratio < 1:
                return Wish(current, seen.load_bps, "joining nodes will do")
        if abs(ratio - 1) <= self._tolerance:
            return Wish(current, seen.load_bps, "within the tolerance")
        return Wish(max(1, -int(-(counted * ratio) // 1)), seen.load_bps, "utilisation")


ROWS = (
    AutoscalerRow(
        name="hpa",
        doc="the rule of the Kubernetes Horizontal Pod Autoscaler",
        source='Kubernetes, "Horizontal Pod Autoscaling"',
        rule=lambda spec, capacity, _ahead: Hpa(spec, capacity),
    ),
)
