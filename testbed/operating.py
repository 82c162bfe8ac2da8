"""The verbs for trials under way: `ps`, `exec`, `clean`.

A trial leaves nothing behind by construction (`emulation.sandbox`), so `clean` is a proof rather than a broom: it looks
where something could be, ends or removes what it finds and says so.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Optional

import typer
from rich.console import Console
from rich.table import Table

from testbed.errors import TestbedError
from testbed.results import running
from testbed.results.recorded_run import RecordedRun

verbs = typer.Typer()


@verbs.command(epilog="Example: `sudo python -m testbed ps`")
def ps(
    as_json: Annotated[bool, typer.Option("--json", help="machine-readable result on standard output")] = False,
) -> None:
    """List the trials under way on this machine (root sees those of all users)."""
    rows = [row for found in running.running() if (row := _row(found)) is not None]
    if as_json:
        print(json.dumps(rows, indent=2))
    elif not rows:
        print("no trial is under way")
    else:
        _print(rows)


def _row(found: running.RunningRun) -> dict[str, Any] | None:
    try:
        run = RecordedRun.open(found.path)
        facts = run.facts
    except TestbedError:
        return None  # its directory is being written, or was removed under it
    return {
        "pid": found.pid,
        "run": str(found.path),
        "scenario": facts.scenario,
        "engine": facts.engine,
        "seed": facts.seed,
        "buffer": facts.buffer_policy,
        "nodes": len(facts.node_rate_bps),
        "started_utc": run.manifest.get("started_utc"),
    }


def _print(rows: list[dict[str, Any]]) -> None:
    table = Table(box=None, pad_edge=False)
    for header in rows[0]:
        table.add_column(header, justify="right" if header in ("pid", "seed", "nodes") else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(str(cell) for cell in row.values()))
    Console(width=None if sys.stdout.isatty() else 200).print(table)


@verbs.command(
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

    raise typer.Exit(entering.execute(RecordedRun.open(run), node, command))


@verbs.command(epilog="Example: `sudo python -m testbed clean`")
def clean(
    folders: Annotated[
        Optional[list[Path]],  # noqa: UP045
        typer.Argument(metavar="[FOLDER...]", help="where run directories lie; default: runs", show_default=False),
    ] = None,
) -> None:
    """Look for what killed trials left, and remove it; there should be nothing.  Results are never touched."""
    from testbed.run import RUNS

    done = [*_end_orphans(), *(line for folder in folders or [RUNS] for line in _remove_torn_files(folder))]
    print("\n".join(done) if done else "nothing was left")


def _end_orphans() -> Iterator[str]:
    for pid in running.orphans():
        os.kill(pid, signal.SIGKILL)
        yield f"ended process {pid}, which had outlived its trial"


def _remove_torn_files(folder: Path) -> Iterator[str]:
    """Remove files that a killed run was about to put in place of a former version, which is whole."""
    for torn in sorted(folder.glob("*/.*.new")):
        try:
            killed = RecordedRun.open(torn.parent).status == "killed"
        except TestbedError:
            continue  # no run directory: not ours
        if killed:
            torn.unlink()
            yield f"removed {torn}, half written when its run was killed"
