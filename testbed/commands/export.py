"""`export`: a finished run for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from testbed import output
from testbed.commands.app import app
from testbed.errors import InputError
from testbed.system import patience


@app.command(
    epilog="Example: `python -m testbed export runs/burst-20260101T120000Z-1 --openmetrics -o runs/burst.om`\n\n"
    "Then: `promtool tsdb create-blocks-from openmetrics runs/burst.om data` and `prometheus --storage.tsdb.path=data "
    "--storage.tsdb.retention.time=10y`"
)
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="run directory", show_default=False)],
    openmetrics: Annotated[
        bool, typer.Option("--openmetrics", help="OpenMetrics text with timestamps, for backfilling Prometheus")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="FILE", help="output file; default: standard output")
    ] = None,
) -> None:
    """Export a finished run at full time resolution for other programs."""
    if not openmetrics:
        raise InputError("export a run", "no format was given", "add --openmetrics, the only format")
    from testbed.files import writing
    from testbed.openmetrics import history
    from testbed.results.recorded_run import RecordedRun

    found = RecordedRun.open(run)
    with patience.noted(f"exporting {run}"):
        if out is None:
            for text in history.exposition(found):
                output.say(text.removesuffix("\n"))
            return
        writing.replace(
            out,
            lambda file: file.writelines(text.encode() for text in history.exposition(found)),
            elsewhere="choose another --out",
        )
    output.say(out)
