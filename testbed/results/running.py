"""Which trials are running on this machine: found by scanning processes, not registered.

A list of running trials in a file would outlive a ``kill -9``.  So the process that writes a run directory holds its
path in an anonymous file (memfd_create(2)) whose name is `MARK`: it is seen under ``/proc/<pid>/fd`` for as long as the
process lives and gone with it, whatever ended it.  Processes forked from it hold the same file; which of them is the
writer is written in it.

One that is held while its writer is dead marks a process that outlived its trial.  The sandbox makes that impossible
but for the instant in which the kernel takes it down; `orphans` is how one knows.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote_from_bytes, unquote_to_bytes

from testbed.errors import InputError
from testbed.files import json_text, records
from testbed.files.reading import Source
from testbed.results.forms import ProcessForm
from testbed.results.recorded_run import is_alive, process_identity

MARK = "testbed-run"
_VERBS = ("run", "serve", "simulate", "sweep", "agree", "bench")
_LINK = f"/memfd:{MARK} (deleted)"
_MAX_MARK_BYTES = 100_000


class _MarkForm(records.Form):
    path: records.Text
    process: ProcessForm


@dataclass(frozen=True, slots=True)
class RunningRun:
    """A running trial.

    Attributes:
        pid: the process that writes it.
        path: its directory, absolute.
    """

    pid: int
    path: Path


@contextmanager
def announced(path: Path) -> Iterator[None]:
    """Let this process be found as the writer of the run directory `path` for the length of the block.

    Without `memfd_create` (not Linux) there is nothing to find it by, and nothing happens.
    """
    make = getattr(os, "memfd_create", None)
    if make is None:
        yield
        return
    mark = make(MARK)
    try:
        quoted = quote_from_bytes(os.fsencode(path.resolve()))  # bytes of a file name need be no text
        os.write(mark, json.dumps({"path": quoted, "process": process_identity()}).encode())
        yield
    finally:
        os.close(mark)


def running() -> list[RunningRun]:
    """Return the running trials that this user may see (root: all), by process id."""
    return [RunningRun(pid, path) for pid, path, alive in _marked() if alive]


def only_one(attempted: str) -> Path:
    """Return the directory of the only running trial, for verbs that are given none.

    Raises:
        InputError: there is none, or more than one.
    """
    paths = [found.path for found in running()]
    if len(paths) != 1:
        names = ", ".join(map(str, paths))
        happened = f"{len(paths)} trials are running: {names}" if paths else "no trial is running"
        raise InputError(attempted, happened, "give the run directory")
    return paths[0]


def orphans() -> list[int]:
    """Return the processes of trials whose writer is dead; empty but for the instant after a kill."""
    return [pid for pid, _, alive in _marked() if not alive]


def all_seen() -> bool:
    """Return whether this user may look into every process, and so sees the runs of all users."""
    try:
        os.listdir("/proc/1/fd")
    except OSError:
        return False
    return True


def unseen() -> list[int]:
    """Return the processes of other users that look like a run by their command line, without those they forked."""
    folders = [folder for folder in Path("/proc").glob("[0-9]*") if _is_closed(folder) and _looks_like_one(folder)]
    found = {int(folder.name): _parent(folder) for folder in folders}
    return sorted(pid for pid, parent in found.items() if parent not in found)


def _parent(folder: Path) -> int:
    try:
        return int((folder / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[1])
    except (OSError, IndexError):
        return 0  # ended


def _is_closed(folder: Path) -> bool:
    try:
        os.listdir(folder / "fd")
    except PermissionError:
        return True
    except OSError:
        pass
    return False


def _looks_like_one(folder: Path) -> bool:
    """Return whether a command line is ``python -m testbed VERB`` or ``testbed VERB`` with a verb that runs trials."""
    try:
        words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return False
    ours = (following for word, following in itertools.pairwise(words) if Path(word).name == "testbed")
    return any(verb in _VERBS for verb in ours)


def _marked() -> Iterator[tuple[int, Path, bool]]:
    """Yield each writer (alive), and each process that holds the mark of a dead one, with the run directory."""
    for folder in sorted(Path("/proc").glob("[0-9]*"), key=lambda entry: int(entry.name)):
        pid = int(folder.name)
        for descriptor in _marks(folder.name):
            try:
                found = _read_mark(Source(descriptor, "it is not ours"))
            except InputError:
                continue  # ended, not yet written, or somebody else's file of that name
            alive = is_alive(found["process"])
            if not alive or found["process"]["pid"] == pid:
                yield pid, Path(os.fsdecode(unquote_to_bytes(found["path"]))), alive


def _read_mark(source: Source) -> dict[str, Any]:
    found = json_text.read_object(source, _MAX_MARK_BYTES)
    records.check(found, _MarkForm, source)
    return found


def _marks(process: str) -> list[Path]:
    try:
        return [entry for entry in Path(f"/proc/{process}/fd").iterdir() if _is_mark(entry)]
    except OSError:
        return []  # ended, or not ours to see


def _is_mark(entry: Path) -> bool:
    try:
        return os.readlink(entry) == _LINK
    except OSError:
        return False
