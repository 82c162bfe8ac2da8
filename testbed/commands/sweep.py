"""`sweep`: a scenario under all combinations of settings and seeds."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from testbed import output
from testbed.commands.app import app
from testbed.commands.options import AsJson, EngineName, Jobs, PluginFiles, Quiet, Scheduler
from testbed.records.engines import EMULATION


@app.command(epilog="Example: `sudo python -m testbed sweep scenarios/sweeps/policies.yaml`")
def sweep(
    path: Annotated[Path, typer.Argument(metavar="SWEEP", help="sweep file (YAML)", show_default=False)],
    engine: EngineName = EMULATION,
    plugins: PluginFiles = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="DIR", help="output directory; default: runs/sweep-NAME; an interrupted sweep is resumed"
        ),
    ] = None,
    baseline: Annotated[
        list[str] | None,
        typer.Option(
            "--baseline",
            metavar="KEY=VALUE",
            help="baseline with which the other combinations are compared, paired by seed; "
            "overrides the baseline in the sweep file; repeatable",
        ),
    ] = None,
    jobs: Jobs = None,
    scheduler: Scheduler = "",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Run a scenario under all combinations of settings and seeds.

    If a sweep was interrupted, the same command runs the missing trials.
    """
    from testbed.report.sweep_page import answer_of
    from testbed.trials import sweep as sweeping

    result = sweeping.sweep(
        path, out, engine, plugins=plugins or (), baseline=baseline or (), jobs=jobs, scheduler=scheduler,
        quiet=quiet, argv=tuple(sys.argv[1:]),
    )  # fmt: skip
    if as_json:
        output.say_json(result.table.to_record())
    elif not quiet:
        output.say(f"{result.table.text()}\nanswer: {answer_of(result.table)}")
        output.say(f"files: {result.path} (sweep.html, sweep.txt, sweep.json)")
    if result.unsettled:
        output.note(f"{result.unsettled} trials have not been run yet; repeat the command to continue")
    raise typer.Exit(result.exit_code)
