"""`clean`: looks for what killed trials left.

A trial leaves nothing behind by construction (`emulation.sandbox`), so this is a proof rather than a broom: it looks
where something could be, ends or removes what it finds and says so.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from testbed import output
from testbed.commands.app import app
from testbed.errors import TestbedError


@app.command(epilog="Example: `sudo python -m testbed clean`")
def clean(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[FOLDER...]", help="directories that contain run directories; default: runs", show_default=False
        ),
    ] = None,
) -> None:
    """Search for leftovers of killed trials and remove them; normally there are none. Results are never changed."""
    from testbed.doctor import as_root
    from testbed.results import running
    from testbed.trials.run import RUNS

    done = [*_end_orphans(), *(line for folder in folders or [RUNS] for line in _remove_torn_files(folder))]
    everybodys = running.all_seen()
    output.say("\n".join(done) if done else f"no leftovers of {'' if everybodys else 'your '}trials were found")
    if not everybodys:
        output.note(f"leftovers of other users' trials are visible only to root; use: {as_root(['clean'])}")


def _end_orphans() -> Iterator[str]:
    from testbed.results import running

    for pid in running.orphans():
        os.kill(pid, signal.SIGKILL)
        yield f"ended process {pid}, which was still running after the end of its trial"


def _remove_torn_files(folder: Path) -> Iterator[str]:
    """Remove new versions of files that a killed run did not finish; the old versions are complete."""
    from testbed.results.recorded_run import RecordedRun

    for torn in sorted(folder.glob("*/.*.new")):
        try:
            killed = RecordedRun.open(torn.parent).status == "killed"
        except TestbedError:
            continue  # no run directory: not ours
        if killed:
            torn.unlink()
            yield f"removed {torn}, an incomplete file of a killed run"
