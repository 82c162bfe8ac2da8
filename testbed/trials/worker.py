"""One trial on a worker of a Dask cluster: what it needs comes as bytes, and so does its run directory go back.

    bundle (ZIP: scenario.yaml, plug-ins, traces, model) ─▶ `python -m testbed run` ─▶ run directory (ZIP)

These functions run in a thread of the worker; nothing of the machine that sent the trial is needed but the bytes.  The
trial is a process that dies with the worker, and is ended when nobody waits for its result any more.  An emulated trial
has the machine for itself, whichever worker of the machine runs it: it holds a lock of the machine.  A simulated one
waits until the others of this worker leave enough memory.

Source: Dask distributed, https://distributed.dask.org (worker state machine; resources; `Client.run`).
"""

from __future__ import annotations

import fcntl
import io
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testbed.capacity import memory
from testbed.files import archive
from testbed.files.reading import Source
from testbed.records.engines import is_real_time
from testbed.system import waiting
from testbed.trials.child import Child, Ended
from testbed.trials.identity import Identity, identity
from testbed.units import NS_PER_MS

# A worker has other threads, so its child ties itself to it (`Child.tie` is for programs without any).
_TIED = (
    "import sys\nif not getattr(sys.flags, 'safe_path', False):\n    del sys.path[0]\n"
    "from testbed.system.kernel import die_with_parent\ndie_with_parent(int(sys.argv.pop(1)))\n"
    "sys.argv[0] = 'testbed'\nfrom testbed.cli import main\nmain()"
)
_SCENARIO, _RUN = "scenario.yaml", "run"
_LOOK_NS = 200 * NS_PER_MS
_LOCKED = Path("/run")  # the folder itself: nothing is left there

_memory = threading.Condition()
_running: dict[int, int] = {}  # the memory that each process takes at most


@dataclass(frozen=True, slots=True)
class Made:
    """A trial that ended: how, its run directory as a ZIP archive (empty if it made none), and where it ran."""

    ended: Ended
    directory: bytes
    worker: str


def identified() -> Identity:
    """Return what this worker runs trials with."""
    return identity()


async def admitted(name: str, slots: int, dask_worker: Any) -> None:
    """Give this worker the resource `name`, which the trials of a sweep ask for."""
    await dask_worker.set_resources(**{name: slots})


def run_trial(bundle: bytes, engine: str, most_bytes: int) -> Made:
    """Run a trial to its end; called by the worker.

    Args:
        bundle: its scenario with all that it names.
        engine: which engine runs it.
        most_bytes: the memory it takes at most.

    Raises:
        TestbedError: the bundle cannot be unpacked, or the run directory not be packed.
    """
    from distributed import get_worker

    worker = get_worker()
    wanted = _wanted(worker, worker.get_current_task())
    with tempfile.TemporaryDirectory(dir=worker.local_directory, prefix="trial-") as name, _turn(engine, wanted):
        folder = Path(name)
        _unpack(bundle, folder)
        ended = _run(folder, engine, most_bytes, wanted)
        return Made(ended, packed(folder / _RUN), worker.address)


def packed(folder: Path) -> bytes:
    """Return the files of a folder as a ZIP archive; of one that is not there, nothing."""
    files: dict[str, Path | bytes] = {
        path.relative_to(folder).as_posix(): path
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
    }
    out = io.BytesIO()
    if files:
        archive.write(out, files)
    return out.getvalue()


def _unpack(bundle: bytes, folder: Path) -> None:
    file = folder / "bundle.zip"
    file.write_bytes(bundle)
    archive.unpack(Source(file, "use workers of the same version", "unpacking a trial"), folder)
    file.unlink()


def _wanted(worker: Any, key: object) -> Callable[[], bool]:
    """Return what tells whether somebody still waits for a task, as far as this worker knows."""

    def wanted() -> bool:
        task = worker.state.tasks.get(key)
        leaving = worker.status.name in ("closing", "closed", "failed")
        return task is not None and task.state != "cancelled" and not leaving

    return wanted


@contextmanager
def _turn(engine: str, wanted: Callable[[], bool]) -> Iterator[None]:
    """Hold this machine for an emulated trial; several workers may share it."""
    if not is_real_time(engine):
        yield
        return
    descriptor = os.open(_LOCKED, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        while wanted() and not _locked(descriptor):
            time.sleep(_LOOK_NS / 1e9)
        yield
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _run(folder: Path, engine: str, most_bytes: int, wanted: Callable[[], bool]) -> Ended:
    arguments = ("run", _SCENARIO, "--engine", engine, "--out", _RUN, "--no-live", "--quiet")
    child = _started([sys.executable, "-c", _TIED, str(os.getpid()), *arguments], folder, most_bytes, wanted)
    try:
        while not waiting.readable([child.descriptor], _LOOK_NS):
            if not wanted():
                child.send(signal.SIGKILL)  # its result is wanted no more, and it leaves nothing behind
        return child.ended()
    finally:
        with _memory:
            _running.pop(child.pid, None)
            _memory.notify_all()


def _started(argv: list[str], folder: Path, most_bytes: int, wanted: Callable[[], bool]) -> Child:
    """Start a process as soon as the others of this worker leave memory for it."""
    with _memory:
        while _running and wanted() and not memory.fits(most_bytes, list(_running.items())):
            _memory.wait(_LOOK_NS / 1e9)
        child = Child(argv, folder)
        _running[child.pid] = most_bytes
        return child
