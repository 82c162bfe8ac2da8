"""`target-tracking`: the utilisation is kept at its target, quickly upwards and slowly downwards.

Two alarms, as target tracking of a cloud has them: the utilisation was above the target in `HIGH_PERIODS` periods in a
row, or below `LOW_RATIO` of it in `LOW_PERIODS`.  Then there are to be as many nodes as bring it to the target.

Source: Amazon Web Services, "Target tracking scaling policies" (three data points above the target, fifteen below
90 %).
"""

from __future__ import annotations

from testbed.policies.autoscaler import AutoscalerRow, Capacity, Wish
from testbed.records.events import LoadMeasured

HIGH_PERIODS, LOW_PERIODS = 3, 15
LOW_RATIO = 0.9


class TargetTracking:
    """Counts the periods above and below."""

    slack, stabilises = 0, False

    def __init__(self, capacity: Capacity) -> None:
        self._capacity = capacity
        self._high = self._low = 0

    def wish(self, seen: LoadMeasured, now_ns: int) -> Wish:
        """See `ScalingRule.wish`."""
        current = seen.serving + seen.joining
        ratio = seen.load_bps / (max(1, seen.serving) * self._capacity.used_bps)
        self._high = self._high + 1 if ratio > 1 else 0
        self._low = self._low + 1 if ratio < LOW_RATIO else 0
        needed = self._capacity.nodes_for(seen.load_bps)
        if self._high >= HIGH_PERIODS:
            return Wish(max(needed, current), seen.load_bps, "above the target")
        if self._low >= LOW_PERIODS:
            return Wish(min(needed, current), seen.load_bps, "below the target")
        return Wish(current, seen.load_bps, "no alarm")


ROWS = (
    AutoscalerRow(
        name="target-tracking",
        doc="adds nodes after 3 periods above the target utilisation, removes them after 15 below 90 % of it",
        source='Amazon Web Services, "Target tracking scaling policies"',
        rule=lambda _spec, capacity, _ahead: TargetTracking(capacity),
    ),
)
