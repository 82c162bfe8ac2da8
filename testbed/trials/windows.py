"""The directory of a trial without an end: bounded, however long it runs.

    DIR/
      scenario/scenario.yaml   what is in force, with all that it names beside: edits of the original do nothing
                               until they are asked for
      windows/000001/          the run directory of a window; the newest `serve.keep` are kept
      verdicts.jsonl           a line for each window; verdicts.1.jsonl holds older ones, and older still are gone

A directory that was left behind is taken up again: windows are numbered on.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from testbed.errors import InputError, ToolError
from testbed.failures import cause_of
from testbed.files import writing
from testbed.scenario.loading import LoadedScenario
from testbed.trials import inputs

MAX_VERDICT_BYTES = 4_000_000  # of each of the two files: some years of windows of an hour
_WINDOWS, _VERDICTS, _OLDER, _COPY = "windows", "verdicts.jsonl", "verdicts.1.jsonl", "scenario"
_OURS = {_WINDOWS, _VERDICTS, _OLDER, _COPY}
_ELSEWHERE = "choose another --out"


class _Copy:
    """Takes in a scenario with all that it names, as a run directory does."""

    def __init__(self, path: Path) -> None:
        self.path = writing.folder(path, elsewhere=_ELSEWHERE)

    def write_text(self, name: str, text: str | bytes, *, durable: bool = True) -> Path:
        return writing.replace(self.path / name, text, durable=durable, elsewhere=_ELSEWHERE)


class Windows:
    """Holds the directory; one process at a time.

    Attributes:
        path: the directory.

    Raises:
        InputError: it holds something else, cannot be made, or another process holds it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.exists() and not {entry.name for entry in path.iterdir()} <= _OURS:
            raise InputError("--out", f"{path} contains other files than windows", "choose a new directory")
        try:
            (path / _WINDOWS).mkdir(parents=True, exist_ok=True)
            self._lock = os.open(path / _WINDOWS, os.O_RDONLY | os.O_CLOEXEC)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError("--out", f"another process is using {path}", "choose another directory") from error
        except OSError as error:
            raise InputError("--out", f"cannot make {path}: {error.strerror}", "choose a writable directory") from error

    def close(self) -> None:
        """Let another process have the directory."""
        os.close(self._lock)

    def put_in_force(self, loaded: LoadedScenario) -> Path:
        """Copy a scenario and what it names here, in place of the one before; return the copy's path.

        Raises:
            ToolError: the disk does not take it; the one before stays.
        """
        inputs.write_scenario(loaded, _Copy(self.path / _COPY))
        return self.path / _COPY / "scenario.yaml"

    def window(self, number: int) -> Path:
        """Return the run directory of a window."""
        return self.path / _WINDOWS / f"{number:06d}"

    def last(self) -> int:
        """Return the number of the newest window, 0 when there is none."""
        return max(self._numbers(), default=0)

    def keep(self, count: int) -> None:
        """Remove all windows but the newest `count`.

        Raises:
            ToolError: one cannot be removed.
        """
        numbers = sorted(self._numbers())
        for number in numbers[: max(0, len(numbers) - count)]:
            try:
                shutil.rmtree(self.window(number))
            except OSError as error:
                raise ToolError(f"removing {self.window(number)}", *cause_of(error)) from error

    def note(self, verdict: Mapping[str, Any]) -> None:
        """Add a line to the verdicts.

        Raises:
            ToolError: the disk does not take it.
        """
        path = self.path / _VERDICTS
        line = json.dumps(verdict, allow_nan=False).encode() + b"\n"
        if path.exists() and path.stat().st_size + len(line) > MAX_VERDICT_BYTES:
            os.replace(path, self.path / _OLDER)
        writing.append_lines(path, line, elsewhere=_ELSEWHERE)

    def _numbers(self) -> list[int]:
        return [int(entry.name) for entry in (self.path / _WINDOWS).iterdir() if entry.name.isdecimal()]
