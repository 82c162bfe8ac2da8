"""`claims`: the statements of a study, tested."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from testbed import output
from testbed.commands.app import app
from testbed.commands.options import AsJson, EngineName, Jobs, JunitFile, Quiet, Scheduler
from testbed.errors import EXIT_INTERRUPTED
from testbed.records.engines import EMULATION


@app.command(epilog="Example: `python -m testbed claims --quick --engine simulation`")
def claims(
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="[FILE...]", help="claim files; default: scenarios/claims/*.yaml")
    ] = None,
    engine: EngineName = EMULATION,
    quick: Annotated[
        bool, typer.Option("--quick", help="fewer seeds and shorter runs, as defined in each claim")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="DIR", help="output directory; default: runs/claims; an interrupted call is resumed"
        ),
    ] = None,
    jobs: Jobs = None,
    scheduler: Scheduler = "",
    junit: JunitFile = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Test claims (hypotheses): each is confirmed, rejected or undecided.

    The exit code is 1 if a result differs from the expected one.
    """
    from testbed.report import claims as outcomes
    from testbed.report import junit_cases
    from testbed.report.junit import reported
    from testbed.trials import claims as testing

    chosen = files or testing.default_claims()
    with reported(junit, "claims") as suites:
        result = testing.claims(
            chosen, out, engine, quick=quick, jobs=jobs, scheduler=scheduler, quiet=quiet, argv=tuple(sys.argv[1:])
        )
        interrupted = result.exit_code == EXIT_INTERRUPTED
        suites.append(junit_cases.suite_of_claims(result.outcomes, engine, interrupted=interrupted))
    if as_json:
        output.say_json([one.to_record() for one in result.outcomes])
    elif not quiet:
        output.say(f"{outcomes.markdown(result.outcomes)}\nfiles: {result.path} (claims.html, claims.md, claims.json)")
    raise typer.Exit(result.exit_code)
