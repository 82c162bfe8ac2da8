"""One reading of the buffers of a cohort: the values of `TrafficSampled` for each node.

Many nodes are read with a few array operations for all (`NodesReader`), one node with plain numbers (`NodeReader`), for
the reason given in `policies.arithmetic`.  Both give the same results.  `xdp_meter` explains the copied state:
statistics of an interval are computed from the differences of two readings and from the ring of 1 ms bins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from testbed.emulation.dataplane.stacked_maps import StackedMaps
from testbed.emulation.dataplane.xdp import NodeProgram
from testbed.emulation.dataplane.xdp_abi import (
    NANOBITS_PER_BYTE,
    NODE_BIN,
    NODE_BIN_NS,
    NODE_BINS,
    NODE_CLASS,
    NODE_CLASSES,
    NODE_CONTROL,
    NODE_MEMORY,
    NODE_STATE,
    QUEUE_CAP_BYTES,
    SINK_STATE,
)
from testbed.emulation.dataplane.xdp_meter import bin_range, offset
from testbed.emulation.dataplane.xdp_sink import SinkProgram
from testbed.records.events import MEASURED, Ints

_STATE_WORDS, _CLASS_WORDS, _BIN_WORDS = (layout.itemsize // 8 for layout in (NODE_STATE, NODE_CLASS, NODE_BIN))
_BINS = slice(offset(NODE_MEMORY, "bins") // 8, offset(NODE_MEMORY, "bins") // 8 + NODE_BINS * _BIN_WORDS)
_T, _DEBT, _NEW_FLOWS, _CLASSES, _DEFLECTED = (
    offset(NODE_STATE, name) // 8 for name in ("t_ns", "debt_nb", "new_flows", "classes", "deflected_bytes")
)
assert offset(NODE_STATE, "deflected_pkts") // 8 == _DEFLECTED + NODE_CLASSES
_COUNTED = ("arrived_bytes", "arrived_pkts", "dropped_bytes", "dropped_pkts")
assert (NODE_CLASS.names or ())[:4] == _COUNTED == MEASURED[:4]
assert MEASURED[4:] == ("backlog_bytes", "limit_bytes", "new_flows", "gap_max_ns", "peak_1ms_bytes")
_DELIVERED, _LAST = offset(SINK_STATE, "delivered_bytes") // 8, offset(SINK_STATE, "last_ns") // 8
_LOW_HALF = 0xFFFFFFFF  # of the last word of a bin: its longest gap; the high half is its bytes
_COUNTS = 7
_FULL_NB = QUEUE_CAP_BYTES * NANOBITS_PER_BYTE


@dataclass(frozen=True, slots=True)
class NodesLook:
    """All that one look at n nodes tells; int64, shape [n] where nothing else is said.

    Attributes:
        measured: the columns of `TrafficSampled`, shape [columns, n].
        deflected_bytes, deflected_pkts: handed to siblings since the look before.
        peak_backlog_bytes: highest backlog after an admitted packet.
    """

    measured: Ints
    deflected_bytes: Ints
    deflected_pkts: Ints
    peak_backlog_bytes: Ints

    @property
    def refused_pkts(self) -> Ints:
        """Return the packets since the look before that found no room."""
        refused: Ints = self.measured[3] + self.deflected_pkts
        return refused

    @property
    def backlog_bytes(self) -> Ints:
        """Return what waits at the time of the look."""
        backlog: Ints = self.measured[4]
        return backlog

    @property
    def limit_bytes(self) -> Ints:
        """Return the limits in force."""
        limits: Ints = self.measured[5]
        return limits


class NodeReader:
    """Looks at the program of one node."""

    def __init__(self, program: NodeProgram, now_ns: int) -> None:
        """Begin with a look at `now_ns`."""
        self._program = program
        self._before = program.look(now_ns).counters

    def look(self, now_ns: int) -> NodesLook:
        """See `NodesReader.look`."""
        look, before = self._program.look(now_ns), self._before
        now, interval = look.counters, look.interval
        self._before = now
        measured = (
            now.arrived_bytes - before.arrived_bytes, now.arrived_pkts - before.arrived_pkts,
            now.dropped_bytes - before.dropped_bytes, now.dropped_pkts - before.dropped_pkts,
            look.backlog_bytes, now.limit_bytes, interval.new_flows, interval.gap_max_ns, interval.peak_1ms_bytes,
            now.deflected_bytes - before.deflected_bytes, now.deflected_pkts - before.deflected_pkts,
            interval.peak_backlog_bytes,
        )  # fmt: skip
        values = np.array(measured, dtype=np.int64).reshape(-1, 1)  # one array: each of its own would cost as much
        return NodesLook(values[: len(MEASURED)], *values[len(MEASURED) :])

    def limit_bytes(self) -> Ints:
        """Return the limit in force now, shape [1]."""
        return np.array((self._program.limit_bytes,), dtype=np.int64)


class NodesReader:
    """Looks at the programs of n nodes; the first look counts from the loading of the programs."""

    def __init__(self, programs: Sequence[NodeProgram], now_ns: int) -> None:
        """Map what is read; bins that ended before `now_ns` do not count."""
        states, controls = zip(*(program.map_fds() for program in programs), strict=True)
        self._maps = StackedMaps(states, NODE_MEMORY.itemsize)
        self._limits = StackedMaps(controls, NODE_CONTROL.itemsize).words[:, 0]
        self._states = self._maps.words[:, :_STATE_WORDS]
        self._ring = self._maps.words[:, _BINS].reshape(len(programs), NODE_BINS, _BIN_WORDS)
        self._rate_bps = np.array([program.rate_bps for program in programs], dtype=np.int64)
        self._full_ns = _FULL_NB // self._rate_bps + 1
        self._counts: Ints = np.zeros((len(programs), _COUNTS), dtype=np.int64)
        self._bin, self._bin_gap_ns = now_ns // NODE_BIN_NS, np.zeros(len(programs), dtype=np.int64)

    def look(self, now_ns: int) -> NodesLook:
        """Return what happened since the look before, and what is at `now_ns`; each node of one instant."""
        now_bin = now_ns // NODE_BIN_NS
        first, last = bin_range(self._bin, now_bin)
        numbers = np.arange(first, last + 1)
        states, bins = self._maps.consistently(partial(self._copy, numbers % NODE_BINS))
        counts, before = _counts(states), self._counts
        self._counts = counts
        since = (counts - before).T
        gap_ns, peak_bytes, peak_backlog_nb = self._of_bins(bins, numbers, now_bin)
        t_ns = states[:, _T]
        open_ns = now_ns - t_ns
        measured = np.empty((len(MEASURED), len(states)), dtype=np.int64)
        measured[:4] = since[:4]
        measured[4] = self._backlog_bytes(open_ns, states[:, _DEBT])
        measured[5] = self._limits
        measured[6] = since[4]
        measured[7] = np.maximum(gap_ns, open_ns * (t_ns > 0))
        measured[8] = peak_bytes
        return NodesLook(measured, since[5], since[6], _whole_bytes(peak_backlog_nb))

    def limit_bytes(self) -> Ints:
        """Return the limits in force now."""
        limits: Ints = self._limits.copy()
        return limits

    def _copy(self, slots: Ints, rows: int | slice) -> tuple[Ints, Ints]:
        return self._states[rows].copy(), self._ring[rows, slots] if isinstance(rows, int) else self._ring[:, slots]

    def _of_bins(self, bins: Ints, numbers: Ints, now_bin: int) -> Ints:
        """Return the longest gap, the most bytes in 1 ms and the highest backlog: shape [3, n].

        See `xdp_meter.interval`: the bin that was open at the previous look counts again, its longest gap only if it
        grew.  A slot that does not hold the bin it should is of another turn of the ring, or was never used.
        """
        valid = bins[:, :, 0] == numbers
        packed = bins[:, :, 2] * valid
        columns = np.empty((3, *packed.shape), dtype=np.int64)
        np.bitwise_and(packed, _LOW_HALF, columns[0])
        np.right_shift(packed, 32, columns[1])
        np.multiply(bins[:, :, 1], valid, columns[2])
        gaps = columns[0]
        open_gap_ns = gaps[:, -1].copy() if numbers[-1] == now_bin else np.zeros(len(bins), dtype=np.int64)
        if numbers[0] == self._bin:
            gaps[:, 0] *= gaps[:, 0] != self._bin_gap_ns
        self._bin, self._bin_gap_ns = int(numbers[-1]), open_gap_ns
        highest: Ints = np.maximum.reduce(columns, axis=2)
        return highest

    def _backlog_bytes(self, since_ns: Ints, debt_nb: Ints) -> Ints:
        """Return what waits so long after packets that left such debts; more than a full queue lasts overflows."""
        served_ns = np.minimum(np.maximum(since_ns, 0), self._full_ns)
        return _whole_bytes(np.maximum(debt_nb - served_ns * self._rate_bps, 0))


def reader_of(programs: Sequence[NodeProgram], now_ns: int) -> NodeReader | NodesReader:
    """Return what looks at the programs of a cohort; it begins with a look at `now_ns`."""
    if len(programs) == 1:
        return NodeReader(programs[0], now_ns)
    reader = NodesReader(programs, now_ns)
    reader.look(now_ns)
    return reader


class SinksReader:
    """Looks at what the sinks behind n nodes have taken in."""

    def __init__(self, sinks: Sequence[SinkProgram]) -> None:
        self._sinks = sinks
        self._maps = StackedMaps([sink.map_fd() for sink in sinks], SINK_STATE.itemsize)
        self._wanted = np.array((_DELIVERED, _LAST))

    def delivered(self) -> list[tuple[int, int]]:
        """Return of each node the bytes delivered so far and the time of the last of them."""
        if len(self._sinks) == 1:
            return [self._sinks[0].delivered()]
        (delivered,) = self._maps.consistently(self._copy)
        return list(map(tuple, delivered.tolist()))

    def _copy(self, rows: int | slice) -> tuple[Ints]:
        return (self._maps.words[rows, self._wanted] if isinstance(rows, int) else self._maps.words[:, self._wanted],)


def _whole_bytes(nanobits: Ints) -> Ints:
    """Return nanobits in bytes; a byte begun counts whole."""
    whole: Ints = (nanobits + (NANOBITS_PER_BYTE - 1)) // NANOBITS_PER_BYTE
    return whole


def _counts(states: Ints) -> Ints:
    """Return the counters of a look, shape [n, `_COUNTS`]: of `_COUNTED`, new flows, deflected bytes and packets."""
    nodes = len(states)
    counts = np.empty((nodes, _COUNTS), dtype=np.int64)
    classes = states[:, _CLASSES : _CLASSES + NODE_CLASSES * _CLASS_WORDS].reshape(nodes, NODE_CLASSES, _CLASS_WORDS)
    np.add.reduce(classes[:, :, :4], 1, out=counts[:, :4])
    counts[:, 4] = states[:, _NEW_FLOWS]
    deflected = states[:, _DEFLECTED : _DEFLECTED + 2 * NODE_CLASSES].reshape(nodes, 2, NODE_CLASSES)
    np.add.reduce(deflected, 2, out=counts[:, 5:])
    return counts
