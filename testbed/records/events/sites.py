"""What is exchanged between sites, and decided by it: reports, the site of new flows, and the demand to prepare for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from testbed.records.events.record import Action, Doc, Event, Ints, Short

Sites = Annotated[tuple[str, ...], Doc("the sites, in the order of the other fields", "names")]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SitesHeard(Event):
    """What the edge of a region knows of all sites when it decides; once per `placement.sync_interval`."""

    short: ClassVar[Short] = Short.NEVER
    sites: Sites
    age_ns: Annotated[Ints, Doc("time since each site took its last report that has arrived; -1: none has arrived")]
    capacity_bps: Annotated[Ints, Doc("total service rate of the serving nodes of each site, as reported")]
    load_bps: Annotated[Ints, Doc("traffic that arrived at the nodes of each site, as reported")]
    demand_bps: Annotated[Ints, Doc("traffic sent by the clients in the region of each site, as reported")]
    expected_bps: Annotated[Ints, Doc("forecast of that demand at the horizon of the site, as reported; 0: none")]
    sent_bps: Annotated[Ints, Doc("traffic that this region sent to each site since its last decision")]
    planned_bps: Annotated[Ints, Doc("demand of each region according to the plan; 0 for policies that do not use it")]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SetSites(Action):
    """Assign each slot of the edge's table to a site, for new flows; flows at lost sites are assigned again."""

    slots: Annotated[tuple[str, ...], Doc("site of each slot", "names")]
    lost: Annotated[tuple[str, ...], Doc("sites that are not used, and whose flows move", "names")] = ()


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class DemandExpected(Action):
    """The demand of the own region expected at the horizon, according to the earlier demand of another region."""

    expected_bps: Annotated[int, Doc("expected demand; 0: no forecast is good enough")]
    severity_ratio: Annotated[float, Doc("share of the expected demand that has not arrived yet")] = 0.0
    site: Annotated[str, Doc("site whose region had the wave earlier; empty: none", "name")] = ""
    lag_ns: Annotated[int, Doc("time by which the wave was earlier there")] = 0
    error_ratio: Annotated[float, Doc("relative squared error of this forecast so far")] = 1.0
