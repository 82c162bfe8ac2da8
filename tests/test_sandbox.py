"""The ties of the sandbox: nothing outlives supervisor or guard, whenever they are killed, and a stop is in order."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import pytest

from testbed.bench import kill_start
from testbed.emulation.processes.channel import Failure, channel
from testbed.emulation.processes.status_table import StatusTable
from testbed.emulation.sandbox import Sandbox
from testbed.emulation.supervisor import _Watch, fate_of_sandbox
from testbed.errors import EXIT_INTERRUPTED, EXIT_TOOL_FAILED, Bug, Interrupted, ToolError
from testbed.system import interrupts, kernel


def grandchild_ends(bind: Callable[[int, kernel.Tether], None], *, orphaned: bool) -> bool:
    """Return whether a grandchild has ended by `bind`, called when its parent is dead already, or lives."""
    told, telling = os.pipe()
    middle = os.fork()
    if middle == 0:
        tether, parent = kernel.Tether(), os.getpid()
        if os.fork() == 0:
            while orphaned and os.getppid() == parent:
                time.sleep(0.001)
            bind(parent, tether)
            os.write(telling, b"it lives")
            os._exit(0)
        tether.hold()
        if not orphaned:
            os.wait()
        os._exit(0)
    os.close(telling)
    os.waitpid(middle, 0)
    with os.fdopen(told, "rb") as lines:
        return not lines.read()


BINDS = [lambda parent, _: kernel.die_with_parent(parent), lambda _, tether: tether.bind()]


@pytest.mark.parametrize("bind", BINDS, ids=["by its parent's number", "by a tether"])
def test_a_child_whose_parent_is_dead_already_ends_at_once(bind: Callable[[int, kernel.Tether], None]) -> None:
    assert grandchild_ends(bind, orphaned=True)
    assert not grandchild_ends(bind, orphaned=False)


@pytest.mark.parametrize("number", interrupts.STOP_SIGNALS)
@pytest.mark.requires("root")
def test_every_stop_signal_at_the_guard_ends_the_body_in_order(number: signal.Signals) -> None:
    before = signal.signal(number, signal.default_int_handler)  # the tests may have been started by nohup
    reading, writing = os.pipe()

    def body() -> int:
        stopping = interrupts.Stopping()
        with stopping:
            os.write(writing, b"ready")
            while not stopping.asked:
                time.sleep(0.001)
        return 7

    sandbox = Sandbox(body)
    signal.signal(number, before)
    os.close(writing)
    assert os.read(reading, 5) == b"ready"
    os.close(reading)
    os.kill(sandbox.guard_pid, number)
    assert sandbox.wait() == 7


@pytest.mark.requires("root")
def test_a_stop_that_comes_at_once_is_not_lost() -> None:
    sandbox = Sandbox(lambda: time.sleep(60) or 0)  # type: ignore[func-returns-value]
    sandbox.stop()
    assert sandbox.wait() == EXIT_INTERRUPTED


@pytest.mark.requires("root")
def test_what_the_guard_finds_ends_a_sandbox_that_does_not_answer() -> None:
    reading, writing = os.pipe()

    def deaf() -> int:
        for number in interrupts.STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        while True:
            time.sleep(60)

    sandbox = Sandbox(deaf, watch=lambda: lambda: os.write(writing, b"told") and None)
    os.close(writing)
    assert sandbox.wait() == 128 + signal.SIGKILL
    with os.fdopen(reading, "rb") as lines:
        assert lines.read() == b"told"


def test_who_died_is_said() -> None:
    assert fate_of_sandbox(-9).startswith("the guard of its sandbox was ended by SIGKILL")
    assert fate_of_sandbox(128 + 9).startswith("the first process of its sandbox was ended by SIGKILL")


def test_a_stop_before_the_trial_takes_stops_is_an_interruption_and_no_kill() -> None:
    """PID 1 takes them from its first moment on, and ends by itself: its status is 128 + SIGINT all the same."""
    reader, records = channel()
    watch = _Watch(reader, StatusTable(1), kill_start.Nobody(), outlives=False)
    assert isinstance(watch._reason(EXIT_INTERRUPTED), Interrupted)
    watch._take(Failure.of("the sandbox", Interrupted("running the sandbox", "interrupted")))
    assert isinstance(watch._reason(EXIT_INTERRUPTED), Interrupted)
    reader.close()
    records.close()


@pytest.mark.requires("root")
def test_pid_1_that_is_stopped_at_once_ends_with_the_status_of_an_interruption() -> None:
    def body() -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        return 0

    assert Sandbox(body, failed=lambda _: None).wait() == EXIT_INTERRUPTED


@pytest.mark.requires("root", "bpf", "ovs", "mininet")
def test_nothing_is_left_of_trials_that_are_killed_as_they_start() -> None:
    rows = kill_start.run(20)
    assert [row["value"] for row in rows if row["bar"]] == [0, 0, 0, 0], rows


def test_what_processes_say_as_the_end_of_pid_1_ends_them_is_no_cause() -> None:
    reader, records = channel()
    watch = _Watch(reader, StatusTable(1), kill_start.Nobody(), outlives=False)
    watch._take(Failure(Bug("running mesh n2", "unpack requires a buffer of 8 bytes")))
    assert "mesh n2" in str(watch._reason(EXIT_TOOL_FAILED))
    assert "first process of its sandbox was ended by SIGKILL" in str(watch._reason(128 + signal.SIGKILL))
    assert "guard of its sandbox was ended by SIGKILL" in str(watch._reason(-signal.SIGKILL))
    watch._take(Failure(ToolError("watching the trial", "no response for 10 s"), ends=True))
    assert "no response" in str(watch._reason(128 + signal.SIGKILL))
    reader.close()
    records.close()
