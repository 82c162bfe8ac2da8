"""The compiled step of the data plane (``bpf/step.c``), used if it has been compiled.

Most steps lie between two ticks of a few nodes and contain a few dozen packets.  Thirty array operations take longer
than these packets need in C. The library computes a step in one call, on the arrays of the data plane's own objects.
It has no other state, so each step can be computed in either way, with the same results to the last bit.

It computes steps of the common case only: every packet takes equally long to its buffer, no node is dead, and full
nodes drop.  All other steps, and all steps if the library is missing, are computed with arrays (`packet_plane`).
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.records.events import Ints
from testbed.simulation.deliveries import Deliveries
from testbed.simulation.queues import QueueBank
from testbed.system import places

FIELDS = (
    *("sent_ns", "flow", "size_bytes"),
    *("rate_bps", "floor_nb", "limit_nb", "debt_nb"),
    *("table", "slot", "pin", "seen_ns", "strange", "removed", "leads_to", "turn"),
    *("sums", "read_sums", "deflected_bytes", "marked_pkts", "gap_max_ns", "peak_bytes", "bin_bytes", "last_ns", "bin"),
    *("discarded_bytes", "fresh", "placed", "counted"),
    *("nodes", "slots", "meter_idle_ns", "pin_idle_ns", "in_turn", "way_ns", "node_ns", "ecn_bytes", "room"),
    "steps",
)
"""The fields of ``struct plane``, in order; each is a pointer or a number, both of 64 bits."""

READ_COLUMNS = 10
_KINDS = {"flow": np.int32, "size_bytes": np.int32, "strange": np.bool_, "removed": np.bool_}

Parts = Mapping[str, Any]


@lru_cache(maxsize=1)
def library() -> ctypes.CDLL | None:
    """Return the library, None where it has not been compiled (or not for this machine)."""
    try:
        loaded = ctypes.CDLL(str(places.step_library()))
    except OSError:
        return None
    word, pointer = ctypes.c_int64, ctypes.c_void_p
    loaded.step.argtypes, loaded.step.restype = (pointer, word, word, word, word, pointer, pointer, pointer), word
    loaded.take_reading.argtypes, loaded.take_reading.restype = (pointer, word, word, word, pointer), None
    return loaded


def of_parts(parts: Parts, queues: QueueBank, deliveries: Deliveries) -> CompiledPlane | None:
    """Return a plane for the library, None without one.

    Args:
        parts: all `FIELDS` but those of the queues, the block of deliveries, and the library's own: numbers, and arrays
            that are never replaced.
        queues: of that plane.
        deliveries: of that plane.
    """
    loaded = library()
    return None if loaded is None else CompiledPlane(loaded, parts, queues, deliveries)


class CompiledPlane:
    """A plane's parts as the library sees them; arguments as of `of_parts`."""

    def __init__(self, loaded: ctypes.CDLL, parts: Parts, queues: QueueBank, deliveries: Deliveries) -> None:
        self._step, self._take_reading = loaded.step, loaded.take_reading
        self._queues, self._deliveries = queues, deliveries
        marks: dict[str, Ints] = {name: np.zeros(len(parts["pin"]), dtype=np.int64) for name in ("placed", "counted")}
        block, room = deliveries.block, deliveries.block.shape[1]
        full = {**parts, **queues.state(), **marks, "fresh": block, "room": room, "steps": 0}
        self._kept = [_checked(name, full[name]) for name in FIELDS]  # the library has their addresses
        self._plane = np.array([_word(value) for value in self._kept], dtype=np.int64)
        self._fresh_pkts = np.zeros(1, dtype=np.int64)
        self._scratch = np.empty(room, dtype=np.uint8), np.empty(parts["nodes"], dtype=np.int64)
        self._at = self._plane.ctypes.data
        self._out = self._fresh_pkts.ctypes.data, *(array.ctypes.data for array in self._scratch)

    def take(self, begin: int, end: int, until_ns: int) -> int | None:
        """Process the packets of the plan from row `begin` on, below `end`, that are at their buffers by `until_ns`.

        Returns:
            The first row that is left; None where the step has more packets than a block, and nothing was done.
        """
        left = self._stepped(begin, end, until_ns)
        if left < 0:
            self._deliveries.close_block()
            left = self._stepped(begin, end, until_ns)
        if left < 0:
            return None
        if left == begin:
            self._queues.idle_until(until_ns)
        self._queues.now_ns = until_ns
        return left

    def _stepped(self, begin: int, end: int, until_ns: int) -> int:
        self._fresh_pkts[0] = self._deliveries.block_pkts
        left: int = self._step(self._at, begin, end, self._queues.now_ns, until_ns, *self._out)
        self._deliveries.block_pkts = self._fresh_pkts.item()
        return left

    def read(self, rows: slice, now_ns: int) -> Ints:
        """Return what nodes saw since they were read last, int64 [READ_COLUMNS, rows]: see ``take_reading``."""
        count = rows.stop - rows.start
        out = np.empty((READ_COLUMNS, count), dtype=np.int64)
        self._take_reading(self._at, rows.start, count, now_ns, out.ctypes.data)
        return out


def _checked(name: str, value: Any) -> NDArray[Any] | int:
    if value is None:
        return 0
    if isinstance(value, np.ndarray):
        kind = _KINDS.get(name, np.int64)
        assert value.dtype == kind, name
        assert value.flags.c_contiguous, name
        return value
    return int(value)


def _word(value: NDArray[Any] | int) -> int:
    return value if isinstance(value, int) else value.ctypes.data
