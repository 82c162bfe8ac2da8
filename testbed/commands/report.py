"""`report`: rebuilds the HTML page of a run."""

from __future__ import annotations

from testbed import output
from testbed.commands.app import app
from testbed.commands.options import Runs
from testbed.system import patience


@app.command(epilog="Example: `python -m testbed report runs/burst-*`")
def report(runs: Runs) -> None:
    """Rebuild the HTML report of runs. Also works for interrupted and killed runs."""
    from testbed.report.page import write_page

    for path in runs:
        with patience.noted(f"writing the page of {path}"):
            page = write_page(path)
        output.say(page)
