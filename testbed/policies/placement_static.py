"""`static`: each region has one site, whatever happens to it, as with anycast whose routes do not change."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from testbed.policies.placement import Place, PlacementRow
from testbed.records.events import Floats, SitesHeard
from testbed.scenario.placement import PlacementSpec


class Static:
    """The own site, always."""

    heeds_loss: bool = False
    silent_syncs: float | None = None

    def __init__(self, _spec: PlacementSpec, place: Place) -> None:
        self._home = place.home

    def weights(self, heard: SitesHeard, usable: NDArray[np.bool_]) -> Floats:
        """See `PlacementRule.weights`."""
        weights = np.zeros(len(usable))
        weights[self._home] = 1.0
        return weights


ROWS = (
    PlacementRow(
        name="static",
        doc="all new flows to the site of the own region, even if it is lost (anycast with fixed routes)",
        rule=Static,
    ),
)
