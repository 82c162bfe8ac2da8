"""`run` and `simulate`: one trial, or several of one scenario and seed."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from testbed import output
from testbed.commands.app import app
from testbed.commands.options import (
    AsJson,
    EngineName,
    Jobs,
    JunitFile,
    OutDirectory,
    Overwrite,
    Packets,
    PluginFiles,
    Quiet,
    ScenarioPath,
    Seed,
    Settings,
    recording,
)
from testbed.errors import EXIT_OK, InputError
from testbed.records.engines import EMULATION, SIMULATION

if TYPE_CHECKING:
    from testbed.report.junit import Suite


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
        typer.Option("--repeat", min=1, metavar="N", help="number of trials, in DIR/1 to DIR/N"),
    ] = 1,
    jobs: Jobs = None,
    no_live: Annotated[bool, typer.Option("--no-live", help="do not show the live view")] = False,
    metrics: Annotated[
        str,
        typer.Option(
            "--metrics",
            metavar="ADDRESS",
            help="serve OpenMetrics at this address during the trial, such as 127.0.0.1:9464 or unix:/run/testbed.sock",
        ),
    ] = "",
    restart: Annotated[
        bool,
        typer.Option("--restart", help="restart processes that die, and name them in the verdict (emulation only)"),
    ] = False,
    packets: Packets = False,
    junit: JunitFile = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Run one trial: emulated on the real kernel (needs root), or simulated in virtual time."""
    options = (engine, out, overwrite, repeat, not no_live, as_json, quiet, junit, metrics, restart, jobs)
    _run_trials(scenario, seed, recording(settings, packets), plugins, *options)


@app.command(epilog="Example: `python -m testbed simulate scenarios/burst.yaml --set buffer.policy=reactive`")
def simulate(
    scenario: ScenarioPath,
    seed: Seed = None,
    settings: Settings = None,
    plugins: PluginFiles = None,
    out: OutDirectory = None,
    overwrite: Overwrite = False,
    packets: Packets = False,
    junit: JunitFile = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Run one trial in virtual time: the same scenario, traffic and policies, no root, no kernel features."""
    settings = recording(settings, packets)
    _run_trials(scenario, seed, settings, plugins, SIMULATION, out, overwrite, 1, False, as_json, quiet, junit)


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
    report: Path | None,
    metrics: str = "",
    restart: bool = False,
    jobs: int | None = None,
) -> NoReturn:
    from testbed.records.phases import set_up_lines
    from testbed.report.junit import reported
    from testbed.report.terminal import print_verdict
    from testbed.scenario.loading import load
    from testbed.trials import run as trials
    from testbed.trials.process import jobs_for
    from testbed.trials.repeating import repeated

    _refuse_within(report, out if repeat == 1 else None)
    options = trials.RunOptions(engine, out, live, quiet, tuple(sys.argv[1:]), overwrite, metrics, restart)
    words = _words_of_one(scenario, seed, settings or (), plugins or (), engine, overwrite)
    results = []
    with reported(report, scenario.stem) as suites:
        at_a_time = jobs_for(engine, jobs)
        for result in repeated(load(scenario, settings or (), seed, plugins or ()), options, repeat, at_a_time, words):
            results.append(result)
            suites.extend(_suites_of(result.path) if report else [])
            if not quiet:
                print_verdict(result.summary, result.path, output.console(stderr=as_json))
            if os.environ.get("TESTBED_DEBUG"):
                for line in set_up_lines(result.manifest.get("setup", {})):
                    output.note(line)
    if as_json:
        output.say_json(results[0].summary if repeat == 1 else [result.summary for result in results])
    raise typer.Exit(next((result.exit_code for result in results if result.exit_code), EXIT_OK))


def _refuse_within(report: Path | None, out: Path | None) -> None:
    """Refuse a report in the run directory, which is made anew: the report is there before it."""
    if report is not None and out is not None and Path(os.path.abspath(out)) in Path(os.path.abspath(report)).parents:
        raise InputError(f"--junit {report}", f"it would lie in the run directory {out}", "name a file beside it")


def _suites_of(run: Path) -> list[Suite]:
    from testbed.report import junit_cases  # after the trial: nothing may delay it

    return junit_cases.suites_of([run])


def _words_of_one(
    scenario: Path,
    seed: int | None,
    settings: Sequence[str],
    plugins: Sequence[Path],
    engine: str,
    overwrite: bool,
) -> tuple[str, ...]:
    """Return the words that make one of the trials, but for where it goes."""
    numbers = ("--seed", str(seed)) if seed is not None else ()
    changes = [word for setting in settings for word in ("--set", setting)]
    files = [word for plugin in plugins for word in ("--plugin", str(plugin))]
    again = ("--overwrite",) if overwrite else ()
    return ("run", *numbers, *changes, *files, "--engine", engine, *again, str(scenario))
