"""The XDP program of a backend as an object: its sink, which is only read.

All times are CLOCK_MONOTONIC, the clock that the program reads, not times since the start of a run.  The head of
``bpf/sink.bpf.c`` explains how it counts.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from testbed.emulation.dataplane import libbpf, xdp_meter
from testbed.emulation.dataplane.times_map import TimesMap
from testbed.emulation.dataplane.xdp_abi import (
    SINK_CONFIG,
    SINK_CONTROL,
    SINK_DELAY_BUCKETS,
    SINK_FLOW,
    SINK_MEMORY,
    SINK_STATE,
    STAGE,
    delay_edges_ns,
)
from testbed.emulation.dataplane.xdp_meter import SinkCounters, offset
from testbed.emulation.dataplane.xdp_program import XdpProgram, packet_ranges, within
from testbed.emulation.dataplane.xdp_stage import Slots, slot_stalls, stage_histogram
from testbed.records.events import Ints
from testbed.records.histogram import Histogram
from testbed.records.stages import Stall
from testbed.traffic.numbers import PacketNumbers, Words

_MAX_FLOWS = 2**24
_WORD_BYTES = 8
_T0_WORD = offset(SINK_CONTROL, "t0_ns") // _WORD_BYTES
_QUEUE_OFFSET, _UNBUFFERED_OFFSET = offset(SINK_MEMORY, "queue"), offset(SINK_MEMORY, "unbuffered_pkts")
_DELIVERED_WORD, _LAST_WORD = offset(SINK_STATE, "delivered_bytes") // 8, offset(SINK_STATE, "last_ns") // 8


class SinkProgram(XdpProgram):
    """The counter of probes at one backend."""

    name = "sink"

    def __init__(
        self,
        run: int,
        numbers: PacketNumbers,
        *,
        slots: int = 1,
        times: TimesMap | None = None,
        log_directory: Path | None = None,
    ) -> None:
        """Load the program.

        Args:
            run: number of the run; probes of other runs pass.
            numbers: of the packets it is to know one by one; others are counted in the totals only.
            slots: for how long the worst packets are kept, from the start of the run on (`xdp_stage.slots_for`).
            times: where the times of those packets are kept; None: nowhere.
            log_directory: where the verifier's log goes if the kernel refuses the program.

        Raises:
            InputError: a value is out of range.
            MachineError, VerifierError: the program cannot be loaded.
        """
        self._run = within("run", run, 0, 2**32 - 1)
        self._flow_count = within("number of flows", len(numbers.count), 1, _MAX_FLOWS)
        self._numbers, self._slot_count = numbers, slots
        super().__init__(log_directory, times)

    def _configure(self, opened: libbpf.BpfObject, locked: bool) -> None:
        config = np.zeros((), SINK_CONFIG)
        config["run"], config["locked"], config["timed"] = self._run, locked, self._times is not None
        opened.set_data(".rodata", config.tobytes())
        opened.set_max_entries("flows", self._flow_count)
        opened.set_max_entries("arrived", self._numbers.words)
        opened.set_max_entries("slots", self._slot_count)

    def _map(self) -> None:
        self._memory = libbpf.map_array(self._object.map_fd(".bss"), SINK_MEMORY.itemsize)
        self._state = memoryview(self._memory)[: SINK_STATE.itemsize].cast("Q")
        self._flows = libbpf.map_array(self._object.map_fd("flows"), SINK_FLOW.itemsize * self._flow_count)
        np.frombuffer(self._flows, SINK_FLOW, self._flow_count)["range"] = packet_ranges(self._numbers)
        self._arrived = libbpf.map_array(self._object.map_fd("arrived"), _WORD_BYTES * self._numbers.words)
        self._control_memory = libbpf.map_array(self._object.map_fd(".data"), SINK_CONTROL.itemsize)
        self._control = memoryview(self._control_memory)[: SINK_CONTROL.itemsize].cast("I")
        self._start = memoryview(self._control_memory)[: SINK_CONTROL.itemsize].cast("Q")
        self._slots = Slots(self._object, self._slot_count)

    def _unmap(self) -> None:
        self._state.release()
        self._memory.close()
        self._flows.close()
        self._arrived.close()
        self._control.release()
        self._start.release()
        self._control_memory.close()
        self._slots.close()

    def begin_epoch(self, number: int) -> None:
        """Let flows note the first sequence number that comes from now on, under that epoch."""
        self._control[0] = number

    def begin(self, t0_ns: int) -> None:
        """Let the run begin at `t0_ns`: from then on the worst packets are kept with their times."""
        self._start[_T0_WORD] = t0_ns

    def queue(self) -> Histogram:
        """Return how much later packets came than the node's queue was to let them go."""
        copy = self._consistently(self._state, lambda: self._memory[_QUEUE_OFFSET : _QUEUE_OFFSET + STAGE.itemsize])
        return stage_histogram(copy, int(self._slots.read()["taken_max_ns"].max()))

    def queue_stalls(self) -> tuple[Stall, ...]:
        """Return when packets were held for longer than that."""
        return slot_stalls(self._slots.read()["taken_max_ns"])

    def unbuffered_pkts(self) -> int:
        """Return the packets that came without a time of departure: no node's program admitted them."""
        return int.from_bytes(self._memory[_UNBUFFERED_OFFSET : _UNBUFFERED_OFFSET + _WORD_BYTES], "little")

    def snapshot(self) -> SinkCounters:
        """Return the totals, all of one instant between two packets."""
        state = self._consistently(self._state, lambda: self._memory[: SINK_STATE.itemsize])
        return xdp_meter.sink_counters(state)

    def map_fd(self) -> int:
        """Return a descriptor of what packets change (`SINK_MEMORY`)."""
        return self._object.map_fd(".bss")

    def delivered(self) -> tuple[int, int]:
        """Return the bytes delivered so far and the time of the last of them, without a copy of the rest."""
        state = self._state
        return self._consistently(state, lambda: (state[_DELIVERED_WORD], state[_LAST_WORD]))

    def delay_histogram(self) -> tuple[Ints, Ints]:
        """Return counts (int64, shape [1984]) and edges in ns (int64, shape [1985]) of the one-way delay.

        A bucket above 64 ns is 1/64 of its lower edge wide; delays from 69 s on are in the last one.
        """
        start = SINK_STATE.itemsize
        end = start + 8 * SINK_DELAY_BUCKETS
        copy = self._consistently(self._state, lambda: self._memory[start:end])
        return np.frombuffer(copy, np.int64), delay_edges_ns()

    def flows(self) -> NDArray[np.void]:
        """Return the state of the flows: structured array `SINK_FLOW`, shape [f]; unused ones have no packets.

        Each row is read while packets may flow; rows agree with each other once traffic has ended.
        """
        return np.frombuffer(self._flows[: SINK_FLOW.itemsize * self._flow_count], SINK_FLOW)

    def arrived(self) -> Words:
        """Return the set of packets that have arrived, once or more often."""
        return np.frombuffer(self._arrived[: _WORD_BYTES * self._numbers.words], np.uint64)
