"""The comparison of runs as one HTML file: loss against reserved memory, and the table.

`render_page` is what comparisons and sweeps have in common.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testbed.files import writing
from testbed.report import charts, palette
from testbed.report.compare import TEXT_COLUMNS, Comparison, Row, cells_of
from testbed.report.page import plotly_script, script_data, template


@dataclass(frozen=True, slots=True)
class Figure:
    """A chart of a page: its element's name, what stands above it, and Plotly's specification."""

    name: str
    title: str
    hint: str
    chart: charts.Chart

    @property
    def alt(self) -> str:
        """Return what the chart shows, for those who do not see it."""
        series = dict.fromkeys(str(trace["name"]) for trace in self.chart["data"] if trace.get("name"))
        return f"{self.title}. {self.hint} Series: {', '.join(series)}."


@dataclass(frozen=True, slots=True)
class Table:
    """A table of a page.

    Attributes:
        title: stands above it.
        headers, rows: cells as text.
        text_columns: the first ones hold words and stand to the left.
        counts: for each row whether it counts; others are dimmed.
        verdict: the column that holds a verdict, -1 for none.
        links: for each row where its first cell leads, empty for nowhere; no links at all by default.
    """

    title: str
    headers: Sequence[str]
    cells: Sequence[Sequence[str]]
    text_columns: int
    counts: Sequence[bool]
    verdict: int = -1
    links: Sequence[str] = ()

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Return the rows as the template wants them."""
        links = self.links or [""] * len(self.cells)
        parts = zip(self.cells, self.counts, links, strict=True)
        return [{"cells": line, "counts": counts, "link": link} for line, counts, link in parts]


def write_compare_page(comparison: Comparison, target: Path) -> Path:
    """Write the page to `target` and return its path.

    Raises:
        ToolError: when it cannot be written.
    """
    return writing.replace(target, render(comparison), durable=False)


def render(comparison: Comparison) -> str:
    """Return the page."""
    hint = "Each point is a run. Lower points lose less; points further left reserve less."
    chart = _memory_against_loss(comparison.rows)
    figure = Figure("memory-loss", "Loss against memory", f"{hint} INVALID and unfinished runs are not drawn.", chart)
    parts = (("Runs", comparison.rows), ("Means", comparison.means))
    tables = [table_of_runs(title, rows) for title, rows in parts if rows]
    eyebrow = f"{len(comparison.rows)} runs compared"
    head = (comparison.scenario, eyebrow, comparison.question)
    return render_page(*head, comparison.notes, [figure], tables, comparison.answer)


def render_page(
    heading: str,
    eyebrow: str,
    question: str,
    notes: Sequence[str],
    figures: Sequence[Figure],
    tables: Sequence[Table],
    answer: str = "",
) -> str:
    """Return a page of question, answer, notes, charts and tables; charts without a point are left out."""
    drawn = [figure for figure in figures if figure.chart["data"]]
    return template("compare.html.j2").render(
        heading=heading,
        eyebrow=eyebrow,
        question=question,
        answer=answer,
        notes=notes,
        charts=drawn,
        tables=tables,
        explains_gain=any("gain" in table.headers for table in tables),
        figures=script_data({figure.name: figure.chart for figure in drawn}),
        plotly=plotly_script(),
    )


def table_of_runs(title: str, rows: Sequence[Row], links: Sequence[str] = ()) -> Table:
    """Return the table of single runs or their means; `links` lead to the page of each."""
    headers, cells = cells_of(rows)
    counts, verdict = [row.counts for row in rows], headers.index("verdict")
    return Table(title, headers, cells, TEXT_COLUMNS, counts, verdict, links)


def _memory_against_loss(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the chart: towards the lower left a policy loses less with less memory."""
    drawn = [row for row in rows if row.counts and row.loss_ratio is not None and row.reserved_mb_s is not None]
    traces = []
    labels = sorted({(row.policy, row.engine) for row in drawn})
    for policy, engine in labels:
        points = [row for row in drawn if (row.policy, row.engine) == (policy, engine)]
        traces.append(_points(points, f"{policy}, {engine}", policy, engine == "simulation"))
    layout = {
        **charts.layout(440),
        "hovermode": "closest",
        "xaxis": {**charts.axis("reserved memory (MB·s)"), "rangemode": "tozero"},
        "yaxis": {**charts.axis("packets lost by the buffers (%)"), "rangemode": "tozero"},
    }
    return {"data": traces, "layout": layout}


def _points(rows: Sequence[Row], name: str, policy: str, hollow: bool) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [row.reserved_mb_s for row in rows],
        "y": [100 * (row.loss_ratio or 0.0) for row in rows],
        "text": [f"{row.name}, seed {row.seed}" for row in rows],
        "hovertemplate": "%{text}<br>%{x:.4g} MB·s, %{y:.4g} % lost<extra></extra>",
        "marker": {
            "size": 12,
            "color": palette.policy_colour(policy),
            "symbol": palette.policy_symbol(policy) + ("-open" if hollow else ""),
            "opacity": 0.85,
        },
        "cliponaxis": False,
    }
