"""`--overwrite`: a run directory makes room for a new one, and nothing else ever does."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from testbed.errors import InputError, ToolError
from testbed.failures import cause_of
from testbed.results.recorded_run import RecordedRun

_REMEDY = "choose another --out"


def remove(path: Path, scenario: Path) -> None:
    """Remove the run in a directory.

    Raises:
        InputError: it is not a run directory, the run is still in progress, or the scenario to be run lies in it.
        ToolError: it cannot be removed.
    """
    attempted = f"overwrite {path}"
    if path.is_symlink():
        raise InputError(attempted, "it is a symbolic link", _REMEDY)
    if RecordedRun.open(path).status == "running":
        raise InputError(attempted, "that run is still in progress", f"stop it, or {_REMEDY}")
    if path.resolve() in scenario.resolve().parents or path.resolve() in Path(os.getcwd()).resolve().parents:
        raise InputError(attempted, "it contains the scenario or the current directory", _REMEDY)
    try:
        shutil.rmtree(path)
    except OSError as error:
        raise ToolError(attempted, *cause_of(error)) from error
