"""The figures of the report as Plotly specifications: plain data, built without importing Plotly (that takes a second).

A long run is thinned before it is drawn: a point then covers several samples and shows the *largest* limit, backlog
and forecast, the *mean* rate and the *sum* of the drops of its stretch, so that no burst and no drop disappears.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from testbed.records.events import Floats, Ints
from testbed.records.evidence import Evidence
from testbed.records.facts import RunFacts
from testbed.records.histogram import Histogram, merged
from testbed.records.samples import NodeSamples
from testbed.report import palette
from testbed.units import NS_PER_MS, NS_PER_S

Chart = dict[str, Any]

MAX_POINTS = 1500
MAX_NODES = 12
_MAX_POINTS_OF_A_PAGE = 5000  # of all nodes: about 350 kB
_INK, _GRID = "#1f2933", "#e4e7eb"  # by day; the page has its own for a dark screen
_LIMIT, _BACKLOG, _FORECAST = "#d9730d", "#2563eb", "#7c3aed"
_ARRIVALS, _RATE, _DROPS = "#0f766e", "#52606d", "#dc2626"

OPTIONAL = ("predicted_bytes",)  # what is drawn of a sample beside the required columns


@dataclass(frozen=True, slots=True)
class Thinned:
    """Samples of one node joined into at most `MAX_POINTS` stretches; `stretch_ms` is the usual length of one."""

    t_s: Floats
    limit_mb: Floats
    backlog_mb: Floats
    predicted_mb: Floats | None
    arrived_mbit_s: Floats
    dropped_pkts: Ints
    stretch_ms: float


def thin(samples: NodeSamples, max_points: int = MAX_POINTS) -> Thinned:
    """Return the samples of a node (at least one) in at most `max_points` points."""
    rows = len(samples.t_ns)
    size = -(-rows // max(max_points, 1))
    first = np.arange(0, rows, size)
    last = np.minimum(first + size, rows) - 1
    spans_ns = np.maximum(np.add.reduceat(samples.interval_ns(), first), 1)
    predicted = samples.optional.get("predicted_bytes")
    return Thinned(
        t_s=samples.t_ns[last] / NS_PER_S,
        limit_mb=np.maximum.reduceat(samples.limit_bytes, first) / 1e6,
        backlog_mb=np.maximum.reduceat(samples.backlog_bytes, first) / 1e6,
        predicted_mb=None if predicted is None else np.fmax.reduceat(predicted, first) / 1e6,
        arrived_mbit_s=np.add.reduceat(samples.arrived_bytes, first) * 8e3 / spans_ns,
        dropped_pkts=np.add.reduceat(samples.dropped_pkts, first),
        stretch_ms=float(np.median(spans_ns)) / NS_PER_MS,
    )


def points_for(nodes: int) -> int:
    """Return how many points a chart may have on a page of so many nodes, which is to stay below 1 MB."""
    return min(MAX_POINTS, _MAX_POINTS_OF_A_PAGE // max(nodes, 1))


def drawn_nodes(samples: Mapping[str, NodeSamples]) -> list[str]:
    """Return the nodes to draw: all, or the `MAX_NODES` with the most drops and then the most traffic."""
    if len(samples) <= MAX_NODES:
        return list(samples)
    weight = {node: (int(rows.dropped_pkts.sum()), int(rows.arrived_bytes.sum())) for node, rows in samples.items()}
    chosen = set(sorted(samples, key=lambda node: weight[node], reverse=True)[:MAX_NODES])
    return [node for node in samples if node in chosen]


def node_chart(
    thinned: Thinned, facts: RunFacts, node: str, end_s: float, lost: Chart | None = None, elsewhere: str = ""
) -> Chart:
    """Return the chart of a node: buffer, arrivals and drops above each other, one time axis.

    `lost` is the series of what faults kept from the node; `elsewhere` says where the run lost packets, for the panel
    of drops of a node that lost none.
    """
    time = _listed(thinned.t_s, 4)
    traces = [
        line(time, thinned.backlog_mb, "backlog", _BACKLOG, fill="tozeroy", fillcolor="rgba(37,99,235,0.18)"),
        line(time, thinned.limit_mb, "limit", _LIMIT, line={"color": _LIMIT, "width": 2, "shape": "hv"}),
    ]
    if thinned.predicted_mb is not None:
        dotted = {"color": _FORECAST, "width": 1.2, "dash": "dot"}
        traces.append(line(time, thinned.predicted_mb, "forecast", _FORECAST, line=dotted))
    traces.append(line(time, thinned.arrived_mbit_s, "arrivals", _ARRIVALS, yaxis="y2"))
    if (rate_bps := facts.node_rate_bps.get(node)) is not None:
        dashed = {"color": _RATE, "width": 1.5, "dash": "dash"}
        level = np.full(2, rate_bps / 1e6)
        traces.append(line([0.0, round(end_s, 4)], level, "service rate", _RATE, yaxis="y2", line=dashed))
    traces += _drops(time, thinned, lost)
    look = {
        **layout(620),
        "xaxis": {**axis("time since start (s)"), "range": [0, end_s], "anchor": "y3"},
        "yaxis": {**axis("buffer (MB)"), "domain": [0.6, 1.0], "rangemode": "tozero"},
        "yaxis2": {**axis("arrivals (Mbit/s)"), "domain": [0.3, 0.54], "rangemode": "tozero"},
        "yaxis3": {**axis(f"drops (packets<br>per {thinned.stretch_ms:.3g} ms)"), "domain": [0.0, 0.23]},
        "bargap": 0,
        "barmode": "overlay",
    }
    most = max([int(thinned.dropped_pkts.max(initial=0)), *(lost["y"] if lost else ())])
    look["yaxis3"]["range"] = [0, max(1.0, 1.08 * most)]  # without drops an automatic range would show below zero
    if not most:
        look["annotations"] = [_nothing_lost(elsewhere)]
    return {"data": traces, "layout": look}


def _drops(time: list[float], thinned: Thinned, lost: Chart | None) -> list[Chart]:
    dropped = [pkts or None for pkts in thinned.dropped_pkts.tolist()]  # a bar of no height would be a line
    drops = {"type": "bar", "x": time, "y": dropped, "name": "drops", "yaxis": "y3"}
    own = {**drops, "marker": {"color": _DROPS, "line": {"color": _DROPS, "width": 1}}}
    return [own] if lost is None else [own, {**lost, "yaxis": "y3"}]


def _nothing_lost(elsewhere: str) -> Chart:
    """Return what stands in the panel of drops of a node that lost nothing."""
    place = {"xref": "paper", "x": 0.5, "yref": "paper", "y": 0.115, "yanchor": "middle"}
    text = f"no drops at this node{f'; lost elsewhere in this run: {elsewhere}' if elsewhere else ''}"
    return {**place, "text": text, "showarrow": False}


def delay_chart(evidence: Evidence, nodes: list[str], *, tail: bool = False) -> Chart | None:
    """Return the distribution of the one-way delay, all nodes together and each for itself; None without delays.

    With `tail` the share of the packets that took longer, on logarithmic axes.
    """
    everything = merged(node.delay for node in evidence.nodes)
    if everything is None or not everything.total:
        return None
    traces = [_distribution(everything, tail, "all nodes", {"color": palette.NEUTRAL, "width": 2.5})]
    parts = [node for node in evidence.nodes if node.node in nodes and node.delay is not None and node.delay.total]
    for k, node in enumerate(parts if len(evidence.nodes) > 1 else []):
        if node.delay is not None:
            traces.append(_distribution(node.delay, tail, node.node, {"color": palette.colour(k), "width": 1.3}))
    look = {
        **layout(400),
        "xaxis": {**axis("one-way delay (ms)"), "type": "log", "dtick": "D2"},
        "yaxis": {**axis("packets with at most this delay (%)"), "range": [0, 101]},
    }
    if tail:
        look["yaxis"] = {**axis("packets with a longer delay (%)"), "type": "log", "dtick": 1}
    return {"data": traces, "layout": look}


def _distribution(histogram: Histogram, tail: bool, name: str, look: dict[str, Any]) -> Chart:
    used = np.nonzero(histogram.counts)[0]
    first, last = int(used[0]), int(used[-1])
    edges_ms = histogram.edges_ns[first : last + 2] / NS_PER_MS
    edges_ms[-1] = max((histogram.largest_ns or 0) / NS_PER_MS, edges_ms[-2])
    below = np.concatenate(([0], np.cumsum(histogram.counts[first : last + 1]))) / histogram.total * 100
    floor_ms = 1e-3  # a logarithmic axis has no place for 0
    x = _listed(np.maximum(edges_ms, floor_ms), 6)
    if tail:
        x, below = x[:-1], 100 - below[:-1]  # the last is 0, for which the axis has no place
    hover = "%{y:.3g} % later than %{x:.4g} ms" if tail else "%{y:.3f} % within %{x:.4g} ms"
    return {**line(x, below, name, str(look["color"]), line=look), "hovertemplate": hover}


def line(x: list[float], y: Floats, name: str, colour: str, **more: Any) -> Chart:
    """Return a line; `more` is what Plotly's specification has beside, and overrides colour and width."""
    base = {"type": "scatter", "mode": "lines", "x": x, "y": _listed(y, 4), "name": name}
    return {**base, "line": {"color": colour, "width": 1.4}, **more}


def _listed(values: Floats, digits: int) -> list[Any]:
    return [
        None if np.isnan(value) else round(value, digits) for value in np.asarray(values, dtype=np.float64).tolist()
    ]


def axis(title: str) -> dict[str, Any]:
    """Return the look of an axis; the title carries the unit."""
    look = {"gridcolor": _GRID, "zerolinecolor": _GRID, "linecolor": "#9aa5b1", "showline": True, "ticks": "outside"}
    return {"title": {"text": title, "standoff": 8, "font": {"size": 12}}, "automargin": True, **look}


def layout(height: int) -> dict[str, Any]:
    """Return what all charts share; `height` in pixels."""
    return {
        "height": height,
        "margin": {"l": 80, "r": 20, "t": 40, "b": 55},
        "font": {"family": "system-ui, -apple-system, Segoe UI, Roboto, sans-serif", "size": 13, "color": _INK},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": "#7b8794", "activecolor": "#33a7f4"},
        "hovermode": "x unified",
        "legend": {"orientation": "h", "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom"},
    }
