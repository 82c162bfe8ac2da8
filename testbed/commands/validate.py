"""`validate`: what is wrong with scenario and sweep files, and where."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from testbed import output
from testbed.commands.app import app
from testbed.commands.options import EngineName, PluginConsent, PluginFiles, Settings
from testbed.errors import EXIT_OK, TestbedError
from testbed.records.engines import EMULATION
from testbed.system import patience


@app.command(epilog="Example: `python -m testbed validate scenarios/*.yaml`")
def validate(
    scenarios: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="scenario or sweep files", show_default=False)
    ],
    settings: Settings = None,
    engine: EngineName = EMULATION,
    plugins: PluginFiles = None,
    consent: PluginConsent = "refuse",
    show_all: Annotated[bool, typer.Option("--all", help="show everything that is wrong, not the first few")] = False,
    schema: Annotated[bool, typer.Option("--schema", help="print the JSON schema of scenario files")] = False,
) -> None:
    """Check scenario and sweep files; says what is wrong, and where."""
    from testbed.scenario import loading
    from testbed.scenario.plugins import executing_none

    if schema:
        output.say_json(loading.schema())
        return
    worst = EXIT_OK
    for path in scenarios:
        try:
            with executing_none(consent == "refuse"), patience.noted(f"checking {path}"):
                found = _checked(path, settings or [], plugins or [], engine)
        except TestbedError as error:
            worst = error.exit_code
            output.note(_text(error, show_all))
        else:
            output.say(f"{path}: fine ({found})")
    raise typer.Exit(worst)


def _checked(path: Path, settings: list[str], plugins: list[Path], engine: str) -> str:
    """Return what a file holds that nothing is wrong with."""
    from testbed.scenario import loading
    from testbed.trials import checks
    from testbed.trials.sweep import checked

    if loading.names_a_sweep(path):
        return f"a sweep of {len(checked(path, engine, output.note).trials)} trials"
    loaded = loading.load(path, settings, plugins=plugins)
    for line in checks.check(loaded, engine):
        output.note(line)
    return f"{loaded.scenario.name}, {loaded.scenario.topology.nodes} nodes"


def _text(error: TestbedError, whole: bool) -> str:
    """Return what an error says: the first lines of it, and how to see the others, or all it knows of."""
    from testbed.scenario.loading import MAX_LINES, ScenarioRefused

    if not isinstance(error, ScenarioRefused) or len(error.lines) <= MAX_LINES:
        return str(error)
    if not whole:
        return f"{error}; `validate --all` shows them"
    return "\n".join([*error.lines, *([f"and {error.more:,} more"] if error.more else [])])
