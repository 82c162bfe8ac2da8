"""Faults as charts: what each did to loss and latency over the time of the run, and its course in ms after the command.

Over time, a fault is shaded from its command to its end, darker until the switch no longer sends packets to the node.
*Loss* is the share of packets lost in each stretch of time: what the buffers refused, by the samples, and what the
faults lost, of which the run records first, last and number; between the two they are spread evenly.  *Queueing delay*
is the backlog of a node over its service rate: how long a packet that is admitted then will wait; the largest of all
nodes is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from testbed.records.events import Floats
from testbed.records.facts import RunFacts
from testbed.records.samples import NodeSamples
from testbed.report import charts
from testbed.report.fault_courses import MOMENTS, Course
from testbed.units import NS_PER_MS, NS_PER_S

MAX_COURSES = 24
_STRETCHES = 400
_LEAST_MS = 0.1  # a logarithmic axis has no place for 0
_LASTING, _OPEN = "rgba(220,38,38,0.10)", "rgba(220,38,38,0.22)"
_LOOKS = {
    "commanded": ("#dc2626", "line-ns"),
    "observed": ("#82673e", "circle-open"),
    "first packet lost": ("#c3306b", "x-thin-open"),
    "detected": ("#335af4", "diamond"),
    "rerouted": ("#0f766e", "square"),
    "last packet lost": ("#c3306b", "x"),
    "first packet delivered": ("#2cb809", "triangle-up"),
    "healed": ("#2cb809", "star"),
}


def shading(courses: Sequence[Course], end_s: float) -> list[charts.Chart]:
    """Return the marks of faults on an axis of time, over the full height of a chart."""
    return [shape for course in courses[:MAX_COURSES] for shape in _shades(course, end_s)]


def _shades(course: Course, end_s: float) -> list[charts.Chart]:
    healed, served = course.at_s("healed"), course.at_s("rerouted")
    line = {"type": "line", "x0": course.commanded_s, "x1": course.commanded_s, "yref": "paper", "y0": 0, "y1": 1}
    shades = [{**line, "line": {"color": "#dc2626", "width": 1.2, "dash": "dot"}}]
    until = end_s if healed is None else healed
    for last, colour in ((until, _LASTING), (min(until, served) if served is not None else None, _OPEN)):
        if last is not None and last > course.commanded_s:
            area = {"type": "rect", "x0": course.commanded_s, "x1": last, "yref": "paper", "y0": 0, "y1": 1}
            shades.append({**area, "fillcolor": colour, "line": {"width": 0}, "layer": "below"})
    return shades


def lost_to_faults(courses: Sequence[Course], node: str, stretch_s: float) -> charts.Chart | None:
    """Return what faults kept from a node as a series for its panel of drops; None where they lost nothing of it."""
    spans = [(course, span) for course in courses if node in course.nodes and (span := course.lost_between_s)]
    if not spans:
        return None
    widths = [max(last - first, stretch_s) for _, (first, last) in spans]
    return {
        "type": "bar",
        "name": "lost to faults",
        "x": [round((first + last) / 2, 5) for _, (first, last) in spans],
        "width": [round(width, 5) for width in widths],
        "y": [
            round((course.lost_pkts or 0) * stretch_s / width, 4)
            for (course, _), width in zip(spans, widths, strict=True)
        ],
        "text": [f"{course.label}: {course.lost_pkts}" for course, _ in spans],
        "hovertemplate": "%{text} packets lost<extra></extra>",
        "textposition": "none",
        "marker": {"color": "#c3306b", "opacity": 0.75},
    }


def time_chart(
    courses: Sequence[Course], samples: Mapping[str, NodeSamples], facts: RunFacts, end_s: float
) -> charts.Chart:
    """Return loss and queueing delay over the time of the run, shaded by the faults."""
    edges_s = np.linspace(0.0, max(end_s, 1e-9), _STRETCHES + 1)
    time = [round(float(value), 4) for value in edges_s[1:]]
    buffer, faults = _losses(courses, samples, edges_s)
    arrived = _summed(samples, "arrived_pkts", edges_s) + faults
    share = [100 * lost / np.maximum(arrived, 1) for lost in (buffer, faults)]
    looks = (("lost by the buffers", "#dc2626"), ("lost to faults", "#c3306b"))
    traces: list[charts.Chart] = [
        _bars(time, values, name, colour) for values, (name, colour) in zip(share, looks, strict=True)
    ]
    delay_ms = _queueing_ms(samples, facts, edges_s)
    traces.append(
        charts.line(
            time,
            delay_ms,
            "queueing delay",
            "#335af4",
            yaxis="y2",
            line={"color": "#335af4", "width": 1.4, "shape": "hv"},
        )
    )
    layout = {
        **charts.layout(430),
        "barmode": "stack",
        "bargap": 0,
        "shapes": shading(courses, end_s),
        "annotations": [_name(course) for course in courses[:MAX_COURSES]] if len(courses) <= 8 else [],
        "xaxis": {**charts.axis("time since start (s)"), "range": [0, end_s], "anchor": "y2"},
        "yaxis": {**charts.axis("lost (% of packets)"), "domain": [0.56, 1.0], "range": [0, _top(sum(share))]},
        "yaxis2": {**charts.axis("queueing delay (ms)"), "domain": [0.0, 0.44], "rangemode": "tozero"},
    }
    return {"data": traces, "layout": layout}


def _name(course: Course) -> charts.Chart:
    """Return what stands in the middle of the chart beside the beginning of a fault."""
    place = {"x": course.commanded_s, "yref": "paper", "y": 0.5, "xanchor": "left", "yanchor": "middle"}
    return {**place, "text": course.label, "showarrow": False, "font": {"size": 11}}


def _top(values: Any) -> float:
    return float(min(100.0, max(1.0, 1.08 * np.max(values))))


def _bars(time: list[float], values: Floats, name: str, colour: str) -> charts.Chart:
    shown = [None if value <= 0 else round(float(value), 4) for value in values]
    return {"type": "bar", "x": time, "y": shown, "name": name, "marker": {"color": colour, "line": {"width": 0}}}


def _losses(courses: Sequence[Course], samples: Mapping[str, NodeSamples], edges_s: Floats) -> tuple[Floats, Floats]:
    """Return the packets lost in each stretch: by the buffers, and to the faults."""
    faults = np.zeros(len(edges_s) - 1)
    for course in courses:
        if span := course.lost_between_s:
            first, last = span[0], max(span[1], span[0] + 1e-6)
            share = np.clip(edges_s[1:], first, last) - np.clip(edges_s[:-1], first, last)
            faults += (course.lost_pkts or 0) * share / (last - first)
    return _summed(samples, "dropped_pkts", edges_s), faults


def _summed(samples: Mapping[str, NodeSamples], column: str, edges_s: Floats) -> Floats:
    total = np.zeros(len(edges_s) - 1)
    for rows in samples.values():
        np.add.at(total, _places(rows, edges_s), getattr(rows, column))
    return total


def _queueing_ms(samples: Mapping[str, NodeSamples], facts: RunFacts, edges_s: Floats) -> Floats:
    most = np.zeros(len(edges_s) - 1)
    for node, rows in samples.items():
        if rate_bps := facts.node_rate_bps.get(node):
            waits_ms = rows.backlog_bytes * 8 * (NS_PER_S / NS_PER_MS) / rate_bps
            np.maximum.at(most, _places(rows, edges_s), waits_ms)
    return most


def _places(rows: NodeSamples, edges_s: Floats) -> Any:
    return np.clip(np.searchsorted(edges_s, rows.t_ns / NS_PER_S) - 1, 0, len(edges_s) - 2)


def course_chart(courses: Sequence[Course]) -> charts.Chart:
    """Return a row for each fault with what happened when, in ms after its command."""
    drawn = courses[:MAX_COURSES]
    traces = [_span(course) for course in drawn]
    if drawn:
        traces.append(_markers("commanded", drawn))
    for moment in MOMENTS.values():
        hit = [course for course in drawn if moment in course.moments_ms]
        if hit:
            traces.append(_markers(moment, hit))
    layout = {
        **charts.layout(260 + 40 * len(drawn)),
        "hovermode": "closest",
        "xaxis": {**charts.axis("time since the fault command (ms)"), "type": "log", "dtick": "D2"},
        "yaxis": {**charts.axis(""), "type": "category", "autorange": "reversed", "showgrid": False},
    }
    return {"data": traces, "layout": layout}


def _span(course: Course) -> charts.Chart:
    last = max(course.moments_ms.values(), default=_LEAST_MS)
    line = {"color": "#9aa5b1", "width": 2}
    span = {"type": "scatter", "mode": "lines", "x": [_LEAST_MS, max(last, _LEAST_MS)], "y": [course.label] * 2}
    return {**span, "line": line, "showlegend": False, "hoverinfo": "skip"}


def _markers(moment: str, courses: Sequence[Course]) -> charts.Chart:
    colour, symbol = _LOOKS[moment]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": moment,
        "x": [max(course.moments_ms.get(moment, 0.0), _LEAST_MS) for course in courses],
        "y": [course.label for course in courses],
        "text": [f"{moment} {course.moments_ms.get(moment, 0.0):.4g} ms after the command" for course in courses],
        "hovertemplate": "%{y}: %{text}<extra></extra>",
        "marker": {"color": colour, "symbol": symbol, "size": 11, "line": {"color": colour, "width": 1.5}},
    }
