"""A process's life, seen from the trial."""

from __future__ import annotations

import os
import resource
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from testbed.emulation.processes.channel import RecordWriter
from testbed.emulation.processes.status_table import TRIAL, StatusTable
from testbed.emulation.processes.trial_process import (
    Body,
    Stopped,
    TrialConnection,
    TrialProcess,
    fate_of,
    join_all,
    wait_all_ready,
)
from testbed.errors import ToolError


@contextmanager
def ended(body: Body) -> Iterator[TrialProcess]:
    """A process that has ended, by itself or by `join` after 20 s."""
    ours, records = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, records:
        made = TrialProcess("sender c1", body, records, StatusTable(1).row("sender c1"))
        made.join(20.0)
        yield made
        made.close()


def test_a_report_of_any_size_waits_for_no_reader() -> None:
    def leave_much(trial: TrialConnection, _records: RecordWriter) -> None:
        trial.report({"lateness": bytes(8_000_000)})

    with ended(leave_much) as made:
        assert made.status == 0
        assert len(made.reported()["lateness"]) == 8_000_000


def test_no_report_is_said() -> None:
    said = "reading the report of sender c1: it wrote none"
    with ended(lambda _trial, _records: None) as made, pytest.raises(ToolError, match=said):
        made.reported()


@contextmanager
def forked(table: StatusTable, **bodies: Body) -> Iterator[list[TrialProcess]]:
    ours, records = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, records:
        made = [TrialProcess(name, body, records, table.row(name)) for name, body in bodies.items()]
        yield made
        for process in made:
            process.join(0.0)
            process.close()


def serve(trial: TrialConnection, _records: RecordWriter) -> None:
    stopped = Stopped()
    trial.say_ready()
    while not stopped:
        time.sleep(0.001)


def test_members_are_waited_for_and_ended_together() -> None:
    table = StatusTable(3)
    with forked(table, one=serve, two=serve) as processes:
        wait_all_ready(processes, table.row(TRIAL))
        for process in processes:
            process.stop()
        join_all(processes)
        assert [process.status for process in processes] == [0, 0]


def test_who_is_killed_before_it_is_ready_is_named_with_the_signal() -> None:
    table = StatusTable(3)

    def die(_trial: TrialConnection, _records: RecordWriter) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    with forked(table, one=serve, two=die) as processes, pytest.raises(ToolError, match="two was ended by SIGKILL"):
        wait_all_ready(processes, table.row(TRIAL))


def test_who_is_killed_as_it_ends_is_named() -> None:
    table = StatusTable(2)
    with forked(table, one=serve) as processes:
        wait_all_ready(processes, table.row(TRIAL))
        os.kill(processes[0].pid, signal.SIGKILL)
        with pytest.raises(ToolError, match="one was ended by SIGKILL"):
            join_all(processes)


def test_a_member_is_heard_above_descriptor_1024() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    try:
        table = StatusTable(2)
        with forked(table, one=serve) as processes:
            assert processes[0].fileno() > 1023
            wait_all_ready(processes, table.row(TRIAL))
    finally:
        for descriptor in opened:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize(
    ("status", "said"),
    [(-11, "it was ended by SIGSEGV"), (0, "received SIGTERM"), (130, "SIGTERM"), (4, "it failed with status 4")],
)
def test_how_a_process_ended_is_said(status: int, said: str) -> None:
    assert said in fate_of("it", status)


def test_a_stop_that_comes_before_or_after_the_work_is_no_end_by_a_signal() -> None:
    """A sender takes SIGTERM in its own way while it sends; the signal may come as it waits or reports."""

    def work(trial: TrialConnection, _records: RecordWriter) -> None:
        asked: list[int] = []
        stopped = Stopped(lambda: asked.append(1))
        for _ in ("while it waits", "while it reports"):
            before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, before)
            os.kill(os.getpid(), signal.SIGTERM)
        trial.report({"asked": len(asked), "stopped": bool(stopped)})

    with ended(work) as made:
        assert (made.status, made.reported()) == (0, {"asked": 2, "stopped": True})
