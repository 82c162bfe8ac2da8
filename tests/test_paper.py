"""Figures and tables for papers: the numbers behind them, files that are the same from the same run, and refusals."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
from pathlib import Path

import pytest

from testbed.commands.plot import plot
from testbed.errors import InputError, MachineError
from testbed.paper import drawing, tables
from testbed.paper.drawing import draw
from testbed.paper.kinds import KINDS, data_of
from testbed.paper.series import FigureData, Grid, Series, to_csv
from testbed.report.written import figure
from testbed.results.recorded_run import RecordedRun
from tests import synthetic_run

OF_A_RUN = [kind for kind, (of_a_run, _) in KINDS.items() if of_a_run is not None and kind != "fault"]


@pytest.fixture(scope="module")
def run_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("paper") / "run"
    synthetic_run.write(synthetic_run.make(synthetic_run.facts("static-min", seconds=4)), path)
    return path


def rows_of(data: FigureData) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(to_csv(data))))


@pytest.mark.parametrize("kind", OF_A_RUN)
@pytest.mark.parametrize("form", drawing.FORMATS)
def test_the_same_run_gives_the_same_file(run_path: Path, tmp_path: Path, kind: str, form: str) -> None:
    pytest.importorskip("matplotlib")
    contents = [draw(data_of(run_path, kind), tmp_path / f"{k}.{form}").read_bytes() for k in range(2)]
    assert contents[0] == contents[1]
    assert contents[0][:4] in (b"%PDF", b"\x89PNG", b"<?xm")
    assert form != "pdf" or b"/FontFile2" in contents[0]  # TrueType, embedded


def test_the_numbers_of_a_figure_are_those_of_the_run(run_path: Path) -> None:
    summary = RecordedRun.open(run_path).document("summary.json") or {}
    lost = {row["x"]: float(row["y"]) for row in rows_of(data_of(run_path, "bar"))}
    dropped, sent = figure(summary, "traffic.dropped_packets.buffer"), figure(summary, "traffic.sent_packets")
    assert dropped > 0
    assert lost["buffer"] == pytest.approx(100 * dropped / sent)
    shares = [float(row["y"]) for row in rows_of(data_of(run_path, "cdf", "n1"))]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, pytest.approx(100.0))
    drops = [float(row["y"]) for row in rows_of(data_of(run_path, "timeline", "n1")) if row["series"] == "drops"]
    assert sum(drops) == RecordedRun.open(run_path).samples_by_node()["n1"].dropped_pkts.sum()


def test_a_grid_is_written_cell_by_cell() -> None:
    grid = Grid(["1ms", "2ms"], ["a", "b"], [[1.0, 2.0], [3.0, None]], "loss (%)")
    lines = to_csv(FigureData("heatmap", "delay", ["policy"], grid=grid)).splitlines()
    assert lines == ["row,delay,loss (%)", "a,1ms,1.0", "a,2ms,2.0", "b,1ms,3.0", "b,2ms,"]


@pytest.mark.parametrize(
    ("kind", "node", "said"),
    [
        ("pareto", None, "choose --kind cdf, timeline"),
        ("timeline", "n9", "choose one of n1, n2"),
        ("fault", None, "no fault"),
    ],
)
def test_what_a_run_cannot_show_is_refused(run_path: Path, kind: str, node: str | None, said: str) -> None:
    with pytest.raises(InputError, match=said):
        data_of(run_path, kind, node)


def test_another_ending_and_nothing_to_write_are_refused(run_path: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"use a file name ending in \.pdf"):
        draw(data_of(run_path, "bar"), tmp_path / "figure.gif")
    with pytest.raises(InputError, match="no output was given"):
        plot(run_path, "bar")


def test_without_matplotlib_the_numbers_can_be_had(
    run_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MachineError, match="matplotlib is not installed.*or --data"):
        draw(data_of(run_path, "bar"), tmp_path / "figure.pdf")
    plot(run_path, "bar", data=tmp_path / "figure.csv")
    assert (tmp_path / "figure.csv").read_text().startswith("series,")


def test_a_table_has_each_format(run_path: Path) -> None:
    latex = tables.table(run_path, "latex")
    assert latex.startswith("\\begin{tabular}{llr}")
    assert r"MB$\cdot$s" in latex
    assert r"\%" in latex
    assert tables.table(run_path, "markdown").splitlines()[1] == "| --- | --- | --- |"
    numbers = json.loads(tables.table(run_path, "json"))
    assert {row["unit"] for row in numbers if row["figure"] == "buffer.loss_ratio"} == {"ratio"}
    assert len(list(csv.DictReader(io.StringIO(tables.table(run_path, "csv"))))) == len(numbers)


def test_letters_that_mean_something_to_latex_are_escaped() -> None:
    row = tables._row(["a_b & 5 %", "\\x", "1 ± 2"])
    assert row == r"a\_b \& 5 \% & \textbackslash{}x & 1 $\pm$ 2 \\"


def test_intervals_are_in_the_numbers() -> None:
    series = Series("a", [1.0], [2.0], [1.5], [2.5], [0.9], [1.1])
    (row,) = rows_of(FigureData("pareto", "x", ["y"], [series]))
    assert [row[key] for key in ("y_low", "y_high", "x_low", "x_high")] == ["1.5", "2.5", "0.9", "1.1"]
