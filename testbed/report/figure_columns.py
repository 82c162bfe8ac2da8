"""The columns of figures in comparisons and sweeps: those of the metrics that have one, and the gain.

The gain is no figure of one run (see `compare`), so it has no row in the table of metrics.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from testbed.report.written import bare
from testbed.results.metrics import VARIED, columns

GAIN = "gain_ratio"


@dataclass(frozen=True, slots=True)
class FigureColumn:
    """A column.

    Attributes:
        header: its title.
        key: of the figure, see `results.metrics.Metric`.
        write: returns a value as text.
        varied: beginning of the parameters with which a sweep has the column; empty for all.
    """

    header: str
    key: str
    write: Callable[[float], str]
    varied: str = ""


def figure_columns() -> tuple[FigureColumn, ...]:
    """Return the columns, in order: those of every table, of the buffer with the gain, of balancer and autoscaler."""
    own = [FigureColumn(metric.column, metric.key, partial(bare, metric), metric.varied) for metric in columns()]
    gain = FigureColumn("gain", GAIN, lambda value: f"{value:.3f}", "buffer.")
    return tuple(sorted([*own, gain], key=lambda column: VARIED.index(column.varied)))
