"""Which site serves the new flows of a region, as a scenario writes it, and what the sites report to each other.

Sites exchange *reports* about themselves, never the states of their nodes: one message to each other site every
`sync_interval`.  `share` says what is in it, and so what is measured when reports are compared with none.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from testbed import units
from testbed.scenario.base import Duration, Number, Spec
from testbed.scenario.tables import PlacementPolicyName

Share = Literal["none", "load", "forecast"]


class PlacementSpec(Spec):
    """Which site serves the new flows of a region; of a topology with several sites."""

    policy: PlacementPolicyName = Field("ready", description="the policy that assigns new flows to sites")
    sync_interval_ns: Duration = Field(
        "100ms",
        alias="sync_interval",
        ge=10 * units.NS_PER_MS,
        description="interval between the reports of a site, and between two decisions of a region",
    )
    share: Share = Field(
        "forecast",
        description="content of a report. none: only that the site exists; load: capacity, load and demand; forecast: "
        "also the expected demand",
    )
    misses: int = Field(3, ge=1, le=100, description="missed reports after which a site counts as lost")
    hold_ns: Duration = Field(
        "1s", alias="hold", description="time for which a site must report again before a region uses it again"
    )
    utilisation_ratio: Number = Field(
        0.8, alias="utilisation", gt=0.0, le=1.0, description="load, relative to capacity, up to which a site is ready"
    )
    error_ratio: Number = Field(
        0.25,
        alias="error",
        gt=0.0,
        le=1.0,
        description="maximum relative squared error up to which a forecast by the demand of another region is used",
    )
    lag_ns: Duration = Field(
        "30s",
        alias="lag",
        le=3600 * units.NS_PER_S,
        description="longest time that a wave takes from one site to another",
    )

    def silence_ns(self, delay_ns: int) -> int:
        """Return the age at which the last report of a site shows that it is lost; `delay_ns` is that of the WAN."""
        return self.misses * self.sync_interval_ns + self.sync_interval_ns // 2 + delay_ns
