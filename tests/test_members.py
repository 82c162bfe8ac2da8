"""A member's life, seen from the trial."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from testbed.emulation.members import Line, Member
from testbed.emulation.records import RecordWriter
from testbed.errors import ToolError


@contextmanager
def ended(body: Callable[[Line, RecordWriter], None]) -> Iterator[Member]:
    """A member that has ended, by itself or by `join` after 20 s."""
    ours, records = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, records:
        made = Member("sender c1", body, records)
        made.join(20.0)
        yield made
        made.close()


def test_a_report_of_any_size_waits_for_no_reader() -> None:
    def leave_much(line: Line, _records: RecordWriter) -> None:
        line.report({"lateness": bytes(8_000_000)})

    with ended(leave_much) as made:
        assert made.status == 0
        assert len(made.reported()["lateness"]) == 8_000_000


def test_no_report_is_said() -> None:
    said = "asking sender c1 for its report: it left none"
    with ended(lambda _line, _records: None) as made, pytest.raises(ToolError, match=said):
        made.reported()
