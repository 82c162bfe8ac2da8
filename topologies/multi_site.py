"""`multi-site`: clusters in several places, a link of the WAN between any two of them, and clients by region.

    c1 ─┐                                     ┌─ c2
    n1 ─┼─ asia ══ WAN: delay, rate ══ europe ┼─ n3 ── b3     each site is a `cluster`: a switch, nodes, backends, and
    n2 ─┘     ╲                       ╱       └─ n4 ── b4     a mesh of its own
               ╚══════ america ══════╝

The clients of a *region* are connected at the edge of the site with the same name.  The edge decides for each new flow
which site serves it (`policies/placement.py`); the balancer of that site decides which node.

The delay between two sites is `wan_delay`, or, where both say where they are (`at`), that of a fibre between them: the
great-circle distance times `_DETOUR` (an assumption: fibres follow roads and coasts), at two thirds of the speed of
light.  `topology.links` changes single links, by names such as `asia-europe`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Annotated, Any, cast

from pydantic import BaseModel, ConfigDict, Field, model_validator

from testbed.scenario.base import Duration, Number, Rate
from testbed.scenario.link_spec import DEFAULT_QUEUE_BYTES, MAX_LINK_DELAY_NS, MAX_RATE_BPS
from testbed.scenario.network import Host, Link, Network, Switch
from testbed.scenario.tables import FamilyTraits, options_of
from testbed.scenario.topology import MOST_NODES, TopologySpec

MOST_SITES = 100
_MESH = "m1"
_EARTH_KM, _KM_PER_S, _DETOUR = 6371.0, 200_000.0, 1.5
_NAME = r"^[a-z][a-z0-9]{1,11}$"

SiteName = Annotated[str, Field(pattern=_NAME)]
Degrees = Annotated[Number, Field(ge=-180.0, le=180.0)]


class SiteOptions(BaseModel):
    """One site."""

    model_config = ConfigDict(extra="forbid", strict=True, populate_by_name=True)
    nodes: int = Field(3, ge=1, le=MOST_NODES, description="nodes that serve at the start")
    most: int | None = Field(
        None, alias="max", ge=1, le=MOST_NODES, description="nodes that there may be; default `nodes`"
    )
    at: tuple[Degrees, Degrees] | None = Field(None, strict=False, description="latitude and longitude in degrees")

    @model_validator(mode="after")
    def _starts_within_its_bound(self) -> SiteOptions:
        if self.most is not None and self.most < self.nodes:
            raise ValueError(f"nodes ({self.nodes}) is more than max ({self.most})")
        return self

    @property
    def spare(self) -> int:
        """Return how many nodes may be added."""
        return (self.most or self.nodes) - self.nodes


class MultiSiteOptions(BaseModel):
    """The sites, the clients of each region, and the WAN between any two sites."""

    model_config = ConfigDict(extra="forbid", strict=True)
    sites: dict[SiteName, SiteOptions] = Field(
        min_length=2, max_length=MOST_SITES, description="`nodes`, `max` and `at` (latitude, longitude) of each site"
    )
    clients: dict[str, Annotated[int, Field(ge=1, le=200)]] = Field(
        {}, description="clients of each region; a region has the name of its site; default one client a site"
    )
    wan_delay: Duration = Field(
        "20ms", le=MAX_LINK_DELAY_NS, validate_default=True, description="one-way delay between sites without `at`"
    )
    wan_rate: Rate | None = Field(
        None, gt=0, le=MAX_RATE_BPS, description="capacity of the link between two sites, in each direction"
    )

    @model_validator(mode="after")
    def _regions_have_sites_and_sites_fit(self) -> MultiSiteOptions:
        strange = next((region for region in self.clients if region not in self.sites), None)
        if strange is not None:
            raise ValueError(f"region {strange} of clients has no site; the sites are {', '.join(self.sites)}")
        total = sum(site.nodes for site in self.sites.values())
        if total > MOST_NODES:
            raise ValueError(f"the sites have {total:,} nodes in total; the maximum is {MOST_NODES:,}")
        return self

    def clients_of(self, site: str) -> int:
        """Return how many clients the region of a site has."""
        return self.clients.get(site, 0) if self.clients else 1


def describe(spec: TopologySpec) -> Network:
    """Return the sites, their nodes numbered site by site, and the WAN."""
    options = _options(spec)
    hosts, links, clients, nodes = list[Host](), list[Link](), 0, 0
    for name, site in options.sites.items():
        near = [Host(f"c{clients + i}", "client", site=name) for i in range(1, options.clients_of(name) + 1)]
        count = site.nodes + site.spare
        own = [Host(f"n{nodes + i}", "node", spare=i > site.nodes, site=name) for i in range(1, count + 1)]
        hosts += near + own
        links += [Link(client.name, name, delay_ns=spec.link_delay_ns) for client in near]
        links += [Link(name, node.name, delay_ns=spec.link_delay_ns) for node in own]
        clients, nodes = clients + len(near), nodes + count
    backends = [Host(f"b{node.number}", "backend", site=node.site) for node in hosts if node.role == "node"]
    links += [Link(f"n{backend.number}", backend.name, spec.node_rate_bps) for backend in backends]
    links += [Link(f"n{backend.number}", _MESH) for backend in backends]
    first, *others = options.sites
    switches = (Switch(first), *(Switch(name, "plain") for name in others), Switch(_MESH, "mesh"))
    ordered = [host for role in ("client", "node") for host in hosts if host.role == role]
    return Network((*ordered, *backends), switches, (*_wan(options), *links))


def _wan(options: MultiSiteOptions) -> list[Link]:
    return [
        Link(a, b, options.wan_rate, _delay_ns(options, a, b), DEFAULT_QUEUE_BYTES if options.wan_rate else 0)
        for a, b in itertools.combinations(options.sites, 2)
    ]


def _delay_ns(options: MultiSiteOptions, a: str, b: str) -> int:
    here, there = options.sites[a].at, options.sites[b].at
    if here is None or there is None:
        return options.wan_delay
    return round(great_circle_km(here, there) * _DETOUR / _KM_PER_S * 1e9)


def great_circle_km(here: tuple[float, float], there: tuple[float, float]) -> float:
    """Return the distance on the surface of the earth of two places, latitude and longitude in degrees (haversine)."""
    (lat, lon), (to_lat, to_lon) = ([math.radians(angle) for angle in place] for place in (here, there))
    half = math.sin((to_lat - lat) / 2) ** 2 + math.cos(lat) * math.cos(to_lat) * math.sin((to_lon - lon) / 2) ** 2
    return 2 * _EARTH_KM * math.asin(math.sqrt(min(1.0, half)))


def _options(spec: TopologySpec) -> MultiSiteOptions:
    return cast("MultiSiteOptions", options_of(ROWS[0], spec.options))


def _sizes(given: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Return how many hosts the sites have in total; what is wrong with the options is said later."""
    try:
        options = cast("MultiSiteOptions", options_of(ROWS[0], given))
    except ValueError:
        return {}
    sites = options.sites
    return {
        "nodes": sum(site.nodes for site in sites.values()),
        "spare": sum(site.spare for site in sites.values()),
        "clients": sum(options.clients_of(name) for name in sites),
    }


def _refusal(spec: TopologySpec) -> str:
    for key, count in _sizes(spec.options).items():
        if getattr(spec, key) != count:
            return f"{key} ({getattr(spec, key)}) is not that of the sites ({count}); change options.sites instead"
    return ""


def _per_site(spec: TopologySpec) -> dict[str, tuple[int, int]]:
    return {name: (site.nodes, site.spare) for name, site in _options(spec).sites.items()}


ROWS = (
    FamilyTraits(
        name="multi-site",
        doc="clusters at several sites, with WAN links of a delay and a rate between them, and clients by region",
        describe=describe,
        keys=("spare",),
        options=MultiSiteOptions,
        sizes=_sizes,
        refusal=_refusal,
        sites=_per_site,
        refused_by={
            "emulation": "an emulated network has one balancer, and a site needs one of its own; delays of the WAN "
            "would need netem"
        },
    ),
)
