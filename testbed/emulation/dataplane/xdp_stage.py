"""What the programs measured of the stages that packets pass (``bpf/stage.h``): a histogram and the stalls."""

from __future__ import annotations

import mmap

import numpy as np
from numpy.typing import NDArray

from testbed.emulation.dataplane import libbpf
from testbed.emulation.dataplane.xdp_abi import (
    STAGE_BUCKETS,
    STAGE_COARSE_FIRST,
    STAGE_COARSE_SHIFT,
    STAGE_FINE_BUCKETS,
    STAGE_FINE_SHIFT,
    STAGE_SLOT,
    STAGE_SLOT_SHIFT,
)
from testbed.records.events import Ints
from testbed.records.histogram import Histogram, log_edges_ns, merged
from testbed.records.stages import NOTED_NS, Stall, longest_stalls

_MAX_SLOTS = 1 << 24  # three days


def stage_edges_ns() -> Ints:
    """Return the edges of a stage's buckets: int64, ascending, shape [5117], bucket k is [k, k + 1)."""
    fine = np.arange(STAGE_FINE_BUCKETS, dtype=np.int64) << STAGE_FINE_SHIFT
    coarse = np.arange(STAGE_COARSE_FIRST, STAGE_BUCKETS - STAGE_FINE_BUCKETS + STAGE_COARSE_FIRST + 1, dtype=np.int64)
    return np.concatenate((fine, coarse << STAGE_COARSE_SHIFT))


def stage_histogram(counts: bytes, largest_ns: int) -> Histogram:
    """Return a stage's histogram with the edges that files have.

    Args:
        counts: of ``struct stage``.
        largest_ns: the longest time in any slot; 0: there was none to be kept there.
    """
    kept = Histogram(stage_edges_ns(), np.frombuffer(counts, np.int64), largest_ns or None)
    empty = Histogram(log_edges_ns(), np.zeros(len(log_edges_ns()) - 1, dtype=np.int64))
    both = merged([empty, kept])
    assert both is not None
    return both


def slots_for(length_ns: int) -> int:
    """Return how many slots a run of that length has, the last one begun included."""
    return min(_MAX_SLOTS, (length_ns >> STAGE_SLOT_SHIFT) + 1)


class Slots:
    """The worst packets of each slot of time, mapped from a loaded object."""

    def __init__(self, loaded: libbpf.BpfObject, count: int) -> None:
        self._bytes = STAGE_SLOT.itemsize * count
        self._memory: mmap.mmap = libbpf.map_array(loaded.map_fd("slots"), self._bytes)

    def close(self) -> None:
        """Unmap."""
        self._memory.close()

    def read(self) -> NDArray[np.void]:
        """Return a copy of all slots: structured array `STAGE_SLOT`, shape [slots]."""
        return np.frombuffer(self._memory[: self._bytes], STAGE_SLOT)


def slot_stalls(worst_ns: NDArray[np.uint32]) -> tuple[Stall, ...]:
    """Return when packets were held, from the longest time that ended in each slot (uint32, shape [slots]).

    The end of a stall is known to a slot; it is put at the slot's middle.
    """
    middle_ns = 1 << STAGE_SLOT_SHIFT - 1
    ended = [(int(k) << STAGE_SLOT_SHIFT, int(worst_ns[k])) for k in np.flatnonzero(worst_ns > NOTED_NS)]
    return longest_stalls(Stall(max(0, slot_ns + middle_ns - taken_ns), taken_ns) for slot_ns, taken_ns in ended)
