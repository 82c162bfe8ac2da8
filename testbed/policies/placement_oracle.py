"""`oracle`: knows the planned demand of all regions, and what sites report without delay.

All regions fill the sites together, the pairs of region and site with the least delay first, as `ready` would do with
perfect knowledge.  It is a bound for what reports can give, not a policy to be had.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from testbed.policies.placement import Place, PlacementRow
from testbed.records.events import Floats, SitesHeard
from testbed.scenario.placement import PlacementSpec


class Oracle:
    """Reads the plan."""

    heeds_loss: bool = True
    silent_syncs: float | None = 1.5

    def __init__(self, spec: PlacementSpec, place: Place) -> None:
        count = len(place.sites)
        self._home, self._used_ratio = place.home, spec.utilisation_ratio
        pairs = [(region, site) for region in range(count) for site in range(count)]
        self._pairs = sorted(pairs, key=lambda pair: (int(place.delay_ns[pair]), pair))

    def weights(self, heard: SitesHeard, usable: NDArray[np.bool_]) -> Floats:
        """See `PlacementRule.weights`."""
        left = heard.planned_bps.astype(np.float64)
        full = heard.capacity_bps * usable.astype(np.float64)
        taken, used = np.zeros(len(usable)), np.zeros(len(usable))
        for ratio in (self._used_ratio, 1.0):
            for region, site in self._pairs:
                given = min(left[region], max(0.0, ratio * full[site] - used[site]))
                left[region] -= given
                used[site] += given
                taken[site] += given if region == self._home else 0.0
        if full.sum() > 0:
            taken += left[self._home] * full / full.sum()
        if taken.sum() > 0:
            return taken
        nearest = np.zeros(len(usable))
        nearest[next(site for region, site in self._pairs if region == self._home and usable[site])] = 1.0
        return nearest


ROWS = (
    PlacementRow(
        name="oracle",
        doc="knows the planned demand of all regions and the state of all sites; a bound for the others",
        reads_plan=True,
        rule=Oracle,
    ),
)
