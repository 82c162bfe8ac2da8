"""Sites on the page: a panel for each (small multiples), and a map where the scenario says where they are.

A panel shows over time what the clients of the region send (demand), what arrives at the nodes of the site (load), and
what its serving nodes can serve (capacity).  All panels have the same axes, so that heights compare.  Where load is
below demand, another site serves the rest; where it is above, the site serves others.  A gap in load and capacity: the
site reported nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from testbed.records.events import SitesHeard
from testbed.records.evidence import Evidence
from testbed.records.written import is_a
from testbed.report import charts
from testbed.report.written import percent
from testbed.results.sites import loss_ratio
from testbed.units import NS_PER_S

_MOST_POINTS = 160  # of a panel
_MOST_COLUMNS = 5
_PANEL_PX, _GAP_X, _GAP_Y = 150, 0.012, 0.05
_ABOVE_PX, _BELOW_PX = 70, 55
_DEMAND, _LOAD, _CAPACITY = "#2563eb", "#0f766e", "#d9730d"
_MBIT = 10**6


@dataclass(slots=True)
class SiteCourse:
    """What a site reported over time, and the demand of its region; rates in Mbit/s, NaN where it did not report."""

    t_s: list[float] = field(default_factory=list)
    demand: list[float] = field(default_factory=list)
    load: list[float] = field(default_factory=list)
    capacity: list[float] = field(default_factory=list)


def courses_of_sites(events: Iterable[Mapping[str, Any]]) -> dict[str, SiteCourse]:
    """Return the course of each site, by the records of what its region heard."""
    courses: dict[str, SiteCourse] = {}
    for event in events:
        site, _, policy = str(event.get("policy", "")).partition("/")
        if policy != "placement" or not is_a(event, SitesHeard) or site not in event["sites"]:
            continue
        row, course = event["sites"].index(site), courses.setdefault(site, SiteCourse())
        reported = event["age_ns"][row] == 0
        course.t_s.append(event["t_ns"] / NS_PER_S)
        course.demand.append(sum(event["sent_bps"]) / _MBIT)
        course.load.append(event["load_bps"][row] / _MBIT if reported else math.nan)
        course.capacity.append(event["capacity_bps"][row] / _MBIT if reported else math.nan)
    return courses


def grid_chart(courses: Mapping[str, SiteCourse], evidence: Evidence, end_s: float) -> charts.Chart:
    """Return one chart with a panel for each site."""
    columns = min(_MOST_COLUMNS, len(courses))
    rows = -(-len(courses) // columns)
    highest = max(np.nanmax([*course.demand, *course.load, *course.capacity, 0.0]) for course in courses.values())
    look = {**charts.layout(_PANEL_PX * rows + _ABOVE_PX + _BELOW_PX), "hovermode": "closest", "annotations": []}
    look["margin"] = {**look["margin"], "t": _ABOVE_PX, "b": _BELOW_PX}
    look["legend"] = {**look["legend"], "y": 1 + 0.5 * _ABOVE_PX / (_PANEL_PX * rows)}  # above the names of the sites
    lost = {region.region: loss_ratio(region) for region in evidence.regions}
    data: list[charts.Chart] = []
    for number, (site, course) in enumerate(courses.items()):
        x, y = _place(number, columns, rows)
        name = "" if number == 0 else str(number + 1)
        last = number // columns == rows - 1 or number + columns >= len(courses)
        look[f"xaxis{name}"] = _axis(x, [0, end_s], f"y{name}", shown=last, title="time (s)" if last else "")
        first = number % columns == 0
        look[f"yaxis{name}"] = _axis(y, [0, 1.05 * highest], f"x{name}", shown=first, title="Mbit/s" if first else "")
        look["annotations"].append(_title(f"{site}: {percent(lost.get(site, 0.0))} lost", x, y))
        data += _lines(course, name, legend=number == 0)
    return {"data": data, "layout": look}


def _place(number: int, columns: int, rows: int) -> tuple[list[float], list[float]]:
    """Return the part of the chart, across and up, that a panel takes."""
    row, column = divmod(number, columns)
    wide, high = 1 / columns, 1 / rows
    across = [column * wide + _GAP_X / 2, (column + 1) * wide - _GAP_X / 2]
    gap = _GAP_Y * 5 / max(rows, 5) if rows > 1 else 0.0
    return across, [1 - (row + 1) * high + gap / 2, 1 - row * high - gap]


def _axis(domain: Sequence[float], span: Sequence[float], anchor: str, *, shown: bool, title: str) -> charts.Chart:
    return {
        **charts.axis(title),
        "domain": list(domain),
        "range": list(span),
        "anchor": anchor,
        "showticklabels": shown,
        "nticks": 4,
        "automargin": False,
    }


def _title(text: str, x: Sequence[float], y: Sequence[float]) -> charts.Chart:
    place = {"xref": "paper", "x": x[0], "xanchor": "left", "yref": "paper", "y": y[1], "yanchor": "bottom"}
    return {**place, "text": text, "showarrow": False, "font": {"size": 12}}


def _lines(course: SiteCourse, name: str, *, legend: bool) -> list[charts.Chart]:
    stride = -(-len(course.t_s) // _MOST_POINTS)
    t_s = [round(t, 3) for t in course.t_s[::stride]]
    axes = {"xaxis": f"x{name}", "yaxis": f"y{name}", "showlegend": legend}
    series = (
        ("demand of the region", course.demand, _DEMAND, {"width": 1.4}),
        ("load of the site", course.load, _LOAD, {"width": 1.4}),
        ("capacity that serves", course.capacity, _CAPACITY, {"width": 1.4, "shape": "hv"}),
    )
    return [
        charts.line(
            t_s, np.array(values[::stride]), label, colour, line={"color": colour, **look}, legendgroup=label, **axes
        )
        for label, values, colour, look in series
    ]


def map_chart(places: Mapping[str, tuple[float, float]], evidence: Evidence) -> charts.Chart | None:
    """Return the sites by longitude and latitude: size by what their regions sent, colour by what was lost of it."""
    regions = [region for region in evidence.regions if region.region in places]
    if not regions:
        return None
    most = max(region.sent_pkts for region in regions) or 1
    lost = [100 * loss_ratio(region) for region in regions]
    texts = [f"{r.region}: {r.sent_pkts:,} packets, {percent(loss_ratio(r))} lost" for r in regions]
    bar = {"title": {"text": "lost (%)", "side": "right"}, "thickness": 12}
    marker = {
        "size": [10 + 22 * math.sqrt(region.sent_pkts / most) for region in regions],
        "color": [round(value, 4) for value in lost],
        "colorscale": [[0, "#2cb809"], [0.5, "#e8a10c"], [1, "#dc2626"]],
        "cmin": 0,
        "cmax": max(1.0, *lost),
        "colorbar": bar,
        "line": {"width": 1, "color": "#7b8794"},
    }
    trace = {
        **{"type": "scatter", "mode": "markers+text", "name": "regions", "showlegend": False, "marker": marker},
        **{"x": [places[r.region][1] for r in regions], "y": [places[r.region][0] for r in regions]},
        **{"text": [r.region for r in regions], "textposition": "top center", "hovertext": texts, "hoverinfo": "text"},
    }
    look = {
        **charts.layout(460),
        "hovermode": "closest",
        "xaxis": {**charts.axis("longitude (degrees)"), "range": [-180, 180], "dtick": 60},
        "yaxis": {**charts.axis("latitude (degrees)"), "range": [-60, 80], "dtick": 20},
    }
    return {"data": [trace], "layout": look}


def places_of(scenario: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """Return latitude and longitude of the sites for which a scenario file has them."""
    found: Any = scenario
    for key in ("topology", "options", "sites"):
        found = found.get(key) if isinstance(found, Mapping) else None
    sites = ((name, site) for name, site in (found or {}).items() if isinstance(site, Mapping))
    return {name: at for name, site in sites if (at := _place_of(site.get("at"))) is not None}


def _place_of(at: Any) -> tuple[float, float] | None:
    pair = isinstance(at, Sequence) and len(at) == 2 and all(isinstance(value, int | float) for value in at)
    return (float(at[0]), float(at[1])) if pair else None
