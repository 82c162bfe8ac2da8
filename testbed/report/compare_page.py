"""The comparison of runs as one HTML file: loss against reserved memory, and the table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from testbed.report import charts
from testbed.report.compare import TEXT_COLUMNS, Comparison, Row, cells_of
from testbed.report.page import plotly_script, script_data, template, write_file


def write_compare_page(comparison: Comparison, target: Path) -> Path:
    """Write the page to `target` and return its path.

    Raises:
        ToolError: when it cannot be written.
    """
    return write_file(target, render(comparison))


def render(comparison: Comparison) -> str:
    """Return the page."""
    chart = _memory_against_loss(comparison.rows)
    return template("compare.html.j2").render(
        comparison=comparison,
        tables=[
            (title, _table(rows)) for title, rows in (("Runs", comparison.rows), ("Means", comparison.means)) if rows
        ],
        text_columns=TEXT_COLUMNS,
        has_chart=bool(chart["data"]),
        figures=script_data({"memory-loss": chart} if chart["data"] else {}),
        plotly=plotly_script(),
    )


def _table(rows: Sequence[Row]) -> dict[str, Any]:
    headers, cells = cells_of(rows)
    verdict = headers.index("verdict")
    lines = [{"cells": line, "counts": row.counts} for line, row in zip(cells, rows, strict=True)]
    return {"headers": headers, "rows": lines, "verdict": verdict}


def _memory_against_loss(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the chart: towards the lower left a policy loses less with less memory."""
    drawn = [row for row in rows if row.counts and row.loss_ratio is not None and row.reserved_mb_s is not None]
    traces = []
    labels = sorted({(row.policy, row.engine) for row in drawn})
    for k, (policy, engine) in enumerate(labels):
        points = [row for row in drawn if (row.policy, row.engine) == (policy, engine)]
        traces.append(_points(points, f"{policy}, {engine}", charts.colour(k), engine == "simulation"))
    layout = {
        **charts.layout(440),
        "hovermode": "closest",
        "xaxis": {**charts.axis("reserved memory (MB·s)"), "rangemode": "tozero"},
        "yaxis": {**charts.axis("packets lost by the buffers (%)"), "rangemode": "tozero"},
    }
    return {"data": traces, "layout": layout}


def _points(rows: Sequence[Row], name: str, colour: str, hollow: bool) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [row.reserved_mb_s for row in rows],
        "y": [100 * (row.loss_ratio or 0.0) for row in rows],
        "text": [f"{row.name}, seed {row.seed}" for row in rows],
        "hovertemplate": "%{text}<br>%{x:.4g} MB·s, %{y:.4g} % lost<extra></extra>",
        "marker": {"size": 12, "color": colour, "symbol": "circle-open" if hollow else "circle", "opacity": 0.85},
        "cliponaxis": False,
    }
