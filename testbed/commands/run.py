"""`run` and `simulate`: one trial, or several of one scenario and seed."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from testbed import output
from testbed.commands.app import app
from testbed.commands.options import (
    AsJson,
    EngineName,
    OutDirectory,
    Overwrite,
    PluginFiles,
    Quiet,
    ScenarioPath,
    Seed,
    Settings,
)
from testbed.errors import EXIT_OK
from testbed.records.engines import EMULATION, SIMULATION


@app.command(
    epilog="Examples:\n\n"
    "`sudo python -m testbed run scenarios/burst.yaml`\n\n"
    "`sudo python -m testbed run scenarios/burst.yaml --set buffer.policy=static-min --seed 7 --json`"
)
def run(
    scenario: ScenarioPath,
    seed: Seed = None,
    settings: Settings = None,
    plugins: PluginFiles = None,
    engine: EngineName = EMULATION,
    out: OutDirectory = None,
    overwrite: Overwrite = False,
    repeat: Annotated[
        int,
        typer.Option("--repeat", min=1, metavar="N", help="number of trials, one after the other, in DIR/1 to DIR/N"),
    ] = 1,
    no_live: Annotated[bool, typer.Option("--no-live", help="no live view")] = False,
    metrics: Annotated[
        str,
        typer.Option(
            "--metrics",
            metavar="ADDRESS",
            help="serve OpenMetrics while the trial runs, such as 127.0.0.1:9464 or unix:/run/testbed.sock",
        ),
    ] = "",
    restart: Annotated[
        bool,
        typer.Option("--restart", help="start processes that die anew, and name them in the verdict (emulation)"),
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Run one trial: emulated on the real kernel (needs root), or simulated in virtual time."""
    options = (engine, out, overwrite, repeat, not no_live, as_json, quiet, metrics, restart)
    _run_trials(scenario, seed, settings, plugins, *options)


@app.command(epilog="Example: `python -m testbed simulate scenarios/burst.yaml --set buffer.policy=reactive`")
def simulate(
    scenario: ScenarioPath,
    seed: Seed = None,
    settings: Settings = None,
    plugins: PluginFiles = None,
    out: OutDirectory = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Run one trial in virtual time: the same scenario, traffic and policies, no root, no kernel features."""
    _run_trials(scenario, seed, settings, plugins, SIMULATION, out, overwrite, 1, False, as_json, quiet)


def _run_trials(
    scenario: Path,
    seed: int | None,
    settings: list[str] | None,
    plugins: list[Path] | None,
    engine: str,
    out: Path | None,
    overwrite: bool,
    repeat: int,
    live: bool,
    as_json: bool,
    quiet: bool,
    metrics: str = "",
    restart: bool = False,
) -> NoReturn:
    from testbed.records.phases import set_up_lines
    from testbed.report.terminal import print_verdict
    from testbed.scenario.loading import load
    from testbed.trials import run as trials

    options = trials.RunOptions(engine, out, live, quiet, tuple(sys.argv[1:]), overwrite, metrics, restart)
    results = []
    for result in trials.repeated(load(scenario, settings or (), seed, plugins or ()), options, repeat):
        results.append(result)
        if not quiet:
            print_verdict(result.summary, result.path, output.console(stderr=as_json))
        if os.environ.get("TESTBED_DEBUG"):
            for line in set_up_lines(result.manifest.get("setup", {})):
                output.note(line)
    if as_json:
        output.say_json(results[0].summary if repeat == 1 else [result.summary for result in results])
    raise typer.Exit(next((result.exit_code for result in results if result.exit_code), EXIT_OK))
