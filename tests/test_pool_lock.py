"""The lock of the pool: a process that a `pause` stops does not hold it."""

from __future__ import annotations

import fcntl
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from testbed.emulation.faults import pause
from testbed.emulation.processes import pool_lock

STOPS = 5


@dataclass
class Holder:
    """A process that holds the lock all the time but for instants."""

    pid: int
    name: str = "agent n1"

    def suspend(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)


def _hold_again_and_again(ready: int) -> None:
    lock = pool_lock.open_lock()
    while True:
        with pool_lock.locked(lock):
            os.write(ready, b".")
            time.sleep(0.002)


@pytest.fixture
def holder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Holder]:
    monkeypatch.setattr(pool_lock, "_PATH", str(tmp_path / "lock"))
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            _hold_again_and_again(writing)
        finally:
            os._exit(1)
    os.read(reading, 1)
    yield Holder(pid)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(reading)
    os.close(writing)


def test_a_paused_process_does_not_keep_others_from_the_pool(holder: Holder) -> None:
    context: Any = SimpleNamespace(processes_of=lambda _node: [holder])
    spec: Any = SimpleNamespace(node="n1")
    act = pause.Act(context, [spec])
    for _ in range(STOPS):
        act.begin(spec)
        lock = pool_lock.open_lock()
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises where another has it
        os.close(lock)
        act.end(spec)
