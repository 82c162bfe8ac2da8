"""`plot` and `table`: figures and tables of a run or sweep for papers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from testbed import output
from testbed.commands.app import app
from testbed.errors import InputError
from testbed.system import patience

Directory = Annotated[
    Path, typer.Argument(metavar="RUN|SWEEP", help="directory of the run or sweep", show_default=False)
]
Kind = Literal["cdf", "timeline", "pareto", "bar", "heatmap", "fault"]


@app.command(epilog="Example: `python -m testbed plot runs/sweep-policies --kind pareto -o runs/pareto.pdf`")
def plot(
    path: Directory,
    kind: Annotated[
        Kind,
        typer.Option("--kind", help="kind of figure. Runs: all kinds except pareto. Sweeps: cdf, pareto, bar, heatmap"),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="figure: .pdf, .svg or .png (needs matplotlib)")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="FILE.csv", help="write the data points of the figure; needs no matplotlib"),
    ] = None,
    node: Annotated[
        str | None, typer.Option("--node", help="for a run: node to plot; default: the node with the most drops")
    ] = None,
    figure: Annotated[
        str, typer.Option("--figure", help="for a sweep: metric shown by bar and heatmap")
    ] = "loss_ratio",
    width: Annotated[
        Literal["column", "text", "slide"],
        typer.Option("--width", help="width: column 85 mm, text 178 mm, slide 229 mm"),
    ] = "column",
) -> None:
    """Draw a figure of a run or sweep for a paper, or write its data points."""
    from testbed.files import writing
    from testbed.paper.drawing import draw
    from testbed.paper.kinds import data_of
    from testbed.paper.series import to_csv

    if out is None and data is None:
        raise InputError(f"plot {path}", "no output was given", "add -o FILE.pdf for a figure, or --data FILE.csv")
    with patience.noted(f"reading {path}"):
        shown = data_of(path, kind, node, figure)
    if data is not None:
        output.say(str(writing.replace(data, to_csv(shown), durable=False, elsewhere="choose another --data")))
    if out is not None:
        with patience.noted(f"drawing {out}"):
            drawn = draw(shown, out, width)
        output.say(str(drawn))


@app.command(epilog="Example: `python -m testbed table runs/sweep-policies --format latex`")
def table(
    path: Directory,
    form: Annotated[
        Literal["latex", "markdown", "csv", "json"],
        typer.Option("--format", help="output format; csv and json contain plain numbers in the units of summary.json"),
    ] = "markdown",
    figures: Annotated[
        list[str] | None,
        typer.Option("--figure", metavar="KEY", help="for a sweep: column to show; repeatable; default: all"),
    ] = None,
    differences: Annotated[
        bool,
        typer.Option("--differences", help="for a sweep: paired differences from its baseline instead of the means"),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="output file; default: standard output", show_default=False),
    ] = None,
) -> None:
    """Write the key metrics of a run, or the table of a sweep, for a paper."""
    from testbed.files import writing
    from testbed.paper import tables

    with patience.noted(f"reading {path}"):
        text = tables.table(path, form, figures or (), differences=differences)
    if out is None:
        output.say(text)
    else:
        output.say(str(writing.replace(out, text + "\n", durable=False, elsewhere="choose another -o")))
