"""`watch`: a running or finished run in the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from testbed import output
from testbed.commands.app import app

PERIOD_S = 0.5


@app.command(epilog="Example: `python -m testbed watch runs/burst-20260101T120000Z-1`")
def watch(
    run: Annotated[
        Path | None,
        typer.Argument(
            metavar="[RUN]", help="run directory; may be omitted if exactly one trial is running", show_default=False
        ),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="show the current state once and exit")] = False,
) -> None:
    """Show nodes, queues, faults and failovers of a running trial. Ends when the trial ends or when you press q.

    Keys: n and p select the next and the previous node, Esc none, q ends.
    """
    from rich.live import Live

    from testbed.report.watch import Watch
    from testbed.results.recorded_run import RecordedRun
    from testbed.results.running import only_one
    from testbed.system.keys import keys

    watched = Watch(RecordedRun.open(run or only_one("watch")))
    watched.read()
    console = output.console()
    if once or not console.is_terminal:
        console.print(watched.drawn())
        return
    selected: str | None = None
    with keys() as next_key, Live(watched.drawn(), console=console, auto_refresh=False) as live:
        while not watched.over:
            key = next_key(PERIOD_S)
            if key == "q":
                return
            selected = _selected(watched.nodes, selected, key)
            if not key:
                watched.read()
            live.update(watched.drawn(selected), refresh=True)


def _selected(nodes: list[str], selected: str | None, key: str) -> str | None:
    """Return the node that is selected after a key."""
    if key == "\x1b":
        return None
    if key not in ("n", "p") or not nodes:
        return selected
    if selected not in nodes:
        return nodes[0 if key == "n" else -1]
    return nodes[(nodes.index(selected) + (1 if key == "n" else -1)) % len(nodes)]
