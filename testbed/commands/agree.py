"""`agree`: sweeps in both engines, and whether they say the same."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from testbed import output
from testbed.commands.app import app
from testbed.commands.options import AsJson, Jobs, Quiet


@app.command(epilog="Example: `sudo python -m testbed agree scenarios/sweeps/agreement-single.yaml`")
def agree(
    sweeps: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[SWEEP...]", help="sweep files; default scenarios/sweeps/agreement*.yaml"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="DIR", help="output directory; default: runs/agreement; an interrupted call is resumed"
        ),
    ] = None,
    jobs: Jobs = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Run sweeps in both engines and report which results agree.

    If it was interrupted, the same command runs the missing trials.
    """
    from testbed.report import agreement
    from testbed.trials import agree as agreeing

    result = agreeing.agree(sweeps or agreeing.default_sweeps(), out, jobs=jobs, quiet=quiet, argv=tuple(sys.argv[1:]))
    if as_json:
        output.say_json(agreement.to_record(result.judgements))
    elif not quiet:
        output.say(f"{agreement.text(result.judgements)}\nfiles: {result.path} (agreement.html, agreement.json)")
    raise typer.Exit(result.exit_code)
