"""What the verbs print through: results on standard output, everything else on standard error.

Text is printed as it is: a path or a message may hold brackets and colons, which Rich would take for markup.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from rich.console import Console

_FILE_WIDTH = 200  # of tables that go to a file or a pipe: nothing is cut off there


def say(text: object) -> None:
    """Print a result, at once: it may be one of many."""
    print(text, flush=True)


def say_json(value: object) -> None:
    """Print a result for programs."""
    print(json.dumps(value, indent=2, allow_nan=False))


def say_json_line(value: object) -> None:
    """Print a result for programs in one line, at once."""
    print(json.dumps(value, allow_nan=False), flush=True)


def note(text: object) -> None:
    """Print what is no result: progress, hints, errors."""
    print(text, file=sys.stderr)


def console(*, stderr: bool = False, **options: Any) -> Console:
    """Return a console that prints text as it is, in colour where the stream is a terminal."""
    return Console(stderr=stderr, markup=False, emoji=False, highlight=False, **options)


def table_console() -> Console:
    """Return the console for tables on standard output."""
    return console(width=None if sys.stdout.isatty() else _FILE_WIDTH)
