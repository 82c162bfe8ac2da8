"""`compare`: runs of one scenario and seed side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from testbed import output
from testbed.commands.app import app
from testbed.commands.options import AsJson
from testbed.system import patience


@app.command(epilog="Example: `python -m testbed compare runs/burst-lstm runs/burst-reactive`")
def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN RUN...", help="run directories", show_default=False)],
    page: Annotated[
        Path | None,
        typer.Option("--page", metavar="FILE.html", help="write the comparison as a page, too"),
    ] = None,
    allow_different: Annotated[
        bool, typer.Option("--allow-different", help="compare although scenario, seed or traffic differ")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compare runs of one scenario and seed."""
    from testbed.report import compare as comparing
    from testbed.report.compare_page import write_compare_page

    with patience.noted(f"comparing {len(runs)} runs"):
        comparison = comparing.compare(runs, allow_different=allow_different)
    if as_json:
        output.say_json(comparison.to_record())
    else:
        output.say(comparison.text())
    if page is not None:
        with patience.noted("writing the page"):
            written = write_compare_page(comparison, page)
        output.note(f"page: {written}")
