"""A measurement in a process of its own: namespaces, priority and memory are its own, an error comes back as raised.

A module that is measured so calls `answer` when it is run (``python -m``) and asks for its rows by `rows`.
"""

from __future__ import annotations

import json
import pickle
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from testbed import failures
from testbed.bench.rows import Row
from testbed.errors import CommandError
from testbed.system import commands, probes

_ROWS, _ERROR = "rows.json", "error.pickle"
_END_WITHIN_S = 900.0  # ten times what the longest takes


def rows(module: str, *arguments: str, env: Mapping[str, str] | None = None) -> list[Row]:
    """Run `module` in a process of its own and return what it measured.

    Raises:
        TestbedError: what went wrong there.
    """
    with tempfile.TemporaryDirectory(prefix="testbed-bench-") as folder:
        argv = [sys.executable, "-m", module, *arguments, folder]
        try:
            environment = {**probes.environment(), **(env or {})}
            commands.run(f"measuring by {module}", argv, env=environment, timeout_s=_END_WITHIN_S, tied=True)
        except CommandError:
            error = Path(folder, _ERROR)
            if error.exists():
                raise pickle.loads(error.read_bytes()) from None  # noqa: S301 (written by our own process)
            raise
        measured: list[Row] = json.loads(Path(folder, _ROWS).read_text(encoding="utf-8"))
    return measured


def answer(measure: Callable[[Path], Iterable[Row]]) -> None:
    """Measure in this process, which gets a folder to work in, and leave the rows or the error there."""
    folder = Path(sys.argv[-1])
    try:
        made = list(measure(folder))
    except Exception as error:
        shown = failures.shown(error, "measuring", "please report it with the lines of --debug")
        (folder / _ERROR).write_bytes(pickle.dumps(shown))
        raise
    (folder / _ROWS).write_text(json.dumps(made), encoding="utf-8")
