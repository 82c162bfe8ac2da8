"""The Pareto front of a sweep: the combinations that no other beats in both of two figures.

Of two figures of which less is better, a combination is on the front unless another has less of one and not more of the
other.  The front is of the means; whether two neighbours on it differ at all is for the table of differences.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from testbed.report import charts, palette
from testbed.report.sweep_table import CombinationRow


def front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the points that no other beats, from the left; equal ones once."""
    found: list[tuple[float, float]] = []
    for x, y in sorted(points):
        if not found or y < found[-1][1]:
            found.append((x, y))
    return found


def trace(rows: Sequence[CombinationRow], figure: str) -> charts.Chart:
    """Return the line through the combinations on the front of `figure` and loss."""
    known = [
        (x.mean, 100 * y.mean)
        for row in rows
        if (x := row.figures[figure]) is not None and (y := row.figures["loss_ratio"]) is not None
    ]
    chosen = front(known)
    drawn: dict[str, Any] = {
        "type": "scatter",
        "mode": "lines+markers",
        "name": "Pareto front",
        "x": [x for x, _ in chosen],
        "y": [y for _, y in chosen],
        "line": {"color": palette.NEUTRAL, "width": 1.5, "dash": "dot", "shape": "hv"},
        "marker": {"symbol": "circle-open", "size": 18, "color": palette.NEUTRAL, "line": {"width": 1.5}},
        "hoverinfo": "skip",
        "cliponaxis": False,
    }
    return drawn
