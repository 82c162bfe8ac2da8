"""`graph`: the network of a scenario as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from testbed import output
from testbed.commands.app import app
from testbed.commands.options import PluginFiles, ScenarioPath, Settings


@app.command(epilog="Example: `python -m testbed graph scenarios/cascade.yaml`")
def graph(
    scenario: ScenarioPath,
    settings: Settings = None,
    plugins: PluginFiles = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE.svg", help="output file; default: standard output", show_default=False),
    ] = None,
) -> None:
    """Draw hosts, switches and links of a scenario, with their rates and delays, as SVG."""
    from testbed import topologies
    from testbed.files import writing
    from testbed.report.network_picture import svg
    from testbed.scenario.loading import load

    loaded = load(scenario, settings or (), plugins=plugins or ())
    text = svg(topologies.describe(loaded.scenario.topology), loaded.scenario.name)
    if out is None:
        output.say(text)
    else:
        output.say(str(writing.replace(out, text.encode(), elsewhere="choose another --out")))
