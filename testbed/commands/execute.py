"""`exec` and `shell`: a command, or a shell, inside a node of a running trial."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from testbed.commands.app import app
from testbed.errors import InputError

_RUN = "run directory of a running trial (may be omitted if there is only one)"


@app.command(
    name="exec",
    epilog="Examples:\n\n`sudo python -m testbed exec n1 -- ip -s link`\n\n"
    "`sudo python -m testbed exec runs/burst-20260101T120000Z-1 n1 -- ping -c 3 n2`",
)
def execute(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[RUN] NODE -- CMD...", help=f"RUN: {_RUN}; NODE: a host, such as n1, c1 or b1", show_default=False
        ),
    ],
) -> None:
    """Run a command inside a node of a running trial and return its exit status."""
    named = [words.pop(0)] if len(words) > 2 and _is_run(words[0]) else []
    if len(words) < 2:
        raise InputError("exec", "a host and a command are needed", "such as `exec n1 -- ip -s link`")
    raise typer.Exit(_inside(named, words[0], words[1:], terminal=False))


@app.command(epilog="Example: `sudo python -m testbed shell n1`")
def shell(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[RUN] NODE", help=f"RUN: {_RUN}; NODE: a host, such as n1, c1 or b1", show_default=False
        ),
    ],
) -> None:
    """Open a shell inside a node of a running trial. Node names such as n2 resolve there."""
    if not 1 <= len(words) <= 2:
        raise InputError("shell", "expected a host, and at most one run", "such as `shell n1`")
    program = os.environ.get("SHELL") or "/bin/sh"
    raise typer.Exit(_inside(words[:-1], words[-1], [program], terminal=sys.stdin.isatty()))


def _is_run(word: str) -> bool:
    return "/" in word or os.path.isdir(word)


def _inside(named: list[str], node: str, argv: list[str], terminal: bool) -> int:
    from testbed.emulation import entering
    from testbed.results.recorded_run import RecordedRun
    from testbed.results.running import only_one

    path = Path(named[0]) if named else only_one(f"exec {node}")
    return entering.execute(RecordedRun.open(path), node, argv, terminal)
