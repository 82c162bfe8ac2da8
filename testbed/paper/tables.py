"""Tables for papers: the key figures of a run, or the combinations of a sweep, as LaTeX, Markdown, CSV or JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from testbed.errors import InputError
from testbed.paper.kinds import is_sweep
from testbed.report import key_figures
from testbed.report.sweep_cells import cells_of, columns_of, difference_cells_of
from testbed.report.sweep_table import SweepTable, tabulate
from testbed.report.written import figure
from testbed.results.metrics import METRICS
from testbed.results.recorded_run import RecordedRun

Rows = Sequence[Sequence[Any]]
_ESCAPED = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "·": r"$\cdot$",
    "µ": r"\textmu{}", "–": "--", "−": "$-$", "≈": r"$\approx$", "<": "$<$", ">": "$>$",
}  # fmt: skip


def table(path: Path, form: str, figures: Sequence[str] = (), *, differences: bool = False) -> str:
    """Return the table of a run or sweep.

    Args:
        path: its directory.
        form: one of `FORMATS`; ``csv`` and ``json`` have plain numbers in the units of the summary, the others text.
        figures: of a sweep, the columns to show, by their keys; none: all.
        differences: of a sweep, show the paired differences from its baseline (as text) in place of the means.

    Raises:
        InputError: it is neither run nor sweep, has no figures yet, or not those that were asked for.
    """
    plain = form in ("csv", "json")
    if is_sweep(path):
        headers, rows = _sweep_of(path, plain, figures, differences=differences)
    elif figures or differences:
        raise InputError(f"table of {path}", "a run has no columns and no baseline", "give a sweep, or leave them out")
    else:
        headers, rows = _run_of(path, plain)
    if not rows:
        raise InputError(f"table of {path}", "it has no results yet", "give a completed one")
    return FORMATS[form](headers, rows)


def _run_of(path: Path, plain: bool) -> tuple[list[str], Rows]:
    summary = RecordedRun.open(path).document("summary.json") or {}
    if plain:
        known = [(metric, figure(summary, metric.name)) for metric in METRICS]
        return ["figure", "value", "unit"], [(one.name, value, one.unit) for one, value in known if value is not None]
    rows = [(section, *row) for section, group in key_figures.groups(summary) for row in group]
    return ["section", "figure", "value"], rows


def _sweep_of(path: Path, plain: bool, figures: Sequence[str], *, differences: bool) -> tuple[list[str], Rows]:
    found = tabulate(path)
    columns = [column.key for column in columns_of(found)]
    if unknown := [key for key in figures if key not in columns]:
        raise InputError(f"table of {path}", f"it has no figure {unknown[0]}", f"choose from {', '.join(columns)}")
    if differences and plain:
        raise InputError(f"table of {path}", "differences are text", "use --format markdown or latex")
    if plain:
        return _numbers_of(found, figures or columns)
    headers, rows = (difference_cells_of if differences else cells_of)(found)
    first = len(found.keys) + 1
    shown = [*range(first), *(first + columns.index(key) for key in figures or columns)]
    return [headers[k] for k in shown], [[row[k] for k in shown] for row in rows]


def _numbers_of(found: SweepTable, figures: Sequence[str]) -> tuple[list[str], Rows]:
    columns = sorted((one for one in columns_of(found) if one.key in figures), key=lambda one: figures.index(one.key))
    headers = [*found.keys, "seeds", *(f"{column.key}{part}" for column in columns for part in ("", "_low", "_high"))]
    rows = []
    for row in found.combinations:
        ends: list[float | None] = []
        for column in columns:
            one = row.figures[column.key]
            bounds = (None, None) if one is None or one.half_width is None else one.bounds()
            ends += [None if one is None else one.mean, *bounds]
        rows.append([*row.parameters.values(), len(row.seeds), *ends])
    return headers, rows


def _latex(headers: Sequence[str], rows: Rows) -> str:
    """Return a table for the package booktabs; the first columns hold words."""
    words = sum(not _is_number(cell) for cell in rows[0])
    form = "l" * words + "r" * (len(headers) - words)
    lines = [rf"\begin{{tabular}}{{{form}}}", r"\toprule", _row(headers), r"\midrule"]
    return "\n".join([*lines, *map(_row, rows), r"\bottomrule", r"\end{tabular}"])


def _row(cells: Sequence[Any]) -> str:
    return " & ".join("".join(_ESCAPED.get(c, c) for c in str(cell)) for cell in cells) + r" \\"


def _is_number(cell: Any) -> bool:
    return str(cell)[:1].isdigit() or str(cell)[:1] in "–−-+"


def _markdown(headers: Sequence[str], rows: Rows) -> str:
    lines = [headers, ["---"] * len(headers), *rows]
    return "\n".join(f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def _csv(headers: Sequence[str], rows: Rows) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([headers, *rows])
    return out.getvalue().rstrip("\n")


def _json(headers: Sequence[str], rows: Rows) -> str:
    return json.dumps([dict(zip(headers, row, strict=True)) for row in rows], indent=2, ensure_ascii=False)


FORMATS: Mapping[str, Callable[[Sequence[str], Rows], str]] = {
    "latex": _latex,
    "markdown": _markdown,
    "csv": _csv,
    "json": _json,
}
