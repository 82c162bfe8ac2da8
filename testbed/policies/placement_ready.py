"""`ready`: the nearest site that is ready; what it has no room for goes to the next nearest, and so on.

A site k has room for what this region may send there:

    room(k) = u × capacity(k) - (load(k) - sent to k by this region) - growth(k)        u: `placement.utilisation`
    growth(k) = max(0, expected demand of the region of k - its demand now), of sites other than the own

`growth` is what the reports say ahead: a site that is to serve a wave of its own region soon is not filled before by
the flows of another, which would stay there.  The demand of the region fills the rooms, the nearest site first.  What
is left fills the sites up to their capacity, in the same order, and what is left then is divided by capacity: all
sites are overloaded alike.

Only new flows follow the weights; flows stay where they are.  So a weight is the share that a site is to have of the
demand, corrected by what it has too much or too little of at present (`_GAIN`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from testbed.policies.placement import Place, PlacementRow, filled
from testbed.records.events import Floats, SitesHeard
from testbed.scenario.placement import PlacementSpec

_GAIN = 1.0


class Ready:
    """Fills rooms by distance."""

    heeds_loss: bool = True
    silent_syncs: float | None = None

    def __init__(self, spec: PlacementSpec, place: Place) -> None:
        self._order, self._home, self._used_ratio = place.order, place.home, spec.utilisation_ratio
        self._at_start_bps = place.capacity_bps

    def weights(self, heard: SitesHeard, usable: NDArray[np.bool_]) -> Floats:
        """See `PlacementRule.weights`."""
        sent = heard.sent_bps.astype(np.float64)
        known = (heard.age_ns >= 0) & (heard.capacity_bps > 0)
        capacity = np.where(known, heard.capacity_bps, np.where(heard.age_ns < 0, self._at_start_bps, 0)) * usable
        others = np.maximum(0, heard.load_bps - sent) + self._growth(heard)
        demand = float(sent.sum())
        share = self._divided(demand, capacity, others)
        if demand > 0:
            share = np.maximum(0.0, share + _GAIN * (share - sent / demand)) * usable
        weights: Floats = share if share.sum() > 0 else usable / usable.sum()
        return weights

    def _growth(self, heard: SitesHeard) -> Floats:
        growth: Floats = np.maximum(0, heard.expected_bps - heard.demand_bps).astype(np.float64)
        growth[self._home] = 0.0
        return growth

    def _divided(self, demand: float, capacity: Floats, others: Floats) -> Floats:
        """Return the share of each site of this region's demand; without any, all to the first with room."""
        wanted = max(demand, 1.0)
        taken, left = filled(wanted, self._used_ratio * capacity - others, self._order)
        more, left = filled(left, capacity - others - taken, self._order)
        rest = left * capacity / capacity.sum() if capacity.sum() > 0 else 0.0
        share: Floats = (taken + more + rest) / wanted
        return share


ROWS = (
    PlacementRow(
        name="ready",
        doc="the nearest site with room for the demand; what does not fit goes to the next nearest",
        rule=Ready,
    ),
)
