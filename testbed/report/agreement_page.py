"""The agreement of the engines as one HTML file: simulated against emulated, and the table of judgements."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from testbed.files import writing
from testbed.report import charts, palette
from testbed.report.agreement import BOUNDS, HEADERS, Bound, Judgement, notes_of, summary_of
from testbed.report.compare_page import Figure, Table, render_page
from testbed.report.sweep_table import SweepTable

_HINT = "Each point is a combination of a sweep, its mean over the seeds. On the line both engines give the same value."


def write_agreement_page(
    judgements: Sequence[Judgement], tables: Sequence[tuple[SweepTable, SweepTable]], target: Path
) -> Path:
    """Write the page to `target` and return its path.

    Raises:
        ToolError: when it cannot be written.
    """
    return writing.replace(target, render(judgements, tables), durable=False)


def render(judgements: Sequence[Judgement], tables: Sequence[tuple[SweepTable, SweepTable]]) -> str:
    """Return the page."""
    figures = [
        Figure(f"agree-{bound.figure}", f"{bound.title.capitalize()}, simulated against emulated", _HINT, chart)
        for bound in BOUNDS
        if (chart := _chart(tables, bound))
    ]
    cells = [judgement.cells for judgement in judgements]
    counts = [judgement.agrees is not None or judgement.undecided for judgement in judgements]
    table = Table("Judgements", ["sweep", "combination", *HEADERS], cells, 3, counts, 7)
    names = " and ".join(dict.fromkeys(emulated.scenario for emulated, _ in tables))
    question = "\n\n".join(emulated.question for emulated, _ in tables)
    return render_page(
        "Agreement of the engines",
        f"{names}: {summary_of(judgements)}",
        question,
        notes_of(judgements),
        figures,
        [table],
        f"{summary_of(judgements)}.",
    )


def _chart(tables: Sequence[tuple[SweepTable, SweepTable]], bound: Bound) -> charts.Chart:
    traces = []
    for k, (emulated, simulated) in enumerate(tables):
        pairs = [
            (ours.mean, theirs.mean, ", ".join(a.parameters.values()))
            for a, b in zip(emulated.combinations, simulated.combinations, strict=True)
            if (ours := a.figures.get(bound.figure)) is not None and (theirs := b.figures.get(bound.figure)) is not None
        ]
        columns = {"x": [pair[0] for pair in pairs], "y": [pair[1] for pair in pairs], "text": [p[2] for p in pairs]}
        marker = {"size": 11, "color": palette.colour(k), "symbol": palette.symbol(k)}
        traces.append({"type": "scatter", "mode": "markers", "name": emulated.name, "marker": marker, **columns})
    most = max([0.0, *(value for trace in traces for axis in ("x", "y") for value in trace[axis])])  # type: ignore[attr-defined]
    line = {"color": palette.NEUTRAL, "width": 1}
    same = {"type": "scatter", "mode": "lines", "name": "the same", "x": [0, most], "y": [0, most], "line": line}
    axes = {"xaxis": charts.axis(f"{bound.title}, emulated"), "yaxis": charts.axis(f"{bound.title}, simulated")}
    return {"data": [*traces, same] if most else [], "layout": {**charts.layout(380), "hovermode": "closest", **axes}}
