"""`replay`: would the present code decide as the code of a recorded run did?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from testbed import output
from testbed.commands.app import app
from testbed.commands.options import PluginConsent, Runs
from testbed.errors import EXIT_EXPECTATION_FAILED, EXIT_OK
from testbed.system import patience


@app.command(epilog="Example: `python -m testbed replay runs/burst-*`")
def replay(
    runs: Runs,
    model: Annotated[
        Path | None,
        typer.Option(
            "--model", metavar="FILE.npz", help="LSTM model to use; default: the model shipped with the testbed"
        ),
    ] = None,
    consent: PluginConsent = "refuse",
) -> None:
    """Feed the recorded policy inputs of runs to the current code.

    If a decision differs, show the first one and exit with code 1.
    """
    from testbed.scenario.plugins import executing_none
    from testbed.trials.replay import replay as first_difference

    code = EXIT_OK
    for path in runs:
        with executing_none(consent == "refuse"), patience.noted(f"replaying {path}"):
            difference = first_difference(path, model)
        output.say(f"{path}: {'every decision is as recorded' if difference is None else difference}")
        code = code if difference is None else EXIT_EXPECTATION_FAILED
    raise typer.Exit(code)
