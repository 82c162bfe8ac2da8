"""The look of an agent at many nodes at once, on the real programs."""

from __future__ import annotations

import contextlib
import random
import time

import numpy as np
import pytest

from testbed.emulation.dataplane.nodes_look import NodesReader, SinksReader, reader_of
from testbed.emulation.dataplane.xdp import NodeProgram, SinkProgram
from testbed.traffic.numbers import PacketNumbers
from tests.test_bpf_node import frame_of

pytestmark = pytest.mark.requires("root", "bpf")

NUMBERS = PacketNumbers(np.array([10]))


def test_many_nodes_are_read_as_each_by_itself() -> None:
    """Arrays and plain numbers tell the same of every node, whatever came and however long the interval was."""
    rng, now_ns = random.Random(1), time.monotonic_ns()
    programs = [NodeProgram(10**8 * (k + 1), 3000 * k, 20_000) for k in range(3)]
    with contextlib.ExitStack() as stack:
        for program in programs:
            stack.enter_context(program)
        alone = [reader_of([program], now_ns) for program in programs]
        together = reader_of(programs, now_ns)
        assert isinstance(together, NodesReader)
        dropped = 0
        for step_ns in (1, 10**6, 10**7, 10**7, 10**7, 5 * 10**9, 10**7):
            for program in programs:
                for _ in range(rng.randrange(40)):
                    program.run(frame_of(rng.choice((100, 500, 1500))))
            programs[1].set_limit(rng.randrange(1000, 30_000))
            now_ns = max(time.monotonic_ns(), now_ns + step_ns)
            look, single = together.look(now_ns), [reader.look(now_ns) for reader in alone]
            assert look.measured.tolist() == np.hstack([one.measured for one in single]).tolist()
            for column in ("deflected_bytes", "deflected_pkts", "peak_backlog_bytes"):
                assert getattr(look, column).tolist() == [int(getattr(one, column)[0]) for one in single]
            assert together.limit_bytes().tolist() == [program.limit_bytes for program in programs]
            dropped += int(look.measured[3].sum())
        assert dropped > 0


def test_the_sinks_of_many_nodes_are_read_as_each_by_itself() -> None:
    with SinkProgram(7, NUMBERS) as one, SinkProgram(7, NUMBERS) as two:
        assert SinksReader([one, two]).delivered() == [one.delivered(), two.delivered()]
