"""A sweep as one HTML file: loss against what was varied, the table and the runs behind it.

Loss is drawn against reserved memory and p99 latency, each with its Pareto front, against the actuation delay where
that varies, and where the balancer's policy does against how unevenly it loaded the nodes.

A point is the mean over the seeds of a combination, with the 95 % confidence interval of both figures as bars.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from testbed.files import writing
from testbed.report import charts, palette, pareto
from testbed.report.answer import answer_of_means
from testbed.report.compare import Row
from testbed.report.compare_page import Figure, Table, render_page, table_of_runs
from testbed.report.sweep_cells import DIFFERENCES, cells_of, difference_cells_of
from testbed.report.sweep_table import CombinationRow, SweepTable
from testbed.report.written import many
from testbed.results.confidence import Estimate
from testbed.scenario.sweep import POLICY
from testbed.units import duration_ns

DELAY = "buffer.actuation_delay"
BALANCER = "balancer.policy"
_TRADE_OFFS = (
    ("memory-loss", "reserved_mb_s", "Loss against memory", "reserved memory (MB·s)", "reserve less"),
    ("latency-loss", "p99_ms", "Loss against p99 latency", "p99 of the one-way delay (ms)", "have less delay"),
)
_FRONT = "The ringed points are the Pareto front: no other combination has less of one and not more of the other."
_BARS = "The bars are 95 % confidence intervals over the seeds."
_LOSS_AXIS = "packets lost by the buffers (%)"


def write_sweep_page(table: SweepTable, target: Path) -> Path:
    """Write the page to `target` and return its path.

    Raises:
        ToolError: when it cannot be written.
    """
    return writing.replace(target, render(table), durable=False)


def render(table: SweepTable) -> str:
    """Return the page."""
    figures = [_trade_off(table, *of) for of in _TRADE_OFFS]
    if BALANCER in table.keys:
        load_hint = f"Bytes of the busiest node divided by the mean over all nodes; 1 means an even load. {_BARS}"
        load = _against_loss(table, "max_over_mean", charts.axis("busiest node / mean"))
        figures.insert(0, Figure("load-loss", "Loss against imbalance", load_hint, load))
    if DELAY in table.keys:
        delay_hint = f"Time from the decision to increase a limit until it takes effect. {_BARS}"
        figures.insert(
            0, Figure("delay-loss", "Loss against the actuation delay", delay_hint, _loss_against_delay(table))
        )
    eyebrow = f"sweep of scenario {table.scenario}, {many(len(table.trials), 'run')}"
    return render_page(table.name, eyebrow, table.question, table.notes, figures, _tables(table), answer_of(table))


def answer_of(table: SweepTable) -> str:
    """Return what the sweep says to its question, in one sentence."""
    return answer_of_means(
        {_label(row.parameters, table.keys): row.figures["loss_ratio"] for row in table.combinations}
    )


def _trade_off(table: SweepTable, name: str, figure: str, title: str, axis: str, less: str) -> Figure:
    """Return the chart of what loss is traded for, with its Pareto front."""
    hint = f"Each point is a combination. Lower points lose less; points further left {less}. {_FRONT} {_BARS}"
    chart = _against_loss(table, figure, {**charts.axis(axis), "rangemode": "tozero"})
    return Figure(name, title, hint, {**chart, "data": [*chart["data"], pareto.trace(table.combinations, figure)]})


def _tables(table: SweepTable) -> list[Table]:
    headers, cells = cells_of(table)
    counts = [bool(row.seeds) for row in table.combinations]
    means = Table("Means over the seeds", headers, cells, len(table.keys) + 1, counts)
    headers, cells = difference_cells_of(table)
    differences = Table(DIFFERENCES, headers, cells, len(table.keys) + 1, [True] * len(cells))
    runs = [trial.row for trial in table.trials]
    tables = (differences, table_of_runs("Runs", runs, _pages(runs)), _left_out(table.left_out))
    return [means, *(found for found in tables if found.cells)]


def _left_out(rows: Sequence[Row]) -> Table:
    """Return the table of the runs that enter no mean, with the reason why."""
    table = table_of_runs("Runs left out", rows, _pages(rows))
    after = table.verdict + 1
    headers = [*table.headers[:after], "why", *table.headers[after:]]
    cells = [[*line[:after], row.why, *line[after:]] for line, row in zip(table.cells, rows, strict=True)]
    return replace(table, headers=headers, cells=cells, text_columns=table.text_columns + 1)


def _pages(rows: Sequence[Row]) -> list[str]:
    """Return where the page of each run lies, as seen from that of the sweep."""
    return [f"{quote(row.name)}/report.html" for row in rows]


def _against_loss(table: SweepTable, figure: str, axis: dict[str, Any]) -> charts.Chart:
    """Return the chart of a figure and the loss: a colour for each policy."""
    layout = {
        **charts.layout(440),
        "hovermode": "closest",
        "xaxis": axis,
        "yaxis": {**charts.axis(_LOSS_AXIS), "rangemode": "tozero"},
    }
    policies = [key for key in (POLICY, BALANCER) if key in table.keys]
    return {"data": _series(table.combinations, policies, lambda row: row.figures[figure], "markers"), "layout": layout}


def _loss_against_delay(table: SweepTable) -> charts.Chart:
    """Return the chart: one line for each policy, the delays at equal distances since they span powers of ten."""
    rows = sorted(table.combinations, key=lambda row: duration_ns(row.parameters[DELAY]))
    delays = list(dict.fromkeys(row.parameters[DELAY] for row in rows))
    layout = {
        **charts.layout(440),
        "hovermode": "closest",
        "xaxis": {
            **charts.axis("actuation delay"),
            **{"type": "category", "categoryorder": "array", "categoryarray": delays},
        },
        "yaxis": {**charts.axis(_LOSS_AXIS), "rangemode": "tozero"},
    }
    others = [key for key in table.keys if key != DELAY]
    return {"data": _series(rows, others, lambda row: row.parameters[DELAY], "lines+markers"), "layout": layout}


def _series(
    rows: Sequence[CombinationRow], keys: Sequence[str], x: Callable[[CombinationRow], Estimate | str | None], mode: str
) -> list[dict[str, Any]]:
    """Return a trace for each value of `keys`, its points the combinations that have it."""
    by_label: dict[str, list[CombinationRow]] = {}
    for row in rows:
        if row.figures["loss_ratio"] is not None and x(row) is not None:
            by_label.setdefault(_label(row.parameters, keys), []).append(row)
    return [
        _trace(points, label or "all", x, mode, *_looks(points[0], k))
        for k, (label, points) in enumerate(by_label.items())
    ]


def _looks(row: CombinationRow, number: int) -> tuple[str, str]:
    """Return colour and symbol of a series: those of its policy, and by its number where policies do not vary."""
    policies = [row.parameters[key] for key in (POLICY, BALANCER) if key in row.parameters]
    if not policies:
        return palette.colour(number), palette.symbol(number)
    return palette.policy_colour(policies[0]), palette.policy_symbol(policies[-1])


def _trace(
    rows: Sequence[CombinationRow],
    name: str,
    x: Callable[[CombinationRow], Estimate | str | None],
    mode: str,
    colour: str,
    symbol: str,
) -> dict[str, Any]:
    losses = [row.figures["loss_ratio"] for row in rows]
    xs = [x(row) for row in rows]
    trace: dict[str, Any] = {
        "type": "scatter",
        "mode": mode,
        "name": name,
        "x": [found.mean if isinstance(found, Estimate) else found for found in xs],
        "y": [100 * found.mean for found in losses if found is not None],
        "error_y": _bars([found for found in losses if found is not None], 100),
        "text": [_label(row.parameters, list(row.parameters)) or name for row in rows],
        "hovertemplate": "%{text}<br>%{x}, %{y:.4g} % lost<extra></extra>",
        "marker": {"size": 11, "color": colour, "symbol": symbol},
        "line": {"color": colour, "width": 2},
        "cliponaxis": False,
    }
    known = [found for found in xs if isinstance(found, Estimate)]
    return {**trace, "error_x": _bars(known)} if known else trace


def _bars(found: Sequence[Estimate], times: float = 1.0) -> dict[str, Any]:
    """Return the intervals as bars; no loss, memory or load lies below 0, nor does its interval."""
    ends = [one.bounds(0.0) for one in found]
    above = [times * (high - one.mean) for one, (_, high) in zip(found, ends, strict=True)]
    below = [times * (one.mean - low) for one, (low, _) in zip(found, ends, strict=True)]
    return {"type": "data", "symmetric": False, "array": above, "arrayminus": below, "thickness": 1.2, "width": 4}


def _label(parameters: Mapping[str, str], keys: Sequence[str]) -> str:
    """Return the values of `keys`; a number or size alone would be ambiguous."""
    known = [(key, parameters[key]) for key in keys if key in parameters]
    return ", ".join(
        value if key in (POLICY, BALANCER) else f"{key.rpartition('.')[2]} {value}" for key, value in known
    )
