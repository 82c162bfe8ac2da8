"""What a node outside the emulation reports to the roster, and what it is answered: bodies of sealed messages.

    report   version u8 · draining u8 · arrived packets u64 · arrived bytes u64 · backlog u64     (network byte order)
    answer   version u8 · stage u8 · serving u16

A node reports every `INTERVAL_NS`: its counters since it began, what waits in its queue, and whether it has been asked
to end.  The answer says in which stage of life the roster has it, and how many nodes serve.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from testbed.records.events import StageOfLife
from testbed.units import NS_PER_MS

INTERVAL_NS = 50 * NS_PER_MS
VERSION = 1
_REPORT, _ANSWER = struct.Struct("!BBQQQ"), struct.Struct("!BBH")


class Report(NamedTuple):
    """A node's report."""

    draining: bool
    arrived_pkts: int
    arrived_bytes: int
    backlog_bytes: int


class Answer(NamedTuple):
    """The roster's answer to one node."""

    stage: StageOfLife
    serving: int


def encode_report(report: Report) -> bytes:
    """Return the body of a report."""
    return _REPORT.pack(VERSION, report.draining, *report[1:])


def decode_report(body: bytes) -> Report:
    """Return the report of a body.

    Raises:
        ValueError: it is none of this version.
    """
    if len(body) != _REPORT.size or body[0] != VERSION or body[1] > 1:
        raise ValueError("no report of this version")
    _, draining, *counters = _REPORT.unpack(body)
    return Report(bool(draining), *counters)


def encode_answer(answer: Answer) -> bytes:
    """Return the body of an answer."""
    return _ANSWER.pack(VERSION, answer.stage, answer.serving)


def decode_answer(body: bytes) -> Answer:
    """Return the answer of a body.

    Raises:
        ValueError: it is none of this version.
    """
    if len(body) != _ANSWER.size or body[0] != VERSION:
        raise ValueError("no answer of this version")
    _, stage, serving = _ANSWER.unpack(body)
    return Answer(StageOfLife(stage), serving)
