"""`logs`: what the daemons and processes of a trial wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from testbed import output
from testbed.commands.app import app
from testbed.errors import InputError

_MOST_BYTES = 64 * 10**6


@app.command(epilog="Example: `python -m testbed logs runs/burst-20260101T120000Z-1 --lines 5`")
def logs(
    run: Annotated[
        Path | None,
        typer.Argument(
            metavar="[RUN]", help="run directory; may be omitted if exactly one trial is running", show_default=False
        ),
    ] = None,
    lines: Annotated[
        int, typer.Option("--lines", min=0, metavar="N", help="show the last N lines of each log file; 0: all lines")
    ] = 20,
) -> None:
    """Show what a run's switch, controllers, senders and agents wrote to logs/."""
    from testbed.files.reading import Source
    from testbed.results.recorded_run import RecordedRun
    from testbed.results.running import only_one

    found = RecordedRun.open(run or only_one("logs"))
    files = sorted(path for path in (found.path / "logs").glob("*") if path.is_file() and not path.is_symlink())
    if not files:
        raise InputError(f"logs {found.path}", "it has no logs", "only emulated runs have logs")
    for path in files:
        text = Source(path, "give another run", follow=False).read(_MOST_BYTES).decode(errors="replace")
        output.say(f"==> {path.relative_to(found.path)} <==")
        for line in text.splitlines()[-lines:]:
            output.say(line)
