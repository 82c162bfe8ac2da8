"""What a figure shows as plain numbers: series of points with intervals, or a grid of values.

A figure is drawn from this and from nothing else, and written as CSV it is what a reader needs to redraw it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Series:
    """Points of one name.

    Attributes:
        name: stands in the legend.
        x, y: of equal length; x may be words.
        low, high: the ends of the 95 % intervals of y, empty for none.
        x_low, x_high: the same of x.
        policy: whose colour it has, empty for the next free one.
        panel: which of the panels above each other it is drawn in, from 0.
    """

    name: str
    x: Sequence[float | str]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    x_low: Sequence[float] = ()
    x_high: Sequence[float] = ()
    policy: str = ""
    panel: int = 0


@dataclass(frozen=True, slots=True)
class Grid:
    """Values over two axes; None where there is none.

    Attributes:
        columns, rows: what stands along the axes.
        values: a row of them for each of `rows`.
        label: what the values are, with their unit.
    """

    columns: Sequence[str | float]
    rows: Sequence[str]
    values: Sequence[Sequence[float | None]]
    label: str


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time that is shaded, and its name."""

    name: str
    first: float
    last: float


@dataclass(frozen=True, slots=True)
class FigureData:
    """All that a figure shows.

    Attributes:
        kind: one of `kinds.KINDS`.
        x_label: what the horizontal axis shows, with its unit.
        y_labels: the same of each panel, from the top.
        series: the points.
        grid: instead of series, for a heat map.
        log_x, log_y: whether the axes are logarithmic.
        spans: what is shaded.
    """

    kind: str
    x_label: str
    y_labels: Sequence[str]
    series: Sequence[Series] = ()
    grid: Grid | None = None
    log_x: bool = False
    log_y: bool = False
    spans: Sequence[Span] = field(default_factory=tuple)


def to_csv(data: FigureData) -> str:
    """Return the figure's numbers as CSV with a header: one row a point, or a cell of the grid."""
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    if data.grid is not None:
        table.writerow(["row", data.x_label, data.grid.label])
        for name, values in zip(data.grid.rows, data.grid.values, strict=True):
            table.writerows([name, column, value] for column, value in zip(data.grid.columns, values, strict=True))
        return out.getvalue()
    table.writerow(["series", "panel", "x", "y", "y_low", "y_high", "x_low", "x_high"])
    for series in data.series:
        ends = [_padded(values, len(series.y)) for values in (series.low, series.high, series.x_low, series.x_high)]
        for k, (x, y) in enumerate(zip(series.x, series.y, strict=True)):
            table.writerow([series.name, data.y_labels[series.panel], x, y, *(values[k] for values in ends)])
    table.writerows(["shaded", "", span.first, "", "", "", "", span.last] for span in data.spans)
    return out.getvalue()


def _padded(values: Sequence[float], length: int) -> Sequence[float | str]:
    return values or [""] * length
