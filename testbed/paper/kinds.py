"""The kinds of figures, and which of them a run and a sweep have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from testbed.errors import InputError
from testbed.paper import of_run, of_sweep
from testbed.paper.series import FigureData
from testbed.report.sweep_table import SweepTable, tabulate
from testbed.results.recorded_run import RecordedRun
from testbed.results.sweep_file import MANIFEST

OfRun = Callable[[RecordedRun, str | None], FigureData]
OfSweep = Callable[[Path, SweepTable, str], FigureData]
KINDS: Mapping[str, tuple[OfRun | None, OfSweep | None]] = {
    "cdf": (of_run.cdf, of_sweep.cdf),
    "timeline": (of_run.timeline, None),
    "pareto": (None, of_sweep.pareto),
    "bar": (of_run.bar, of_sweep.bar),
    "heatmap": (of_run.heatmap, of_sweep.heatmap),
    "fault": (of_run.fault, None),
}


def is_sweep(path: Path) -> bool:
    """Return whether a directory is that of a sweep."""
    return (path / MANIFEST).exists()


def data_of(path: Path, kind: str, node: str | None = None, figure: str = of_sweep.LOSS) -> FigureData:
    """Return what a figure of a run or sweep shows.

    Args:
        path: the directory of a run or a sweep.
        kind: one of `KINDS`.
        node: of a run, whose figure it is; None: all, or the one with the most drops.
        figure: of a sweep, by its key; see `figure_columns`.

    Raises:
        InputError: no such directory, or it has no figure of that kind.
    """
    of_a_run, of_a_sweep = KINDS[kind]
    if is_sweep(path):
        if of_a_sweep is None:
            raise InputError(f"plot {path}", f"a sweep has no figure of kind {kind}", _offer(path, 1))
        return of_a_sweep(path, tabulate(path), figure)
    run = RecordedRun.open(path)
    if of_a_run is None:
        raise InputError(f"plot {path}", f"a single run has no figure of kind {kind}", _offer(path, 0))
    return of_a_run(run, node)


def _offer(path: Path, place: int) -> str:
    return f"choose --kind {', '.join(kind for kind, both in KINDS.items() if both[place] is not None)}"
