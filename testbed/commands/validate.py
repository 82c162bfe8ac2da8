"""`validate`: what is wrong with scenario and sweep files, and where."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from testbed import output
from testbed.commands.app import app
from testbed.commands.options import AnyEngineName, PluginConsent, PluginFiles, Settings
from testbed.errors import EXIT_OK, InputError, TestbedError
from testbed.records.engines import EMULATION
from testbed.system import patience

if TYPE_CHECKING:
    from testbed.scenario.loading import LoadedScenario


@app.command(
    epilog="Examples:\n\n`python -m testbed validate scenarios/*.yaml`\n\n`python -m testbed validate --schema`"
)
def validate(
    scenarios: Annotated[
        list[Path] | None, typer.Argument(metavar="FILE...", help="scenario or sweep files", show_default=False)
    ] = None,
    settings: Settings = None,
    engine: AnyEngineName = None,
    plugins: PluginFiles = None,
    consent: PluginConsent = "refuse",
    show_all: Annotated[bool, typer.Option("--all", help="show all errors, not only the first few")] = False,
    plan: Annotated[
        bool, typer.Option("--plan", help="show the planned traffic (packets, load) and the expected running time")
    ] = False,
    schema: Annotated[bool, typer.Option("--schema", help="print the JSON schema of scenario files")] = False,
) -> None:
    """Check scenario and sweep files, and report each error with its place."""
    from testbed.scenario import loading
    from testbed.scenario import plugins as plugged

    if schema:
        for plugin in plugins or ():
            plugged.load(plugin)
        output.say_json(loading.schema())
        return
    if not scenarios:
        raise InputError("validate", "no file was given", "give scenario or sweep files, or --schema")
    worst, options = EXIT_OK, {"settings": settings or [], "plugins": plugins or []}
    for path in scenarios:
        try:
            with plugged.executing_none(consent == "refuse"), patience.noted(f"checking {path}"):
                found = _checked(path, options, engine, show_all, plan)
        except TestbedError as error:
            worst = error.exit_code
            output.note(_text(error, show_all))
        else:
            output.say(f"{path}: fine ({found})")
    raise typer.Exit(worst)


def _checked(path: Path, options: dict[str, Any], engine: str | None, show_all: bool, plan: bool) -> str:
    """Return a summary of a valid file."""
    from testbed.scenario import loading
    from testbed.scenario.engine_checks import usual_engine
    from testbed.trials import checks
    from testbed.trials.sweep import checked

    if loading.names_a_sweep(path):
        return f"a sweep of {len(checked(path, engine or EMULATION, output.note).trials)} trials"
    if show_all:
        checks.check_all(loading.read(path), engine or EMULATION, **options)
    loaded = loading.load(path, **options)
    for line in checks.check(loaded, engine or usual_engine(loaded.scenario)):
        output.note(line)
    return f"{loaded.scenario.name}, {loaded.scenario.topology.nodes} nodes" + (_planned(loaded) if plan else "")


def _planned(loaded: LoadedScenario) -> str:
    from testbed.trials.forecast import forecast_lines

    return "".join(f"\n  {line}" for line in forecast_lines(loaded))


def _text(error: TestbedError, whole: bool) -> str:
    """Return the text of an error: its first lines and how to see the others, or all lines."""
    from testbed.scenario.loading import MAX_LINES, ScenarioRefused

    if not isinstance(error, ScenarioRefused) or len(error.lines) <= MAX_LINES:
        return str(error)
    if not whole:
        return f"{error}; `validate --all` shows them"
    return "\n".join([*error.lines, *([f"and {error.more:,} more"] if error.more else [])])
