"""`ps`: the trials under way."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from testbed import output
from testbed.commands.app import app
from testbed.commands.options import AsJson
from testbed.errors import TestbedError
from testbed.results import running
from testbed.results.recorded_run import RecordedRun


@app.command(epilog="Example: `sudo python -m testbed ps`")
def ps(as_json: AsJson = False) -> None:
    """List the trials under way on this machine (root sees those of all users)."""
    rows = [row for found in running.running() if (row := _row(found)) is not None]
    if as_json:
        output.say_json(rows)
    elif not rows:
        output.say("no trial is under way")
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
    output.table_console().print(table)
