"""`validate`: what is wrong with scenario and sweep files, and where."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from testbed import output
from testbed.commands.app import app
from testbed.commands.options import Settings
from testbed.errors import EXIT_OK, TestbedError


@app.command(epilog="Example: `python -m testbed validate scenarios/*.yaml`")
def validate(
    scenarios: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="scenario or sweep files", show_default=False)
    ],
    settings: Settings = None,
    schema: Annotated[bool, typer.Option("--schema", help="print the JSON schema of scenario files")] = False,
) -> None:
    """Check scenario and sweep files; says what is wrong, and where."""
    from testbed.spec import loading

    if schema:
        output.say_json(loading.schema())
        return
    worst = EXIT_OK
    for path in scenarios:
        try:
            found = _checked(path, settings or [])
        except TestbedError as error:
            worst = error.exit_code
            output.note(error)
        else:
            output.say(f"{path}: fine ({found})")
    raise typer.Exit(worst)


def _checked(path: Path, settings: list[str]) -> str:
    """Return what a file holds that nothing is wrong with."""
    from testbed import run as trials
    from testbed.spec import loading
    from testbed.sweep import checked

    if loading.names_a_sweep(path):
        return f"a sweep of {len(checked(path).trials)} trials"
    loaded = loading.load(path, settings)
    trials.check(loaded)
    for line in trials.check_traces(loaded):
        output.note(line)
    return f"{loaded.scenario.name}, {loaded.scenario.topology.nodes} nodes"
