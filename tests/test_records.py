"""The channel out of the sandbox: messages of any size arrive whole, whatever the numbers of descriptors."""

from __future__ import annotations

import os
import pickle
import re
import resource
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from testbed.emulation.processes.channel import EventRecord, Failure, Outcome, RecordReader, RecordWriter, channel
from testbed.records.evidence import ClientEvidence, Evidence, NodeEvidence
from testbed.records.histogram import Histogram
from testbed.records.stages import KEPT_STALLS, Stage, StageKind, Stall
from testbed.system import places, waiting
from testbed.units import NS_PER_MS, NS_PER_S

Line = tuple[RecordReader, socket.socket]


@pytest.fixture
def line() -> Iterator[tuple[RecordReader, socket.socket]]:
    """Both ends of a channel."""
    reader, end = channel()
    with closing(reader), end:
        yield reader, end


def outcome_of(nodes: int) -> Outcome:
    """What a trial of so many nodes leaves, each part as large as it gets."""

    def delays() -> Histogram:
        return Histogram.of(np.arange(1, 10**6, 37, dtype=np.int64) ** 2)

    stalls = tuple(Stall(k * NS_PER_S, 2 * NS_PER_MS) for k in range(KEPT_STALLS))
    parts = [NodeEvidence(f"n{k}", 10**6, 10**9, 0, 0, 10**6, 10**9, delay=delays()) for k in range(nodes)]
    kinds: tuple[StageKind, ...] = ("agent", "mesh", "way", "queue")
    stages = [Stage(kind, f"n{k}", stalls, delays()) for k in range(nodes) for kind in kinds]
    clients = (ClientEvidence("c1", 10**8, 10**8, 10**11, lateness=delays()),)
    return Outcome(Evidence("emulation", NS_PER_S, clients, tuple(parts), stages=tuple(stages)), {})


def test_the_outcome_of_a_hundred_nodes_arrives_whole(line: Line) -> None:
    reader, end = line
    outcome = outcome_of(100)
    assert len(pickle.dumps(outcome)) > 2**20
    RecordWriter(end).send(outcome)
    (received,) = reader.read()
    assert isinstance(received, Outcome)
    assert len(received.evidence.nodes) == 100
    assert received.evidence.nodes[99].delay is not None


@pytest.mark.parametrize("size", [0, 2**18 - 200, 2**18, 2**20, 2**20 + 1, 50 * 2**20])
def test_a_message_of_any_size_arrives_in_its_place(size: int, line: Line) -> None:
    reader, end = line
    writer = RecordWriter(end)
    text = "x" * size
    sending = threading.Thread(target=lambda: [writer.send(EventRecord(k, {"text": text})) for k in range(3)])
    sending.start()
    received: list[EventRecord] = []
    while len(received) < 3:
        assert waiting.readable([reader.fileno()], 20 * NS_PER_S)
        received += reader.read()  # type: ignore[arg-type]
    sending.join()
    assert [(message.t_ns, message.line["text"] == text) for message in received] == [(0, True), (1, True), (2, True)]
    assert list(reader.read()) == []


def test_no_descriptor_is_left_by_large_messages(line: Line) -> None:
    reader, end = line
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        RecordWriter(end).send(EventRecord(0, {"text": "x" * 2**21}))
        assert len(list(reader.read())) == 1
    assert len(os.listdir("/proc/self/fd")) == before


class Awkward(Exception):
    """Cannot be made anew from what it says of itself."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} {two}")


def test_a_failure_that_cannot_be_handed_over_as_it_is_is_told(line: Line) -> None:
    reader, end = line
    RecordWriter(end).send(Failure.of("agent n1", Awkward("it", "broke")))
    (received,) = reader.read()
    assert isinstance(received, Failure)
    assert str(received.error).startswith("running agent n1: ")
    assert "it broke" in str(received.error)


# -------------------------------------------------------------------------------------------------------- waiting


def test_descriptors_of_any_number_are_waited_for() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    reading, writing = os.pipe()
    high = os.dup2(reading, 2000)
    try:
        assert waiting.readable([high], 0) == []
        os.write(writing, b"x")
        assert waiting.readable([high, writing], 20 * NS_PER_S) == [high]
        os.read(high, 1)
        os.close(writing)
        assert waiting.readable([high], 20 * NS_PER_S) == [high]  # its other end is gone
    finally:
        os.close(high)
        os.close(reading)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_wait_is_not_rounded_up_to_a_millisecond() -> None:
    took_ns = []
    for _ in range(20):
        began_ns = time.monotonic_ns()
        waiting.readable([], 100_000)
        took_ns.append(time.monotonic_ns() - began_ns)
    assert 100_000 <= min(took_ns) < NS_PER_MS


def test_nothing_in_the_project_waits_by_select() -> None:
    """It refuses descriptors above 1023."""
    folders = [places.root() / name for name in ("testbed", "controllers", "topologies")]
    sources = [path for folder in folders for path in folder.rglob("*.py")]
    assert len(sources) > 100
    allowed = {Path("testbed/system/streams.py")}  # of a standard stream, whose number is 1 or 2
    found = {path.relative_to(places.root()) for path in sources if re.search(r"\bselect\.select\(", path.read_text())}
    assert found <= allowed
