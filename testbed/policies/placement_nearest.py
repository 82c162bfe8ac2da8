"""`nearest`: all new flows to the nearest site that reports, however loaded it is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from testbed.policies.placement import Place, PlacementRow
from testbed.records.events import Floats, SitesHeard
from testbed.scenario.placement import PlacementSpec


class Nearest:
    """Looks at delays alone."""

    heeds_loss: bool = True
    silent_syncs: float | None = None

    def __init__(self, _spec: PlacementSpec, place: Place) -> None:
        self._order = place.order

    def weights(self, heard: SitesHeard, usable: NDArray[np.bool_]) -> Floats:
        """See `PlacementRule.weights`."""
        weights = np.zeros(len(usable))
        weights[next(row for row in self._order if usable[row])] = 1.0
        return weights


ROWS = (
    PlacementRow(
        name="nearest",
        doc="all new flows to the nearest site that reports; ignores load",
        rule=Nearest,
    ),
)
