"""Priorities of processes, as the kernel has them."""

from __future__ import annotations

import os
import subprocess
import sys
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


def test_who_is_in_a_network_already_needs_no_rights_to_be_there(process: int) -> None:
    """A container that may not enter namespaces works in its own all the same."""
    tried = (
        "import os, sys; from testbed.system import kernel\n"
        "with kernel.network_of(int(sys.argv[1])): print(os.readlink('/proc/self/ns/net'))\n"
    )
    unprivileged = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-all", sys.executable, "-c", tried]

    own = subprocess.run([*unprivileged, str(process)], capture_output=True, text=True, check=False)

    assert own.stdout.strip() == os.readlink("/proc/self/ns/net"), own.stderr
