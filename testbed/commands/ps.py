"""`ps`: the running trials."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table

from testbed import output
from testbed.commands.app import app
from testbed.commands.options import AsJson
from testbed.errors import TestbedError

if TYPE_CHECKING:
    from testbed.results.running import RunningRun


@app.command(epilog="Example: `sudo python -m testbed ps`")
def ps(as_json: AsJson = False) -> None:
    """List the running trials on this machine (root sees the trials of all users)."""
    from testbed.results import running

    rows = [row for found in running.running() if (row := _row(found)) is not None]
    everybodys = running.all_seen()
    if as_json:
        output.say_json(rows)
    elif rows:
        _print(rows)
    else:
        output.say("no trial is running" if everybodys else "none of your trials is running")
    if not everybodys:
        output.note(_of_others(running.unseen()))


def _of_others(pids: list[int]) -> str:
    """Return the note about the trials of other users."""
    from testbed.doctor import as_root

    seen = f" (some seem to be running: process {', '.join(map(str, pids))})" if pids else ""
    return f"trials of other users are visible only to root{seen}; use: {as_root(['ps'])}"


def _row(found: RunningRun) -> dict[str, Any] | None:
    from testbed.results.recorded_run import RecordedRun

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
    output.table_console().print(table)
