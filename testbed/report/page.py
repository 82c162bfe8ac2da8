"""The report of one run: a single HTML file that needs no network, now or in ten years.

The page forbids itself to fetch anything (Content-Security-Policy), and carries Plotly's own script.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from testbed import installing
from testbed.errors import MachineError
from testbed.files import writing
from testbed.report import charts, key_figures, written
from testbed.results.recorded_run import RecordedRun
from testbed.units import NS_PER_S

STATUS_NOTES = {
    "killed": "The process of this run was killed: what follows ends with what it had written.",
    "running": "This run is still going on.",
    "interrupted": "This run was interrupted: what follows ends there.",
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
    facts, samples, evidence = run.facts, run.samples_by_node(charts.OPTIONAL), run.evidence()
    nodes = charts.drawn_nodes(samples)
    end_s = max((rows.t_ns[-1] / NS_PER_S for rows in samples.values()), default=facts.duration_ns / NS_PER_S)
    thinned = {node: charts.thin(samples[node]) for node in nodes}
    figures = {f"node-{node}": charts.node_chart(thinned[node], facts, node, float(end_s)) for node in nodes}
    delay = charts.delay_chart(evidence, nodes) if evidence is not None else None
    if delay is not None:
        figures["delay"] = delay
    summary = run.document("summary.json") or {}
    return template("page.html.j2").render(
        facts=facts,
        question=facts.question,
        status=run.status,
        status_note=STATUS_NOTES.get(run.status),
        verdict=summary.get("verdict"),
        reasons=summary.get("verdict_reasons", []),
        groups=list(key_figures.groups(summary)),
        expectations=summary.get("expectations", []),
        checks=_checks(run.document("fidelity.json")),
        not_checked=(run.document("fidelity.json") or {}).get("not_checked", []),
        nodes=nodes,
        rates={node: written.megabits(facts.node_rate_bps[node]) for node in nodes if node in facts.node_rate_bps},
        node_total=len(samples),
        stretch_ms=max((t.stretch_ms for t in thinned.values()), default=0.0),
        thinned=any(len(thinned[node].t_s) < len(samples[node].t_ns) for node in nodes),
        has_delay=delay is not None,
        origin=_origin(run.manifest),
        figures=script_data(figures),
        plotly=plotly_script(),
        path_name=run.path.name,
    )


@cache
def template(name: str) -> jinja2.Template:
    """Return a template of this folder; everything put into it is escaped."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.get_template(name)


@cache
def plotly_script() -> Markup:
    """Return Plotly's script, read from its package without importing it.

    Raises:
        MachineError: when Plotly is not installed.
    """
    spec = importlib.util.find_spec("plotly")
    folders = spec.submodule_search_locations if spec is not None else None
    for folder in folders or ():
        script = Path(folder) / "package_data" / "plotly.min.js"
        if script.is_file():
            return Markup(script.read_text(encoding="utf-8"))  # noqa: S704 - a file of an installed package
    raise MachineError("write the report", "Plotly's script is not installed", installing.packages("plotly"))


def script_data(value: Any) -> Markup:
    """Return a value as JSON that may stand inside a ``<script>`` element."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace("&", "\\u0026"))  # noqa: S704 - nothing can close the element


def _checks(fidelity: Mapping[str, Any] | None) -> list[dict[str, str]]:
    return [_check_row(check) for check in (fidelity or {}).get("checks", [])]


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
