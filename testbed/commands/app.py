"""The group of all verbs, and the options that belong to none of them."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from testbed import __version__, output
from testbed.cli import Carried


class _Verbs(TyperGroup):
    """Keeps exit codes ours: of these exceptions the library below would make codes of its own."""

    def invoke(self, ctx: Any) -> Any:
        """Run the verb."""
        try:
            return super().invoke(ctx)
        except (OSError, EOFError, KeyboardInterrupt) as error:
            raise Carried from error


app = typer.Typer(
    cls=_Verbs,
    name="testbed",
    help="A network-emulation testbed for clusters of predictive buffers: scenario in, run directory with a validity "
    "verdict out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="markdown",
)


def _print_version(asked: bool) -> None:
    if asked:
        output.say(__version__)
        raise typer.Exit


@app.callback()
def _main(
    debug: Annotated[bool, typer.Option("--debug", help="show tracebacks of errors")] = False,
    _version: Annotated[
        bool,
        typer.Option("--version", help="print the version and exit", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    if debug:
        os.environ["TESTBED_DEBUG"] = "1"
