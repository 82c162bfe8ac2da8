"""`doctor`: what this machine offers and lacks, and what a scenario will come to on it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from testbed import output
from testbed.commands.app import app
from testbed.commands.options import AsJson, PluginFiles, Settings
from testbed.errors import EXIT_MACHINE_LACKS, EXIT_OK, ToolError

if TYPE_CHECKING:
    from testbed.capacity.foresight import Foresight
    from testbed.doctor import Finding
    from testbed.scenario.loading import LoadedScenario

_STYLES = {"ok": "green", "limited": "yellow", "missing": "bold red"}


@app.command(
    epilog="Examples:\n\n`python -m testbed doctor`\n\n`sudo python -m testbed doctor scenarios/burst.yaml --json`\n\n"
    "`sudo python -m testbed doctor scenarios/burst.yaml --set topology.nodes=30`"
)
def doctor(
    scenario: Annotated[
        Path | None,
        typer.Argument(
            metavar="[SCENARIO]",
            help="scenario to check: test its requirements, and predict its verdict by measurements on this machine",
        ),
    ] = None,
    settings: Settings = None,
    plugins: PluginFiles = None,
    as_json: AsJson = False,
) -> None:
    """Show what this machine offers and lacks, and how to fix problems.

    For a scenario, also predict the verdict on this machine.

    That needs root and takes up to 10 s: small trials of the scenario run, and their costs are measured.
    """
    from testbed import doctor as machine
    from testbed.scenario.loading import load

    loaded = None if scenario is None else load(scenario, settings or (), plugins=plugins or ())
    findings = machine.diagnose(None if loaded is None else loaded.scenario)
    seen = None
    if loaded is not None and machine.worst(findings) != "missing":
        output.note("measuring this machine …")
        try:
            seen = _foreseen(loaded)
            findings.append(machine.capacity(seen))
        except ToolError as error:  # a machine as busy as that has other findings all the same
            findings.append(machine.unmeasured(error))
    if as_json:
        output.say_json(_record(findings, seen))
    else:
        _print(findings, seen)
    raise typer.Exit(EXIT_MACHINE_LACKS if machine.worst(findings) == "missing" else EXIT_OK)


def _foreseen(loaded: LoadedScenario) -> Foresight:
    """Return the prediction for the scenario; an invalid scenario is an error."""
    from testbed.capacity import foresight
    from testbed.records.engines import EMULATION
    from testbed.trials import checks

    network, plan = checks.planned(loaded, EMULATION)
    return foresight.foresee(loaded.scenario, network, plan)


def _record(findings: list[Finding], seen: Foresight | None) -> dict[str, Any]:
    from testbed import doctor as machine

    return {**machine.to_record(findings), **({} if seen is None else {"capacity": seen.to_record()})}


def _print(findings: list[Finding], seen: Foresight | None) -> None:
    from testbed.capacity.foresight import machine_lines

    console = output.console()
    for finding in findings:
        status = (f"{finding.status:8}", _STYLES[finding.status])
        console.print(Text.assemble(status, f" {finding.name}: {finding.detail}"), soft_wrap=True)
        if finding.remedy:
            console.print(f"         → {finding.remedy}", soft_wrap=True)
    for line in machine_lines(seen) if seen is not None else ():
        console.print(f"         {line}", soft_wrap=True)
