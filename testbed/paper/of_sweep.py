"""The figures of a sweep: means over the seeds with their intervals, delays of a combination's runs together."""

from __future__ import annotations

from pathlib import Path

from testbed.errors import InputError
from testbed.paper.of_run import distribution
from testbed.paper.series import FigureData, Grid, Series
from testbed.records.histogram import merged
from testbed.report.figure_columns import FigureColumn, figure_columns
from testbed.report.pareto import front
from testbed.report.sweep_cells import floor_of
from testbed.report.sweep_table import CombinationRow, SweepTable
from testbed.results.confidence import Estimate
from testbed.results.metrics import METRICS
from testbed.results.recorded_run import RecordedRun
from testbed.scenario.sweep import POLICY

LOSS, MEMORY = "loss_ratio", "reserved_mb_s"


def cdf(path: Path, table: SweepTable, figure: str) -> FigureData:
    """Return the distribution of the one-way delay of each combination, all its runs together."""
    series = []
    for row in table.combinations:
        runs = [trial.row.name for trial in table.trials if trial.parameters == row.parameters]
        evidence = [RecordedRun.open(path / name).evidence() for name in runs]
        delay = merged(node.delay for one in evidence if one is not None for node in one.nodes)
        if delay is not None and delay.total:
            series.append(distribution(delay, label_of(row), _policy(row)))
    if not series:
        raise _refusal(path, "no run of it has delays", "run the sweep first")
    return FigureData("cdf", "one-way delay (ms)", ["packets (%)"], series, log_x=True)


def pareto(path: Path, table: SweepTable, figure: str) -> FigureData:
    """Return the loss against the memory of each combination, and the front: what none beats in both."""
    series, known = [], []
    for row in table.combinations:
        loss, memory = row.figures[LOSS], row.figures[MEMORY]
        if loss is None or memory is None:
            continue
        known.append((memory.mean, 100 * loss.mean))
        low, high, x_low, x_high = (
            [times * end] for found, times in ((loss, 100.0), (memory, 1.0)) for end in found.bounds(0.0)
        )
        point = ([memory.mean], [100 * loss.mean])
        series.append(Series(label_of(row), *point, low, high, x_low, x_high, policy=_policy(row)))
    if not series:
        raise _refusal(path, "no combination has loss and memory", "run the sweep first")
    best = front(known)
    series.append(Series("front", [x for x, _ in best], [y for _, y in best]))
    return FigureData("pareto", "reserved memory (MB·s)", ["lost by the buffers (%)"], series)


def bar(path: Path, table: SweepTable, figure: str) -> FigureData:
    """Return a figure of each combination with its interval."""
    column = _column(path, figure)
    series, times = [], _times(column)
    for row in table.combinations:
        found = row.figures[column.key]
        if found is not None:
            low, high = found.bounds(floor_of(column.key))
            ends = ([times * low], [times * high])
            series.append(Series(label_of(row), [label_of(row)], [times * found.mean], *ends, policy=_policy(row)))
    if not series:
        raise _refusal(path, f"no combination has {figure}", "run the sweep first")
    return FigureData("bar", ", ".join(table.keys) or "sweep", [_unit(column)], series)


def heatmap(path: Path, table: SweepTable, figure: str) -> FigureData:
    """Return a figure over the two parameters that vary."""
    varied = [key for key in table.keys if len({row.parameters[key] for row in table.combinations}) > 1]
    if len(varied) != 2:
        happened = f"it varies {', '.join(varied) or 'nothing'}, but a heat map needs two parameters"
        raise _refusal(path, happened, "use a sweep of two parameters, or --kind bar")
    column, (across, down) = _column(path, figure), varied
    values = {(row.parameters[down], row.parameters[across]): row.figures[column.key] for row in table.combinations}
    columns, rows = (list(dict.fromkeys(row.parameters[key] for row in table.combinations)) for key in (across, down))
    cells = [[_mean(values.get((y, x)), _times(column)) for x in columns] for y in rows]
    return FigureData("heatmap", across, [down], grid=Grid(columns, rows, cells, _unit(column)))


def _mean(found: Estimate | None, times: float) -> float | None:
    return None if found is None else times * found.mean


def label_of(row: CombinationRow) -> str:
    """Return the values of a combination; a policy stands for itself, others with the last word of their key."""
    words = [
        value if key.endswith("policy") else f"{key.rpartition('.')[2]} {value}"
        for key, value in row.parameters.items()
    ]
    return ", ".join(words) or "all"


def _policy(row: CombinationRow) -> str:
    return row.parameters.get(POLICY) or row.parameters.get("balancer.policy") or ""


def _column(path: Path, figure: str) -> FigureColumn:
    found = next((column for column in figure_columns() if column.key == figure), None)
    if found is None:
        keys = ", ".join(column.key for column in figure_columns())
        raise _refusal(path, f"there is no figure {figure}", f"choose one of {keys}")
    return found


def _is_ratio(column: FigureColumn) -> bool:
    return any(metric.key == column.key and metric.unit == "ratio" for metric in METRICS)


def _times(column: FigureColumn) -> float:
    return 100.0 if _is_ratio(column) else 1.0


def _unit(column: FigureColumn) -> str:
    """Return the label of an axis: ratios are percentages everywhere."""
    return f"{column.header} (%)" if _is_ratio(column) else column.header


def _refusal(path: Path, happened: str, remedy: str) -> InputError:
    return InputError(f"plot {path}", happened, remedy)
