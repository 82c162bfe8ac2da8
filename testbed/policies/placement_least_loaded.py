"""`least-loaded`: all new flows to the site with the lowest load relative to its capacity, however far it is.

All regions see the same reports, so all of them choose the same site until the next ones: they herd (M. Mitzenmacher,
"How Useful Is Old Information?", IEEE TPDS 2000).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from testbed.policies.placement import Place, PlacementRow
from testbed.records.events import Floats, SitesHeard
from testbed.scenario.placement import PlacementSpec


class LeastLoaded:
    """Looks at loads; of equally loaded sites the nearest."""

    heeds_loss: bool = True
    silent_syncs: float | None = None

    def __init__(self, _spec: PlacementSpec, place: Place) -> None:
        self._order = place.order

    def weights(self, heard: SitesHeard, usable: NDArray[np.bool_]) -> Floats:
        """See `PlacementRule.weights`; a site without capacity counts as overloaded."""
        used = np.where(heard.capacity_bps > 0, heard.load_bps / np.maximum(heard.capacity_bps, 1), np.inf)
        weights = np.zeros(len(usable))
        weights[min((row for row in self._order if usable[row]), key=lambda row: used[row])] = 1.0
        return weights


ROWS = (
    PlacementRow(
        name="least-loaded",
        doc="all new flows to the site with the lowest reported load relative to its capacity; ignores distance",
        rule=LeastLoaded,
    ),
)
