"""The report of one run: a single HTML file that needs no network, now or in ten years.

The page forbids itself to fetch anything (Content-Security-Policy), and carries the part of Plotly that it needs, the
basic bundle (lines, markers, bars), compressed: a browser unpacks it.  So a page takes less than 1 MB.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from testbed.files import writing
from testbed.records.evidence import Evidence
from testbed.report import charts, key_figures, site_charts, written
from testbed.report.answer import answer_of_run
from testbed.report.fault_courses import HEADERS as FAULT_HEADERS
from testbed.report.fault_courses import courses_of
from testbed.report.run_figures import alt_text, fault_figures, node_figures
from testbed.results.metrics import METRICS
from testbed.results.recorded_run import RecordedRun
from testbed.units import NS_PER_S

_MOST_FAULTS = 200  # rows of the table
STATUS_NOTES = {
    "killed": "The process of this run was killed; the data below end where it stopped writing.",
    "running": "This run is still in progress.",
    "interrupted": "This run was interrupted; the data below end at that time.",
    "failed": "This run failed before its end.",
}


def write_page(path: Path, elsewhere: str = "") -> Path:
    """Write ``report.html`` into the run directory `path` and return its path.

    `elsewhere` is what else than making room helps on a full disk.

    Raises:
        InputError: when `path` is no run directory.
        ToolError: when the file cannot be written.
    """
    return writing.replace(path / "report.html", render(RecordedRun.open(path)), durable=False, elsewhere=elsewhere)


def render(run: RecordedRun) -> str:
    """Return the page of a run; of a run without an end it shows what there is."""
    facts, samples, summary = run.facts, run.samples_by_node(charts.OPTIONAL), run.document("summary.json") or {}
    fidelity = run.document("fidelity.json") or {}
    nodes, courses = charts.drawn_nodes(samples), courses_of(run, summary)
    end_s = max((float(rows.t_ns[-1]) / NS_PER_S for rows in samples.values()), default=facts.duration_ns / NS_PER_S)
    thinned = {node: charts.thin(samples[node], charts.points_for(len(nodes))) for node in nodes}
    figures = {
        **fault_figures(courses, samples, facts, end_s),
        **node_figures(thinned, courses, facts, end_s, summary),
        **_delays(run.evidence(), nodes),
        **_sites(run, end_s),
    }
    return template("page.html.j2").render(
        facts=facts,
        question=facts.question,
        answer=answer_of_run(summary),
        status=run.status,
        status_note=STATUS_NOTES.get(run.status),
        verdict=summary.get("verdict"),
        reasons=summary.get("verdict_reasons", []),
        groups=list(key_figures.groups(summary)),
        expectations=[_expectation(result) for result in summary.get("expectations", [])],
        fault_headers=FAULT_HEADERS,
        faults=[course.cells for course in courses[:_MOST_FAULTS]],
        more_faults=len(courses) - _MOST_FAULTS,
        checks=_checks(fidelity),
        not_checked=fidelity.get("not_checked", []),
        nodes=nodes,
        rates={node: written.megabits(facts.node_rate_bps[node]) for node in nodes if node in facts.node_rate_bps},
        node_total=len(samples),
        regions=(summary.get("sites") or {}).get("regions", []),
        stretch_ms=max((t.stretch_ms for t in thinned.values()), default=0.0),
        thinned=any(len(thinned[node].t_s) < len(samples[node].t_ns) for node in nodes),
        alts={name: alt_text(name, chart) for name, chart in figures.items()},
        origin=_origin(run.manifest),
        figures=script_data(figures),
        plotly=plotly_script(),
        path_name=run.path.name,
    )


def _delays(evidence: Evidence | None, nodes: list[str]) -> dict[str, charts.Chart]:
    """Return the two charts of the one-way delay, by their names on the page; nothing without delays."""
    if evidence is None:
        return {}
    found = {"delay": charts.delay_chart(evidence, nodes), "delay-tail": charts.delay_chart(evidence, nodes, tail=True)}
    return {name: chart for name, chart in found.items() if chart is not None}


def _sites(run: RecordedRun, end_s: float) -> dict[str, charts.Chart]:
    """Return the charts of a run with several sites, by their names on the page."""
    evidence = run.evidence()
    if evidence is None or not evidence.regions:
        return {}
    courses = site_charts.courses_of_sites(run.events())
    found = {"sites": site_charts.grid_chart(courses, evidence, end_s)} if courses else {}
    drawn = site_charts.map_chart(site_charts.places_of(run.scenario_data()), evidence)
    return {**found, **({} if drawn is None else {"sites-map": drawn})}


def _expectation(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return an expectation with its measured value as people read it; the text keeps the unit of the summary."""
    name = result["text"].split()[0] if result["text"].split() else ""
    metric = next((row for row in METRICS if row.name == name), None)
    value = result["value"]
    shown = value if metric is None or value is None else written.written(metric, value)
    return {**result, "value": shown, "reason": result.get("reason", "not measured")}


@cache
def template(name: str) -> jinja2.Template:
    """Return a template of this folder; everything put into it is escaped."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.get_template(name)


@cache
def plotly_script() -> Markup:
    """Return the basic bundle of Plotly, compressed by gzip, as base64."""
    packed = (Path(__file__).parent / "plotly-basic.min.js.gz").read_bytes()
    return Markup(base64.b64encode(packed).decode())  # noqa: S704 - letters, digits, and three signs


def script_data(value: Any) -> Markup:
    """Return a value as JSON that may stand inside a ``<script>`` element."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace("&", "\\u0026"))  # noqa: S704 - nothing can close the element


def _checks(fidelity: Mapping[str, Any]) -> list[dict[str, str]]:
    return [_check_row(check) for check in fidelity.get("checks", [])]


def _check_row(check: Mapping[str, Any]) -> dict[str, str]:
    usable = check.get("usable")
    evidence = (f"{key} {_value(value)}" for key, value in check.get("evidence", {}).items() if value is not None)
    return {
        "name": check["name"],
        "verdict": check["verdict"],
        "value": f"{_value(check['value'])} {check.get('unit', '')}".strip(),
        "good": _value(check["good"]),
        "usable": "any" if usable is None else _value(usable),
        "evidence": ", ".join(evidence),
        "why": "" if check["verdict"] == "VALID" else _why(check),
    }


def _why(check: Mapping[str, Any]) -> str:
    """Return what a check that is not VALID means, what caused it and what to do."""
    parts = (check.get("meaning"), check.get("cause"), check.get("remedy") and f"remedy: {check['remedy']}")
    return "; ".join(part for part in parts if part)


def _value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _origin(manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the provenance as rows: what made this result."""
    keys = ("command", "started_utc", "ended_utc", "project", "machine", "openvswitch", "tools", "sysctls", "hashes")
    rows = []
    for key in (*keys, "seeds"):
        value = manifest.get(key)
        if value not in (None, {}, []):
            rows.append((key.replace("_utc", " (UTC)"), _joined(value)))
    return rows


def _joined(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_joined(item)}" for key, item in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return " ".join(str(item) for item in value)
    return str(value)
