"""The figures of ``summary.json``: one row each, which is all there is to know of a figure beside how it is counted.

Expectations, the form of the file, the terminal, the page, comparisons, sweeps and ``docs/reference/metrics.md`` read
this table, in its order.  `summary.py` and the files it asks count them.  The rows stand in the files of this folder.
"""

from __future__ import annotations

from dataclasses import dataclass

from testbed.registry import Registry


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A figure of a summary.

    Attributes:
        name: its dotted path, as an expectation names it.
        unit: what it is counted in; decides how it is written (`report.written`).  ``name`` for a text.
        doc: what it means, in a line.
        section: the group it belongs to on the page.
        label: what it is called there.
        lower_is_better: None where neither is.
        silent: whether it is left out of the page where it is 0.
        line: its part of the line of its group on the terminal, with ``{}`` for the value, ``{bare}`` for the value
            without its unit; empty for none.
        noun: what is counted, where the value is to be written with it, such as ``resize``.
        key: its name in JSON tables of comparisons and sweeps; empty where it has no column.
        column: its header there.
        varied: beginning of the parameters, such as ``buffer.``, with which a sweep has the column; empty for all.
    """

    name: str
    unit: str
    doc: str
    section: str
    label: str
    lower_is_better: bool | None = None
    silent: bool = False
    line: str = ""
    noun: str = ""
    key: str = ""
    column: str = ""
    varied: str = ""

    @property
    def is_figure(self) -> bool:
        """Return whether it is a number, which can be expected to be something."""
        return self.unit != "name"


METRICS: Registry[Metric] = Registry(
    "metric",
    (
        "testbed.results.metrics.packets",
        "testbed.results.metrics.buffers",
        "testbed.results.metrics.forecasts",
        "testbed.results.metrics.connections",
        "testbed.results.metrics.failover",
        "testbed.results.metrics.control",
    ),
)


def paths() -> tuple[str, ...]:
    """Return every figure that a summary can hold, by its path; what expectations are checked against."""
    return tuple(metric.name for metric in METRICS if metric.is_figure)


def columns() -> tuple[Metric, ...]:
    """Return the figures that comparisons and sweeps have a column for; what the buffers lose and reserve first."""
    return tuple(sorted((m for m in METRICS if m.key), key=lambda metric: metric.section != "Buffer"))
