"""`doctor`: what this machine offers and lacks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from testbed import output
from testbed.commands.app import app
from testbed.commands.options import AsJson
from testbed.errors import EXIT_MACHINE_LACKS, EXIT_OK

if TYPE_CHECKING:
    from testbed.doctor import Finding

_STYLES = {"ok": "green", "limited": "yellow", "missing": "bold red"}


@app.command(epilog="Example: `python -m testbed doctor scenarios/burst.yaml`")
def doctor(
    scenario: Annotated[Path | None, typer.Argument(metavar="[SCENARIO]", help="check what this one needs")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what this machine offers and lacks, and how to fix it."""
    from testbed import doctor as machine
    from testbed.scenario.loading import load

    findings = machine.diagnose(None if scenario is None else load(scenario).scenario)
    if as_json:
        output.say_json(machine.to_record(findings))
    else:
        _print(findings)
    raise typer.Exit(EXIT_MACHINE_LACKS if machine.worst(findings) == "missing" else EXIT_OK)


def _print(findings: list[Finding]) -> None:
    console = output.console()
    for finding in findings:
        status = (f"{finding.status:8}", _STYLES[finding.status])
        console.print(Text.assemble(status, f" {finding.name}: {finding.detail}"), soft_wrap=True)
        if finding.remedy:
            console.print(f"         → {finding.remedy}", soft_wrap=True)
