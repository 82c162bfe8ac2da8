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
from testbed.units import NS_PER_MS, NS_PER_S

Chart = dict[str, Any]

MAX_POINTS = 1500
MAX_NODES = 12
_INK, _GRID = "#1f2933", "#e4e7eb"
_LIMIT, _BACKLOG, _FORECAST = "#d9730d", "#2563eb", "#7c3aed"
_ARRIVALS, _RATE, _DROPS = "#0f766e", "#52606d", "#dc2626"
_COLOURS = (
    "#2563eb", "#d9730d", "#0f766e", "#7c3aed", "#dc2626", "#0891b2",
    "#a16207", "#be185d", "#4d7c0f", "#475569", "#9333ea", "#1d4ed8",
)  # fmt: skip

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
    size = -(-rows // max_points)
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


def drawn_nodes(samples: Mapping[str, NodeSamples]) -> list[str]:
    """Return the nodes to draw: all, or the `MAX_NODES` with the most drops and then the most traffic."""
    if len(samples) <= MAX_NODES:
        return list(samples)
    weight = {node: (int(rows.dropped_pkts.sum()), int(rows.arrived_bytes.sum())) for node, rows in samples.items()}
    chosen = set(sorted(samples, key=lambda node: weight[node], reverse=True)[:MAX_NODES])
    return [node for node in samples if node in chosen]


def node_chart(thinned: Thinned, facts: RunFacts, node: str, end_s: float) -> Chart:
    """Return the chart of a node: buffer, arrivals and drops above each other, one time axis."""
    time = _listed(thinned.t_s, 4)
    traces = [
        _line(time, thinned.backlog_mb, "backlog", _BACKLOG, fill="tozeroy", fillcolor="rgba(37,99,235,0.18)"),
        _line(time, thinned.limit_mb, "limit", _LIMIT, line={"color": _LIMIT, "width": 2, "shape": "hv"}),
    ]
    if thinned.predicted_mb is not None:
        dotted = {"color": _FORECAST, "width": 1.2, "dash": "dot"}
        traces.append(_line(time, thinned.predicted_mb, "forecast", _FORECAST, line=dotted))
    traces.append(_line(time, thinned.arrived_mbit_s, "arrivals", _ARRIVALS, yaxis="y2"))
    if (rate_bps := facts.node_rate_bps.get(node)) is not None:
        dashed = {"color": _RATE, "width": 1.5, "dash": "dash"}
        level = np.full(2, rate_bps / 1e6)
        traces.append(_line([0.0, round(end_s, 4)], level, "service rate", _RATE, yaxis="y2", line=dashed))
    lost = [pkts or None for pkts in thinned.dropped_pkts.tolist()]  # a bar of no height would be a line along the axis
    drops = {"type": "bar", "x": time, "y": lost, "name": "drops", "yaxis": "y3"}
    traces.append({**drops, "marker": {"color": _DROPS, "line": {"color": _DROPS, "width": 1}}})
    look = {
        **layout(620),
        "xaxis": {**axis("time since start (s)"), "range": [0, end_s], "anchor": "y3"},
        "yaxis": {**axis("buffer (MB)"), "domain": [0.6, 1.0], "rangemode": "tozero"},
        "yaxis2": {**axis("arrivals (Mbit/s)"), "domain": [0.3, 0.54], "rangemode": "tozero"},
        "yaxis3": {**axis(f"drops (packets<br>per {thinned.stretch_ms:.3g} ms)"), "domain": [0.0, 0.23]},
        "bargap": 0,
    }
    most = int(thinned.dropped_pkts.max(initial=0))
    look["yaxis3"]["range"] = [0, max(1.0, 1.08 * most)]  # without drops an automatic range would show below zero
    return {"data": traces, "layout": look}


def delay_chart(evidence: Evidence, nodes: list[str]) -> Chart | None:
    """Return the distribution of the one-way delay, all nodes together and each for itself; None without delays."""
    everything = merged(node.delay for node in evidence.nodes)
    if everything is None or not everything.total:
        return None
    traces = [_distribution(everything, "all nodes", {"color": _INK, "width": 2.5})]
    parts = [node for node in evidence.nodes if node.node in nodes and node.delay is not None and node.delay.total]
    for k, node in enumerate(parts if len(evidence.nodes) > 1 else []):
        if node.delay is not None:
            traces.append(_distribution(node.delay, node.node, {"color": colour(k), "width": 1.3}))
    look = {
        **layout(400),
        "xaxis": {**axis("one-way delay (ms)"), "type": "log", "dtick": "D2"},
        "yaxis": {**axis("packets at most so late (%)"), "range": [0, 101]},
    }
    return {"data": traces, "layout": look}


def _distribution(histogram: Histogram, name: str, line: dict[str, Any]) -> Chart:
    used = np.nonzero(histogram.counts)[0]
    first, last = int(used[0]), int(used[-1])
    edges_ms = histogram.edges_ns[first : last + 2] / NS_PER_MS
    edges_ms[-1] = max((histogram.largest_ns or 0) / NS_PER_MS, edges_ms[-2])
    below = np.concatenate(([0], np.cumsum(histogram.counts[first : last + 1]))) / histogram.total * 100
    floor_ms = 1e-3  # a logarithmic axis has no place for 0
    x = _listed(np.maximum(edges_ms, floor_ms), 6)
    hover = "%{y:.3f} % within %{x:.4g} ms"
    return {**_line(x, below, name, str(line["color"]), line=line), "hovertemplate": hover}


def _line(x: list[float], y: Floats, name: str, colour: str, **more: Any) -> Chart:
    base = {"type": "scatter", "mode": "lines", "x": x, "y": _listed(y, 4), "name": name}
    return {**base, "line": {"color": colour, "width": 1.4}, **more}


def _listed(values: Floats, digits: int) -> list[Any]:
    return [
        None if np.isnan(value) else round(value, digits) for value in np.asarray(values, dtype=np.float64).tolist()
    ]


def colour(number: int) -> str:
    """Return a colour for the series of that number; they repeat after twelve."""
    return _COLOURS[number % len(_COLOURS)]


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
        "paper_bgcolor": "#ffffff",
        "plot_bgcolor": "#ffffff",
        "hovermode": "x unified",
        "legend": {"orientation": "h", "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom"},
    }
