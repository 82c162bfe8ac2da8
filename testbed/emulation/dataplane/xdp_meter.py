"""Interprets the copied state of a node's and a sink's program: counters, and statistics between two readings.

These are pure functions of copies that `testbed.emulation.dataplane.xdp` makes, one copy for all values of a reading.
Counters of the programs never decrease, so statistics of an interval are differences of two readings.  Maxima come from
the ring of 1 ms bins (``bpf/meter.h``).  The bin that was open at the previous reading is used again: its bytes count
fully both times, because a peak may have grown since; its longest gap counts again only if it has grown.
"""

from __future__ import annotations

import operator
import struct
from typing import Any, NamedTuple

import numpy as np

from testbed.emulation.dataplane.xdp_abi import (
    NANOBITS_PER_BYTE,
    NODE_BIN,
    NODE_BINS,
    NODE_CLASS,
    NODE_CLASSES,
    NODE_STATE,
)

_MODULUS = 1 << 64


def offset(layout: np.dtype[Any], name: str) -> int:
    """Return where the field `name` of a structure starts, in bytes."""
    assert layout.fields is not None
    return int(layout.fields[name][1])


_CLASS_WORDS = NODE_CLASS.itemsize // 8
_WORD = {name: offset(NODE_STATE, name) // 8 for name in NODE_STATE.names or ()}
_CLASS_WORD = {name: _WORD["classes"] + k for k, name in enumerate(NODE_CLASS.names or ())}

_SUMMED = [
    _CLASS_WORD[name] for name in ("arrived_bytes", "arrived_pkts", "dropped_bytes", "dropped_pkts", "marked_pkts")
]
_DEFLECTED = [_WORD[name] for name in ("deflected_bytes", "deflected_pkts", "deflected_in_pkts")]
_own = operator.itemgetter(
    *(
        _WORD[name]
        for name in ("new_flows", "malformed_pkts", "ttl_expired_pkts", "passed_other_pkts", "passed_local_pkts")
    )
)
T_WORD, DEBT_WORD, REPEATED_WORD = _WORD["t_ns"], _WORD["debt_nb"], _WORD["repeated_pkts"]
_BIN = struct.Struct("<QQII")  # of NODE_BIN: number, backlog, gap, bytes
assert _BIN.size == NODE_BIN.itemsize


class NodeCounters(NamedTuple):
    """State of a node's buffer at its last packet; counters run from the loading of the program.

    `arrived_*` is what was offered to the queue: admitted, dropped and deflected together.  `backlog_nb` is in
    nanobits at `t_ns`; `NodeProgram.backlog_bytes` carries it on to another time.  The last four are outside `arrived`.
    """

    t_ns: int
    limit_bytes: int
    backlog_nb: int
    arrived_bytes: int
    arrived_pkts: int
    dropped_bytes: int
    dropped_pkts: int
    marked_pkts: int
    deflected_bytes: int
    deflected_pkts: int
    deflected_in_pkts: int
    new_flows: int
    malformed_pkts: int
    ttl_expired_pkts: int
    passed_other_pkts: int
    passed_local_pkts: int


class IntervalStats(NamedTuple):
    """What happened from one look to the next.

    Attributes:
        new_flows: flows never seen, or silent for longer than `flow_idle_ns` before.
        gap_max_ns: longest time without an arrival: of the gaps that ended in the interval and the one open at its end.
        peak_1ms_bytes: arrivals in the busiest 1 ms bin; bins follow the clock, those at the ends count whole.
        peak_backlog_bytes: highest backlog after an admitted packet.
    """

    new_flows: int
    gap_max_ns: int
    peak_1ms_bytes: int
    peak_backlog_bytes: int


class SinkCounters(NamedTuple):
    """What a backend took in of one run; counters run from the loading of the program.

    `delivered_*` counts every probe, duplicates and those the plan does not have (`unplanned_pkts`) included.
    What claims to be sent in the future counts as delay 0.
    """

    last_ns: int
    delivered_bytes: int
    delivered_pkts: int
    delay_max_ns: int
    ce_pkts: int
    duplicate_pkts: int
    reordered_pkts: int
    unplanned_pkts: int
    foreign_run_pkts: int
    passed_pkts: int


class Look(NamedTuple):
    """What one look at a node leaves for the next.

    Attributes:
        bin_number: the bin that was open.
        bin_gap_ns: its longest gap so far.
        new_flows: how many there had been.
    """

    bin_number: int
    bin_gap_ns: int = 0
    new_flows: int = 0


class NodeLook(NamedTuple):
    """All that one look at a node tells.

    Attributes:
        counters: state of the buffer at its last packet.
        backlog_bytes: what waits at the time of the look.
        interval: what happened since the look before.
    """

    counters: NodeCounters
    backlog_bytes: int
    interval: IntervalStats


def words_of(state: bytes) -> list[int]:
    """Return a copied structure of 8-byte words as integers."""
    return memoryview(state).cast("Q").tolist()


def node_counters(words: list[int], limit_bytes: int) -> NodeCounters:
    """Return the counters from the words of ``struct node_state``."""
    summed = [sum(words[first::_CLASS_WORDS]) for first in _SUMMED]
    deflected = [sum(words[first : first + NODE_CLASSES]) for first in _DEFLECTED]
    backlog_nb = max(0, signed(words[DEBT_WORD]))
    return NodeCounters._make((words[T_WORD], limit_bytes, backlog_nb, *summed, *deflected, *_own(words)))


def sink_counters(state: bytes) -> SinkCounters:
    """Return the counters from a copy of ``struct sink_state``, whose order they share."""
    return SinkCounters(*words_of(state)[1 : 1 + len(SinkCounters._fields)])


def backlog_bytes(t_ns: int, debt: int, now_ns: int, rate_bps: int) -> int:
    """Return what waits at `now_ns` of the debt word of `t_ns`, if no packet came since."""
    return max(0, whole_bytes(signed(debt) - max(0, now_ns - t_ns) * rate_bps))


def interval(
    before: Look, counters: NodeCounters, slots: bytes, now_ns: int, now_bin: int
) -> tuple[IntervalStats, Look]:
    """Return the statistics from one look to the next, and what that one leaves.

    The bins are read as plain integers: a dozen of them cost a tenth of what a structured array does.

    Args:
        before: the previous look.
        counters: of the node at this look.
        slots: raw ring slots of the bins from the previous look's to the one of `now_ns`.
        now_ns: time of this look.
        now_bin: its bin.
    """
    first, last = bin_range(before.bin_number, now_bin)
    bin_gap_ns = gap_max_ns = peak_bytes = peak_backlog_nb = 0
    for number, backlog_max_nb, gap_ns, bin_bytes in _BIN.iter_unpack(slots):
        if not first <= number <= last:
            continue  # of another turn of the ring, or never used
        if number == now_bin:
            bin_gap_ns = gap_ns
        if number != before.bin_number or gap_ns != before.bin_gap_ns:
            gap_max_ns = max(gap_max_ns, gap_ns)
        peak_bytes = max(peak_bytes, bin_bytes)
        peak_backlog_nb = max(peak_backlog_nb, backlog_max_nb)
    stats = IntervalStats(
        new_flows=counters.new_flows - before.new_flows,
        gap_max_ns=max(now_ns - counters.t_ns if counters.t_ns else 0, gap_max_ns),
        peak_1ms_bytes=peak_bytes,
        peak_backlog_bytes=whole_bytes(peak_backlog_nb),
    )
    return stats, Look(max(before.bin_number, now_bin), bin_gap_ns, counters.new_flows)


def bin_range(first: int, last: int) -> tuple[int, int]:
    """Return the first and last bin to look at: never more than the ring holds, at least one."""
    last = max(first, last)
    return max(first, last - NODE_BINS + 1), last


def signed(word: int) -> int:
    """Return an 8-byte word read as two's complement."""
    return word - _MODULUS if word >> 63 else word


def whole_bytes(nanobits: int) -> int:
    """Return nanobits in bytes; a byte begun counts whole."""
    return -(-nanobits // NANOBITS_PER_BYTE)
