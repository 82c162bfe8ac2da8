"""A sweep's table as text: which columns it has, and how a mean with its interval is written."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from testbed.report.figure_columns import GAIN, FigureColumn, figure_columns
from testbed.report.written import many
from testbed.results.confidence import Estimate
from testbed.results.differences import Difference

if TYPE_CHECKING:
    from testbed.report.sweep_table import CombinationRow, SweepTable

_BESIDE = ("balancer.", "autoscaler.")  # parameters that say nothing of the buffers
DIFFERENCES = "Differences from the baseline, seed by seed"


def columns_of(table: SweepTable) -> tuple[FigureColumn, ...]:
    """Return the columns that say something where these parameters vary."""
    varied = {next((part for part in _BESIDE if key.startswith(part)), "buffer.") for key in table.keys}
    wanted = {"", *(varied or {"buffer."})}
    return tuple(column for column in figure_columns() if column.varied in wanted)


def cells_of(table: SweepTable) -> tuple[list[str], list[list[str]]]:
    """Return the headers and the cells of the table, as text."""
    columns = columns_of(table)
    headers = [*(_header(key, table.keys) for key in table.keys), "seeds", *(column.header for column in columns)]
    return headers, [_cells(row, columns) for row in table.combinations]


def difference_cells_of(table: SweepTable) -> tuple[list[str], list[list[str]]]:
    """Return headers and cells of the differences from the baseline; no cells without one."""
    headers, _ = cells_of(table)
    columns = columns_of(table)
    rows = [row for row in table.combinations if row.differences]
    return headers, [_difference_cells(row, columns) for row in rows]


def _difference_cells(row: CombinationRow, columns: Sequence[FigureColumn]) -> list[str]:
    pairs = max((found.count for found in row.differences.values() if found is not None), default=0)
    figures = [_difference(row.differences[column.key], column.write, pairs) for column in columns]
    return [*row.parameters.values(), f"{pairs} of {row.planned}" if pairs < row.planned else str(pairs), *figures]


def _difference(found: Difference | None, write: Callable[[float], str], pairs: int) -> str:
    """Return a difference with its sign, whether it may be chance, its effect size and the seeds that would show it."""
    text = _written(found, write, pairs)
    if found is None:
        return text
    signed = text if found.mean < 0 else f"+{text}"
    if found.p is None:
        return f"{signed} one seed"
    size = [f"d {found.effect:.2g}"] if found.effect is not None else []
    if found.is_significant:
        return " ".join([signed, "*", *size])
    needed = [many(found.seeds_needed, "seed")] if found.seeds_needed is not None else []
    return " ".join([signed, "n.s.", ", ".join([*size, *needed])]).rstrip()


def _header(key: str, keys: Sequence[str]) -> str:
    """Return the last word of a key, both where another key ends in the same."""
    last = key.rpartition(".")[2]
    return last if sum(other.rpartition(".")[2] == last for other in keys) == 1 else key


def _cells(row: CombinationRow, columns: Sequence[FigureColumn]) -> list[str]:
    seeds = f"{len(row.seeds)} of {row.planned}" if len(row.seeds) < row.planned else str(row.planned)
    n = len(row.seeds)
    figures = [_written(row.figures[column.key], column.write, n, floor_of(column.key)) for column in columns]
    return [*row.parameters.values(), seeds, *figures]


def floor_of(key: str) -> float:
    """Return the least value that a figure can have: only a gain, which compares two losses, may be negative."""
    return -math.inf if key == GAIN else 0.0


def _written(found: Estimate | None, write: Callable[[float], str], seeds: int, floor: float = -math.inf) -> str:
    if found is None:
        return "–"
    text = write(found.mean)
    if found.half_width is not None:
        interval = found.interval_text(write, floor)
        text += f" {interval}" if interval.startswith("±") else f" ({interval})"
    return text if found.count == seeds else f"{text} ({found.count} of {seeds})"
