"""`exec`: a command inside a node of a trial under way."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from testbed.commands.app import app


@app.command(
    name="exec",
    epilog="Example: `sudo python -m testbed exec runs/burst-20260101T120000Z-1 n1 -- ip -s link`",
)
def execute(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="directory of a run under way", show_default=False)],
    node: Annotated[str, typer.Argument(metavar="NODE", help="a host of it: n1, c1, b1 …", show_default=False)],
    command: Annotated[list[str], typer.Argument(metavar="-- CMD...", help="the command", show_default=False)],
) -> None:
    """Run a command inside a node of a trial under way; its exit status becomes ours."""
    from testbed.emulation import entering
    from testbed.results.recorded_run import RecordedRun

    raise typer.Exit(entering.execute(RecordedRun.open(run), node, command))
