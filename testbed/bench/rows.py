"""A row of the table: a figure, the bar it has to pass, and what a rival gives in the same call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Row = dict[str, Any]


def row(
    name: str,
    value: float,
    unit: str,
    bar: str = "",
    rival: str = "",
    rival_value: float | None = None,
    note: str = "",
) -> Row:
    """Return a row; `bar` is a relation and a limit, such as ``<= 60``, in the unit of the value."""
    return {
        "name": name,
        "value": value,
        "unit": unit,
        "rival": rival,
        "rival_value": rival_value,
        "ratio": value / rival_value if rival_value else None,
        "bar": bar,
        "met": _passes(value, bar) if bar else None,
        "note": note,
    }


def _passes(value: float, bar: str) -> bool:
    relation, limit = bar.split()
    return {"<=": value <= float(limit), "<": value < float(limit), ">=": value >= float(limit)}[relation]


def percentile(values: Sequence[float], ratio: float) -> float:
    """Return the smallest of the values that at least `ratio` of them do not exceed (nearest rank)."""
    ordered = sorted(values)
    rank = -(-len(ordered) * round(ratio * 1000) // 1000)
    return ordered[max(rank, 1) - 1]
