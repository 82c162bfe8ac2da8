"""Placement: which site serves the new flows of a region, decided at the edge of the region.

    SitesHeard ─▶ lost sites ─▶ rule ─ weights ─▶ slots ─▶ SetSites         a rule is a file, ``placement_*.py``

The edge has a table of slots like the switch of a balancer: a new flow hashes to a slot, the slot belongs to a site,
and the flow stays there.  A *rule* returns a weight for each site.  What is made of that is the same for all rules:

* A site whose last report is too old (`PlacementSpec.silence_ns`) is *lost*: it gets no flow, and its flows move.  The
  own site is lost, too, if it does not report: the edge outlives the cluster behind it.
* A site that reports again is used again after `hold`, so that one that comes and goes does not move flows each time.
* Where every other site is lost, this edge is cut off, and where all are, nothing is known: a lost site then stays in
  use rather than none.
* The table changes by the fewest slots (`slots.reweight`), and not at all for less than `LEAST_CHANGE_RATIO` of it.

Every region decides by itself, with reports that are as old as the WAN makes them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from testbed.policies.slots import MIN_SLOTS, deal, reweight
from testbed.records.events import Action, Event, Floats, Ints, SetSites, SitesHeard
from testbed.scenario.placement import PlacementSpec
from testbed.scenario.tables import PLACEMENT_POLICIES, PlacementTraits

PLACEMENT = "placement"  # the policy's name in the history
SLOTS = MIN_SLOTS
LEAST_CHANGE_RATIO = 1 / 16
_NEVER = -(2**62)


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """Where a region is.

    Attributes:
        sites: all of them.
        home: row of the site at whose edge it is.
        delay_ns: from each site to each other one, int64 [s, s].
        capacity_bps: of each site at the start, int64 [s].
    """

    sites: tuple[str, ...]
    home: int
    delay_ns: Ints
    capacity_bps: Ints

    @property
    def order(self) -> Ints:
        """Return the rows of the sites, the nearest first."""
        order: Ints = np.argsort(self.delay_ns[self.home], kind="stable")
        return order


class PlacementRule(Protocol):
    """Weighs the sites; one rule, one way of placing.

    Attributes:
        heeds_loss: whether lost sites are left out.
        silent_syncs: after how many intervals without a report a site is lost; None: as the scenario says.
    """

    heeds_loss: bool
    silent_syncs: float | None

    def weights(self, heard: SitesHeard, usable: NDArray[np.bool_]) -> Floats:
        """Return the weight of each site, shape [s]: not negative, one above 0; 0 where it is not `usable`."""
        ...


@dataclass(frozen=True, kw_only=True)
class PlacementRow(PlacementTraits):
    """A placement policy and how it is made.

    Attributes:
        rule: makes the rule of a region.
    """

    rule: Callable[[PlacementSpec, Place], PlacementRule]


def make_placement(spec: PlacementSpec, place: Place) -> PlacementPolicy:
    """Return the policy of a region."""
    row = PLACEMENT_POLICIES[spec.policy]
    assert isinstance(row, PlacementRow), f"{spec.policy} does not say how it is made"
    return PlacementPolicy(spec, place, row.rule(spec, place))


class PlacementPolicy:
    """`SitesHeard` in, `SetSites` out where something changes.

    Attributes:
        table: row of the site of each slot.
    """

    def __init__(self, spec: PlacementSpec, place: Place, rule: PlacementRule) -> None:
        """Begin with all new flows at the own site."""
        self._spec, self._place, self._rule = spec, place, rule
        count, delays = len(place.sites), place.delay_ns[place.home]
        syncs = rule.silent_syncs
        silences = [
            spec.silence_ns(d) if syncs is None else round(syncs * spec.sync_interval_ns) for d in delays.tolist()
        ]
        self._silence_ns = np.array(silences, dtype=np.int64)
        first = np.zeros(count)
        first[place.home] = 1.0
        self.table = deal(first, SLOTS)
        self._lost = np.zeros(count, dtype=bool)
        self._back_ns = np.full(count, _NEVER, dtype=np.int64)  # since when each reports again
        self._begun_ns: int | None = None

    def handle(self, event: Event, now_ns: int) -> list[Action]:
        """See `Policy.handle`."""
        if not isinstance(event, SitesHeard):
            return []
        changed = self._rule.heeds_loss and self._look_for_losses(event, now_ns)
        weights = self._rule.weights(event, ~self._lost)
        table = reweight(self.table, weights)
        moved = int((table != self.table).sum())
        if not changed and moved < LEAST_CHANGE_RATIO * SLOTS:
            return []
        self.table = table
        names = np.array(self._place.sites, dtype=object)
        return [SetSites(slots=tuple(names[table]), lost=tuple(names[self._lost]))]

    def next_deadline_ns(self) -> int | None:
        """See `Policy.next_deadline_ns`: it decides when it hears of the sites, and at no other time."""
        return None

    def _look_for_losses(self, event: SitesHeard, now_ns: int) -> bool:
        """Say which sites are lost by now; return whether that has changed."""
        begun_ns = self._begun_ns = now_ns if self._begun_ns is None else self._begun_ns
        age_ns = np.where(event.age_ns < 0, now_ns - begun_ns, event.age_ns)
        silent = age_ns > self._silence_ns
        self._back_ns = np.where(silent, _NEVER, np.where(self._back_ns == _NEVER, now_ns, self._back_ns))
        held = self._lost & (now_ns - self._back_ns < self._spec.hold_ns)
        lost = silent | held
        if lost.all():
            lost = self._lost  # nothing is known: stay
        changed = bool((lost != self._lost).any())
        self._lost = lost
        return changed


def filled(demand_bps: float, room_bps: Floats, order: Sequence[int] | Ints) -> tuple[Floats, float]:
    """Return what each site takes of a demand that fills the rooms in `order`, and what is left over."""
    taken = np.zeros(len(room_bps))
    for row in order:
        taken[row] = min(demand_bps, max(0.0, float(room_bps[row])))
        demand_bps -= taken[row]
    return taken, demand_bps
