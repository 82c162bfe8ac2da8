"""The charts of the page of one run by the names of their elements, and what stands for one that is not seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from testbed.records.facts import RunFacts
from testbed.records.samples import NodeSamples
from testbed.report import charts, fault_charts
from testbed.report.fault_courses import Course
from testbed.report.written import count, figure

_ALTS = {
    "faults": "Loss and queueing delay over the time of the run, shaded while a fault lasted",
    "fault-course": "Events after each fault command, by time",
    "sites": "Demand, load and capacity of each site over time, a panel each",
    "sites-map": "Sites by longitude and latitude, coloured by the share of packets lost",
    "delay": "Cumulative distribution of the one-way delay",
    "delay-tail": "Share of packets later than a given one-way delay, on logarithmic axes",
}


def fault_figures(
    courses: Sequence[Course], samples: Mapping[str, NodeSamples], facts: RunFacts, end_s: float
) -> dict[str, charts.Chart]:
    """Return the charts of the faults; none of a run without faults."""
    if not courses:
        return {}
    figures = {"faults": fault_charts.time_chart(courses, samples, facts, end_s)} if samples else {}
    course = fault_charts.course_chart(courses)
    return {**figures, **({"fault-course": course} if course["data"] else {})}


def node_figures(
    thinned: Mapping[str, charts.Thinned],
    courses: Sequence[Course],
    facts: RunFacts,
    end_s: float,
    summary: Mapping[str, Any],
) -> dict[str, charts.Chart]:
    """Return the chart of each node, faults that hit it shaded."""
    figures = {}
    for node, rows in thinned.items():
        lost = fault_charts.lost_to_faults(courses, node, rows.stretch_ms / 1e3)
        chart = charts.node_chart(rows, facts, node, end_s, lost, _lost_in_run(summary))
        hit = [course for course in courses if node in course.nodes]
        if hit:
            chart["layout"]["shapes"] = fault_charts.shading(hit, end_s)
        figures[f"node-{node}"] = chart
    return figures


def _lost_in_run(summary: Mapping[str, Any]) -> str:
    """Return where packets of the run were lost, in words; empty where none was."""
    places = figure(summary, "traffic.dropped_packets") or {}
    words = {"buffer": "by buffers", "fault": "to faults", "qdisc": "in egress queues", "switch": "at the switch"}
    return ", ".join(f"{count(lost)} {words.get(place, f'at {place}')}" for place, lost in places.items() if lost)


def alt_text(name: str, chart: charts.Chart) -> str:
    """Return what a chart shows, for those who do not see it."""
    what = _ALTS.get(name) or f"Buffer, arrivals and drops of node {name.removeprefix('node-')} over time"
    series = dict.fromkeys(str(trace["name"]) for trace in chart["data"] if trace.get("name"))
    return f"{what}. Series: {', '.join(series)}."
