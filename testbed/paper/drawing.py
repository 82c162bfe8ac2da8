"""Figures as PDF, SVG or PNG by matplotlib: of the width of a column, fonts embedded, the same file from the same data.

Matplotlib is optional (extra ``plot``) and imported when a figure is drawn.  Colours are those of the pages
(`report.palette`); since not all readers see so many colours, lines differ in their dashes and points in their marks.
"""

from __future__ import annotations

import importlib.util
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from testbed import installing
from testbed.errors import InputError, MachineError
from testbed.files import writing
from testbed.paper.series import FigureData, Grid, Series
from testbed.report import palette

FORMATS = ("pdf", "svg", "png")
WIDTHS_IN: Mapping[str, float] = {"column": 3.35, "text": 7.0, "slide": 9.0}
_HEIGHT_OF_WIDTH, _MORE_FOR_PANEL = 0.68, 0.28
_LONG_CHARS, _LEGEND_IN = 14, (1.1, 1.65)  # width of an entry of the legend, and of a long one
_FOR_NAMES_IN = 0.7  # what many series take for their names
_DASHES = ("-", "--", "-.", ":")
_MARKS = "osD^PXvp*h"
_STYLE: Any = {
    "font.size": 8, "axes.labelsize": 8, "legend.fontsize": 7, "xtick.labelsize": 7, "ytick.labelsize": 7,
    "font.family": "DejaVu Sans", "axes.grid": True, "grid.linewidth": 0.4, "grid.color": "#d9dde2",
    "lines.linewidth": 1.1, "axes.axisbelow": True, "pdf.fonttype": 42, "ps.fonttype": 42, "svg.fonttype": "path",
    "svg.hashsalt": "testbed", "savefig.dpi": 300, "figure.constrained_layout.use": True,
}  # fmt: skip


def draw(data: FigureData, out: Path, width: str = "column") -> Path:
    """Draw a figure and return its path.

    Args:
        data: what it shows.
        out: its name ends in one of `FORMATS`.
        width: one of `WIDTHS_IN`.

    Raises:
        InputError: for another ending.
        MachineError: matplotlib is not installed.
        ToolError: the file cannot be written.
    """
    form = out.suffix.lower().lstrip(".")
    if form not in FORMATS:
        raise InputError(
            f"-o {out}", "this file type is not supported", f"use a file name ending in .{', .'.join(FORMATS)}"
        )
    if importlib.util.find_spec("matplotlib") is None:
        raise MachineError(f"draw {out}", "matplotlib is not installed", f"{installing.optional('plot')}, or --data")
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        panels = len(data.y_labels)
        height = WIDTHS_IN[width] * (_HEIGHT_OF_WIDTH + _MORE_FOR_PANEL * (panels - 1))
        height += _FOR_NAMES_IN * (len(data.series) > 3)
        figure = Figure(figsize=(WIDTHS_IN[width], height))
        _fill(figure, data, panels)
        content = io.BytesIO()
        figure.savefig(content, format=form, metadata=_metadata(form))
    return writing.replace(out, content.getvalue(), durable=False, elsewhere="choose another -o")


def _metadata(form: str) -> dict[str, Any]:
    """Return what keeps the time of drawing out of the file, so that the same figure is the same file."""
    return {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {"Software": None}}[form]


def _fill(figure: Any, data: FigureData, panels: int) -> None:
    axes = figure.subplots(panels, 1, sharex=True, squeeze=False)[:, 0]
    if data.grid is not None:
        _grid(figure, axes[0], data.grid)
    for number, panel in enumerate(axes):
        _panel(panel, data, number)
        panel.set_ylabel(data.y_labels[number])
    axes[-1].set_xlabel(data.x_label)
    if len(data.series) > 1 and data.kind != "bar":
        labels = {
            label: handle for panel in axes for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
        }
        columns = max(1, int(figure.get_figwidth() / _LEGEND_IN[max(map(len, labels)) > _LONG_CHARS]))
        figure.legend(labels.values(), labels, loc="outside upper center", ncols=columns, frameon=False)


def _panel(axes: Any, data: FigureData, number: int) -> None:
    shown = [(k, series) for k, series in enumerate(data.series) if series.panel == number]
    for k, series in shown:
        _draw_series(axes, data, series, k)
    for span in data.spans:
        axes.axvspan(span.first, span.last, color="#b82c09", alpha=0.12, linewidth=0)
        axes.axvline(span.first, color="#b82c09", linewidth=0.8, linestyle=":")
    if data.log_x and _spans_a_decade(data):
        axes.set_xscale("log")
    if data.grid is None and data.kind != "cdf":
        axes.set_ylim(bottom=min([0.0, *(y for _, series in shown for y in series.y)]))


def _spans_a_decade(data: FigureData) -> bool:
    """Return whether a logarithmic axis would have two marks with plain labels."""
    values = [x for series in data.series for x in series.x if not isinstance(x, str) and x > 0]
    return bool(values) and max(values) >= 10 * min(values)


def _draw_series(axes: Any, data: FigureData, series: Series, number: int) -> None:
    colour = palette.policy_colour(series.policy) if series.policy else palette.colour(number)
    if data.kind == "bar":
        axes.bar(list(series.x), series.y, color=colour, yerr=_errors(series.y, series.low, series.high), capsize=2)
        if len(data.series) > 3:
            axes.tick_params(axis="x", rotation=90)
    elif data.kind == "pareto" and series.name != "front":
        _mark(axes, series, colour, number)
    elif data.kind == "pareto":
        axes.plot(series.x, series.y, color=palette.NEUTRAL, linewidth=0.8, linestyle="--", label="front", zorder=1)
    else:
        before = [one for one in data.series[:number] if one.policy == series.policy and one.policy]
        dashes = _DASHES[len(before) % len(_DASHES)]
        axes.plot(series.x, series.y, color=colour, linestyle=dashes, label=series.name)


def _mark(axes: Any, series: Series, colour: str, number: int) -> None:
    bars = {"yerr": _errors(series.y, series.low, series.high), "xerr": _errors(series.x, series.x_low, series.x_high)}
    mark = _MARKS[number % len(_MARKS)]
    axes.errorbar(series.x, series.y, **bars, fmt=mark, color=colour, ms=4, lw=0.8, capsize=1.5, label=series.name)


def _errors(values: Sequence[Any], low: Sequence[float], high: Sequence[float]) -> Any:
    if not low:
        return None
    below = [value - end for value, end in zip(values, low, strict=True)]
    return [below, [end - value for value, end in zip(values, high, strict=True)]]


def _grid(figure: Any, axes: Any, grid: Grid) -> None:
    values = [[float("nan") if value is None else value for value in row] for row in grid.values]
    image = axes.imshow(values, aspect="auto", cmap="cividis", interpolation="nearest", **_range(values))
    figure.colorbar(image, ax=axes, label=grid.label)
    axes.grid(visible=False)
    step = max(1, len(grid.columns) // 6)
    places = range(0, len(grid.columns), step)
    axes.set_xticks(list(places), [_shown(grid.columns[k]) for k in places])
    axes.set_yticks(range(len(grid.rows)), grid.rows)


def _range(values: Sequence[Sequence[float]]) -> dict[str, float]:
    """Return the ends of the colours: from 0 where nothing is negative."""
    known = [value for row in values for value in row if not math.isnan(value)]
    return {"vmin": min([0.0, *known]), "vmax": max(known, default=0.0) or 1.0}


def _shown(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.3g}"
