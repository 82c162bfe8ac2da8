"""What the copied state of a node's and a sink's program means: counters, and statistics between two looks.

Pure functions of copies; `testbed.emulation.xdp` makes them.  Counters of the programs never fall, so statistics of an
interval are differences of two looks; maxima come from the ring of 1 ms bins (``bpf/meter.h``).  The bin that was open
at the previous look is looked at again: its bytes count whole both times, since a peak may have grown since, but its
longest gap counts again only if it grew.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from testbed.emulation.xdp_abi import NANOBITS_PER_BYTE, NODE_BIN, NODE_BINS, NODE_CLASS, NODE_STATE

_MODULUS = 1 << 64


def offset(layout: np.dtype[Any], name: str) -> int:
    """Return where the field `name` of a structure starts, in bytes."""
    assert layout.fields is not None
    return int(layout.fields[name][1])


_CLASS_WORDS = NODE_CLASS.itemsize // 8
_WORD = {name: offset(NODE_STATE, name) // 8 for name in NODE_STATE.names or ()}
_CLASS_WORD = {name: _WORD["classes"] + k for k, name in enumerate(NODE_CLASS.names or ())}

T_WORD, DEBT_WORD = _WORD["t_ns"], _WORD["debt_nb"]


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
    """What one call of `NodeProgram.interval` covers.

    Attributes:
        new_flows: flows never seen, or silent for longer than `flow_idle_ns` before.
        gap_max_ns: longest time without an arrival: of the gaps that ended in the interval and the one open at its end.
        gap_mean_ns: mean of the gaps that ended in the interval; 0 without any.
        gap_std_ns: their standard deviation.
        peak_1ms_bytes: arrivals in the busiest 1 ms bin; bins follow the clock, those at the ends count whole.
        peak_backlog_bytes: highest backlog after an admitted packet.
    """

    new_flows: int
    gap_max_ns: int
    gap_mean_ns: int
    gap_std_ns: int
    peak_1ms_bytes: int
    peak_backlog_bytes: int


class SinkCounters(NamedTuple):
    """What a backend took in of one run; counters run from the loading of the program.

    `delivered_*` counts every probe, duplicates included.  `stale_pkts` came more than 64 numbers late: reordered or
    duplicate, nobody can tell.  `negative_delay_pkts` claim to be sent in the future and count as delay 0.
    """

    last_ns: int
    first_ns: int
    delivered_bytes: int
    delivered_pkts: int
    delay_max_ns: int
    delay_sum_ns: int
    negative_delay_pkts: int
    ce_pkts: int
    duplicate_pkts: int
    reordered_pkts: int
    stale_pkts: int
    flow_overflow_pkts: int
    foreign_run_pkts: int
    passed_pkts: int


class Look(NamedTuple):
    """What one look at a node leaves for the next.

    Attributes:
        bin_number: the bin that was open.
        bin_gap_ns: its longest gap so far.
    """

    bin_number: int
    bin_gap_ns: int = 0
    new_flows: int = 0
    last_ns: int = 0
    arrived_pkts: int = 0
    gap_square_ns2: int = 0


def _words(state: bytes) -> list[int]:
    return memoryview(state).cast("Q").tolist()


def node_counters(state: bytes, limit_bytes: int) -> NodeCounters:
    """Return the counters from a copy of ``struct node_state``."""
    words = _words(state)
    return NodeCounters(
        t_ns=words[T_WORD],
        limit_bytes=limit_bytes,
        backlog_nb=max(0, signed(words[DEBT_WORD])),
        arrived_bytes=_over_classes(words, "arrived_bytes"),
        arrived_pkts=_over_classes(words, "arrived_pkts"),
        dropped_bytes=_over_classes(words, "dropped_bytes"),
        dropped_pkts=_over_classes(words, "dropped_pkts"),
        marked_pkts=_over_classes(words, "marked_pkts"),
        deflected_bytes=words[_WORD["deflected_bytes"]],
        deflected_pkts=words[_WORD["deflected_pkts"]],
        deflected_in_pkts=words[_WORD["deflected_in_pkts"]],
        new_flows=_over_classes(words, "new_flows"),
        malformed_pkts=words[_WORD["malformed_pkts"]],
        ttl_expired_pkts=words[_WORD["ttl_expired_pkts"]],
        passed_other_pkts=words[_WORD["passed_other_pkts"]],
        passed_local_pkts=words[_WORD["passed_local_pkts"]],
    )


def sink_counters(state: bytes) -> SinkCounters:
    """Return the counters from a copy of ``struct sink_state``, whose order they share."""
    return SinkCounters(*_words(state)[1 : 1 + len(SinkCounters._fields)])


def interval(before: Look, state: bytes, slots: bytes, now_ns: int, now_bin: int) -> tuple[IntervalStats, Look]:
    """Return the statistics from one look to the next, and what that one leaves.

    Args:
        before: the previous look.
        state: a copy of ``struct node_state``.
        slots: raw ring slots of the bins from the previous look's to the one of `now_ns`.
        now_ns: time of this look.
        now_bin: its bin.
    """
    words = _words(state)
    bins = valid_bins(slots, *bin_range(before.bin_number, now_bin))
    gaps = bins["gap_max_ns"].tolist()
    last_ns = words[T_WORD]
    after = Look(
        bin_number=max(before.bin_number, now_bin),
        bin_gap_ns=gaps[-1] if gaps and bins["number"][-1] == now_bin else 0,
        new_flows=_over_classes(words, "new_flows"),
        last_ns=last_ns,
        arrived_pkts=_over_classes(words, "arrived_pkts"),
        gap_square_ns2=words[_WORD["gap_square_ns2"]],
    )
    if gaps and bins["number"][0] == before.bin_number and gaps[0] == before.bin_gap_ns:
        gaps[0] = 0
    mean_ns, std_ns = _gap_moments(before, after, words[_WORD["first_ns"]])
    stats = IntervalStats(
        new_flows=after.new_flows - before.new_flows,
        gap_max_ns=max([now_ns - last_ns if last_ns else 0, *gaps]),
        gap_mean_ns=mean_ns,
        gap_std_ns=std_ns,
        peak_1ms_bytes=int(bins["classes"]["bytes"].sum(axis=1).max(initial=0)),
        peak_backlog_bytes=whole_bytes(int(bins["backlog_max_nb"].max(initial=0))),
    )
    return stats, after


def bin_range(first: int, last: int) -> tuple[int, int]:
    """Return the first and last bin to look at: never more than the ring holds, at least one."""
    last = max(first, last)
    return max(first, last - NODE_BINS + 1), last


def valid_bins(slots: bytes, first: int, last: int) -> NDArray[np.void]:
    """Return the slots that hold bins `first` to `last`; others hold other turns of the ring or were never used."""
    bins: NDArray[np.void] = np.frombuffer(slots, NODE_BIN)
    number = bins["number"]
    return bins[(number >= first) & (number <= last)]


def signed(word: int) -> int:
    """Return an 8-byte word read as two's complement."""
    return word - _MODULUS if word >> 63 else word


def whole_bytes(nanobits: int) -> int:
    """Return nanobits in bytes; a byte begun counts whole."""
    return -(-nanobits // NANOBITS_PER_BYTE)


def _over_classes(words: list[int], name: str) -> int:
    return sum(words[_CLASS_WORD[name] :: _CLASS_WORDS])


def _gap_moments(before: Look, after: Look, first_ns: int) -> tuple[int, int]:
    """Return mean and standard deviation of the gaps that ended between two looks; the first packet ends no gap."""
    gaps = after.arrived_pkts - before.arrived_pkts - (before.arrived_pkts == 0)
    if gaps <= 0:
        return 0, 0
    mean_ns = (after.last_ns - (before.last_ns or first_ns)) / gaps
    square = (after.gap_square_ns2 - before.gap_square_ns2) % _MODULUS / gaps
    return round(mean_ns), round(math.sqrt(max(0.0, square - mean_ns**2)))
