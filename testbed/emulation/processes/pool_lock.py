"""The lock for the pool's ledger, which every agent and the trial itself change.

A process that is killed releases the lock, but a process that is stopped keeps it, and all others would wait until it
continues.  So whoever stops an agent holds the lock meanwhile (`nobody_inside`).
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

_PATH = "/run/testbed-pool.lock"


@contextmanager
def locked(descriptor: int) -> Iterator[None]:
    """Hold the lock for the length of the block; the kernel lets go of it when a holder dies."""
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def open_lock() -> int:
    """Return a descriptor of our own for the lock: flock excludes open files, not forked copies of one."""
    return os.open(_PATH, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)


@contextmanager
def nobody_inside() -> Iterator[None]:
    """Hold the lock for the length of the block, by a descriptor of the block's own."""
    descriptor = open_lock()
    try:
        with locked(descriptor):
            yield
    finally:
        os.close(descriptor)
