"""`fixed`: as many nodes as there are; what every other rule is compared with."""

from __future__ import annotations

from testbed.policies.autoscaler import AutoscalerRow, Wish
from testbed.records.events import LoadMeasured


class Fixed:
    """Wants what is there."""

    slack, stabilises = 0, False

    def wish(self, seen: LoadMeasured, now_ns: int) -> Wish:
        """See `ScalingRule.wish`."""
        return Wish(seen.serving + seen.joining, seen.load_bps, "fixed")


ROWS = (
    AutoscalerRow(
        name="fixed", doc="the autoscaler never adds or removes a node", rule=lambda _spec, _capacity, _ahead: Fixed()
    ),
)
