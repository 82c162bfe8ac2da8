"""`export`: a finished run for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from testbed import output
from testbed.commands.app import app
from testbed.errors import InputError
from testbed.system import patience

if TYPE_CHECKING:
    from testbed.results.recorded_run import RecordedRun


@app.command(
    epilog="Examples:\n\n"
    "`python -m testbed export runs/burst-20260101T120000Z-1 --openmetrics -o runs/burst.om`, then "
    "`promtool tsdb create-blocks-from openmetrics runs/burst.om data` and "
    "`prometheus --storage.tsdb.path=data --storage.tsdb.retention.time=10y`\n\n"
    "`python -m testbed export runs/burst-20260101T120000Z-1 --flows -o flows.csv`"
)
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="run directory", show_default=False)],
    openmetrics: Annotated[
        bool, typer.Option("--openmetrics", help="OpenMetrics text with timestamps, for backfilling Prometheus")
    ] = False,
    flows: Annotated[
        bool, typer.Option("--flows", help="a row for each flow; the run must have been made with --packets")
    ] = False,
    packets: Annotated[
        bool,
        typer.Option("--packets", help="a row for each planned packet; the run must have been made with --packets"),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            metavar="FILE",
            help="output file; default: standard output. Flows and packets are written as Parquet to a file that ends "
            "with .parquet, and as CSV otherwise",
        ),
    ] = None,
) -> None:
    """Export a finished run at full time resolution for other programs."""
    chosen = [name for name, given in (("openmetrics", openmetrics), ("flows", flows), ("packets", packets)) if given]
    if len(chosen) != 1:
        happened = f"{' and '.join(chosen)} exclude each other" if chosen else "no format was given"
        raise InputError("export a run", happened, "give one of --openmetrics, --flows and --packets")
    from testbed.results.recorded_run import RecordedRun

    found = RecordedRun.open(run)
    with patience.noted(f"exporting {run}"):
        if openmetrics:
            _write_metrics(found, out)
        else:
            _write_table(found, chosen[0], out)
    if out is not None:
        output.say(out)


def _write_metrics(run: RecordedRun, out: Path | None) -> None:
    from testbed.files import writing
    from testbed.openmetrics import history

    if out is None:
        for text in history.exposition(run):
            output.say(text.removesuffix("\n"))
        return
    writing.replace(
        out,
        lambda file: file.writelines(text.encode() for text in history.exposition(run)),
        elsewhere="choose another --out",
    )


def _write_table(run: RecordedRun, which: str, out: Path | None) -> None:
    from testbed.files import tables, writing

    table = run.flows() if which == "flows" else run.packets()
    if out is None:
        for text in tables.csv_texts(table):
            output.say(text.removesuffix("\n"))
    elif out.suffix == ".parquet":
        tables.write_parquet(table, out)
    else:

        def into(file: BinaryIO) -> None:
            file.writelines(text.encode() for text in tables.csv_texts(table))

        writing.replace(out, into, elsewhere="choose another --out")
