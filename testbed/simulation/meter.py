"""What the kernel's meter would have counted: ``bpf/meter.h`` over packets in arrays.

Counters never decrease; a reader computes differences.  Two maxima are kept since the last reading of the node.  First,
the longest gap between arrivals, and the present gap.  Second, the bytes of the busiest bin of 1 ms, in bins of run
time.  The bin that was open at the last reading counts fully in both readings, as in the ring of the kernel.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from testbed.records.events import Ints, TrafficSampled
from testbed.simulation.queues import Arrivals, Bools
from testbed.units import NS_PER_MS

_NEVER = -1


class Meter:
    """Counters of n nodes.

    Attributes:
        arrived_bytes, arrived_pkts: what came since the start, dropped packets included, int64 [n].
        dropped_bytes, dropped_pkts: what was dropped since the start, int64 [n].
        deflected_bytes, deflected_pkts: what was handed to a sibling since the start, int64 [n].
        deflected_in_pkts: what came from one; part of what arrived, int64 [n].
        marked_pkts: what was admitted with a congestion mark, int64 [n].
    """

    def __init__(self, nodes: tuple[str, ...]) -> None:
        count = len(nodes)
        self._nodes = nodes
        self._sums: Ints = np.zeros((5, count), dtype=np.int64)
        self._read = self._sums.copy()
        self.arrived_bytes, self.arrived_pkts, self.dropped_bytes, self.dropped_pkts, self._new_flows = self._sums
        self.deflected_bytes, self.deflected_pkts, self.deflected_in_pkts, self.marked_pkts = np.zeros(
            (4, count), dtype=np.int64
        )
        self._gap_max_ns, self._peak_bytes, self._bin_bytes = np.zeros((3, count), dtype=np.int64)
        self._last_ns, self._bin = np.full((2, count), _NEVER, dtype=np.int64)

    def state(self) -> dict[str, Ints]:
        """Return the arrays of the state, which are never replaced, by their names in ``bpf/step.c``."""
        return {
            **{"sums": self._sums, "read_sums": self._read, "deflected_bytes": self.deflected_bytes},
            **{"marked_pkts": self.marked_pkts, "gap_max_ns": self._gap_max_ns, "peak_bytes": self._peak_bytes},
            **{"bin_bytes": self._bin_bytes, "last_ns": self._last_ns, "bin": self._bin},
        }

    def count(self, arrivals: Arrivals, dropped: Bools | None) -> None:
        """Process the packets of a step and which were dropped, bool [p] in their order; None: none."""
        a = arrivals
        self.arrived_pkts[a.rows] += a.last - a.first + 1
        self.arrived_bytes[a.rows] += np.add.reduceat(a.size_bytes, a.first)
        if dropped is not None:
            self.dropped_pkts[a.rows] += np.add.reduceat(dropped.astype(np.int64), a.first)
            self.dropped_bytes[a.rows] += np.add.reduceat(a.size_bytes * dropped, a.first)
        self._measure_gaps(a)
        self._fill_bins(a)

    def count_new_flows(self, node: Ints) -> None:
        """Process the nodes of flows that are new, one entry a flow."""
        self._new_flows += np.bincount(node, minlength=len(self._nodes))

    def count_handed(self, node: Ints, size_bytes: Ints, sibling: Ints) -> None:
        """Process the packets handed on: from which node, how large; and the nodes of those that came so."""
        count = len(self._nodes)
        self.deflected_pkts += np.bincount(node, minlength=count)
        self.deflected_bytes += np.bincount(node, weights=size_bytes, minlength=count).astype(np.int64)
        self.deflected_in_pkts += np.bincount(sibling, minlength=count)

    def count_marked(self, node: Ints) -> None:
        """Process the nodes of packets that were marked, one entry a packet."""
        self.marked_pkts += np.bincount(node, minlength=len(self._nodes))

    def _measure_gaps(self, a: Arrivals) -> None:
        gaps = np.empty_like(a.t_ns)
        np.subtract(a.t_ns[1:], a.t_ns[:-1], out=gaps[1:])
        before = self._last_ns[a.rows]
        gaps[a.first] = np.where(before == _NEVER, 0, a.t_ns[a.first] - before)
        self._gap_max_ns[a.rows] = np.maximum(self._gap_max_ns[a.rows], np.maximum.reduceat(gaps, a.first))
        self._last_ns[a.rows] = a.t_ns[a.last]

    def _fill_bins(self, a: Arrivals) -> None:
        number = a.t_ns // NS_PER_MS
        begins = np.empty(len(number), dtype=bool)
        np.not_equal(number[1:], number[:-1], out=begins[1:])
        begins[a.first] = True
        at = np.flatnonzero(begins)
        held = np.add.reduceat(a.size_bytes, at)
        first = np.searchsorted(at, a.first)
        goes_on = number[a.first] == self._bin[a.rows]
        held[first] += self._bin_bytes[a.rows] * goes_on
        last = np.append(first[1:], len(at)) - 1
        self._peak_bytes[a.rows] = np.maximum(self._peak_bytes[a.rows], np.maximum.reduceat(held, first))
        self._bin[a.rows], self._bin_bytes[a.rows] = number[a.last], held[last]

    def forget(self, row: int, now_ns: int) -> None:
        """Restart a node's interval, as when its reader restarts: what came before `now_ns` was read by another."""
        self._read[:, row] = self._sums[:, row]
        self._gap_max_ns[row] = 0
        self._peak_bytes[row] = self._bin_bytes[row] if self._bin[row] == now_ns // NS_PER_MS else 0

    def sample(self, rows: slice, interval_ns: int, seen: Sequence[Ints]) -> TrafficSampled:
        """Return a sample of what was read: counts as in `state`, backlog, limit, gap and peak, each [rows]."""
        arrived_bytes, arrived_pkts, dropped_bytes, dropped_pkts, new_flows, backlog_bytes, limit_bytes, *maxima = seen
        gap_max_ns, peak_1ms_bytes = maxima
        return TrafficSampled(
            nodes=self._nodes[rows],
            interval_ns=interval_ns,
            arrived_bytes=arrived_bytes,
            arrived_pkts=arrived_pkts,
            dropped_bytes=dropped_bytes,
            dropped_pkts=dropped_pkts,
            backlog_bytes=backlog_bytes,
            limit_bytes=limit_bytes,
            new_flows=new_flows,
            gap_max_ns=gap_max_ns,
            peak_1ms_bytes=peak_1ms_bytes,
        )

    def read(
        self, rows: slice, now_ns: int, interval_ns: int, backlog_bytes: Ints, limit_bytes: Ints
    ) -> TrafficSampled:
        """Return what the nodes of `rows` saw since they were read last; backlog and limit have shape [n]."""
        arrived_bytes, arrived_pkts, dropped_bytes, dropped_pkts, new_flows = self._sums[:, rows] - self._read[:, rows]
        self._read[:, rows] = self._sums[:, rows]
        last_ns = self._last_ns[rows]
        silence_ns = np.where(last_ns == _NEVER, 0, now_ns - last_ns)
        counts = (arrived_bytes, arrived_pkts, dropped_bytes, dropped_pkts, new_flows)
        gap_ns, peak_bytes = np.maximum(self._gap_max_ns[rows], silence_ns), self._peak_bytes[rows].copy()
        seen = (*counts, backlog_bytes[rows], limit_bytes[rows], gap_ns, peak_bytes)
        sample = self.sample(rows, interval_ns, seen)
        self._gap_max_ns[rows] = 0
        self._peak_bytes[rows] = np.where(self._bin[rows] == now_ns // NS_PER_MS, self._bin_bytes[rows], 0)
        return sample
