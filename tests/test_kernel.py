"""Priorities of processes, as the kernel has them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

from testbed.system import kernel

pytestmark = pytest.mark.requires("root")


@pytest.fixture
def process() -> Iterator[int]:
    """Return a process that waits until it is ended."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as waiting:
        yield waiting.pid
        assert waiting.stdin is not None
        waiting.stdin.close()


def test_another_process_gets_its_priority_and_its_threads_with_it(process: int) -> None:
    kernel.run_in_real_time(7, process, with_threads=True)
    assert os.sched_getscheduler(process) == os.SCHED_FIFO
    assert os.sched_getparam(process).sched_priority == 7


def test_what_a_process_starts_is_ordinary_unless_asked_for(process: int) -> None:
    kernel.run_in_real_time(7, process)
    assert os.sched_getscheduler(process) == os.SCHED_FIFO | os.SCHED_RESET_ON_FORK
