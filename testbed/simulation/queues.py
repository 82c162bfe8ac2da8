"""The buffers of all nodes: fluid queues behind token buckets, exact in integers and without a loop over packets.

The queue is that of ``bpf/queue.h``.  A packet of length L that comes dt after the last one finds the debt

    v <- max(-B, v - C dt)          backlog q = max(0, v)

and is admitted, v <- v + L, if q + L <= limit; otherwise v stays.

As long as nothing is dropped the recursion unrolls.  With W the debt that would be if the bucket had no bottom, which
is two cumulative sums, the bottom adds what the line was idle:

    v found by packet i = W[i] + max(0, max over j <= i of (-B - W[j]))

so a step costs a handful of array operations for all packets of all nodes.  The running maximum starts anew at each
node: the maxima of the nodes before are added to it, which lifts every node above what came before it.  A node that
finds a packet too many is done again packet by packet, that node only: drops are rare, and where they are not the node
has few packets a step.

Integers.  Debts are nanobits (bits x 10^9, see ``bpf/testbed_abi.h``), so nothing is rounded and both engines agree to
the byte.  Sums of sizes may wrap around 2^64: only differences are used.  The maxima add up to at most what all links
serve in the step, which bounds its length (`longest_step_ns`).

Source: Lindley, "The theory of queues with a single server" (1952); the reflection map in this form is Skorokhod's.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from testbed.events import Ints

NANOBITS_PER_BYTE = 8 * 10**9
LARGEST_LIMIT_BYTES = 10**9
_ROOM = 2**61

Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Arrivals:
    """Packets of one step, grouped by node and in the order of time within each node.

    Attributes:
        t_ns, size_bytes, node: int64 [p]; `node` is a row.
        rows: the nodes that have any, ascending, int64 [k].
        first, last: positions of the first and last packet of each of `rows`, int64 [k].
    """

    t_ns: Ints
    size_bytes: Ints
    node: Ints
    rows: Ints
    first: Ints
    last: Ints

    @classmethod
    def grouped(cls, t_ns: Ints, size_bytes: Ints, node: Ints, nodes: int) -> Arrivals:
        """Return packets that are in the order of time (at least one) grouped by node."""
        if nodes > 1:
            order = np.argsort(node.astype(np.int16), kind="stable")  # 16 bits sort by radix
            t_ns, size_bytes, node = t_ns[order], size_bytes[order], node[order]
        counts = np.bincount(node, minlength=nodes)
        rows = np.flatnonzero(counts)
        last = np.cumsum(counts[rows]) - 1
        return cls(t_ns, size_bytes, node, rows, last - counts[rows] + 1, last)


class QueueBank:
    """The queues of n nodes.

    Args:
        rate_bps: service rates, shape [n].
        bucket_bytes: depths of the token buckets, shape [n].
        limit_bytes: first limits, shape [n].
    """

    def __init__(self, rate_bps: Ints, bucket_bytes: Ints, limit_bytes: Ints) -> None:
        self.now_ns = 0
        self._rate = rate_bps
        self._floor = -bucket_bytes * NANOBITS_PER_BYTE
        self._limit = np.zeros_like(rate_bps)
        self._debt = self._floor.copy()
        self.set_limit(slice(None), limit_bytes)

    @property
    def longest_step_ns(self) -> int:
        """Return how much time one `serve` may cover."""
        return max(1, _ROOM // int(self._rate.sum()))

    @property
    def limit_bytes(self) -> Ints:
        """Return the limits in force, shape [n]."""
        return self._limit // NANOBITS_PER_BYTE

    def set_limit(self, rows: Ints | slice, limit_bytes: Ints) -> None:
        """Put limits into force from now on; a limit below the backlog takes nothing from the queue."""
        self._limit[rows] = np.minimum(limit_bytes, LARGEST_LIMIT_BYTES) * NANOBITS_PER_BYTE

    def backlog_bytes(self) -> Ints:
        """Return what waits now, shape [n]; a byte in service counts whole."""
        waiting: Ints = -(-np.maximum(self._debt, 0) // NANOBITS_PER_BYTE)
        return waiting

    def empty_after_ns(self) -> int:
        """Return how long it takes from now until the last queue is empty, if nothing comes."""
        return int(np.max(-(-np.maximum(self._debt, 0) // self._rate)))

    def idle_until(self, until_ns: int) -> None:
        """Serve without arrivals."""
        self._debt = np.maximum(self._debt - (until_ns - self.now_ns) * self._rate, self._floor)
        self.now_ns = until_ns

    def serve(self, arrivals: Arrivals, until_ns: int) -> tuple[Ints, Bools | None]:
        """Take in the packets of a step and serve to its end.

        Args:
            arrivals: packets from `now_ns` to `until_ns`.
            until_ns: at most `longest_step_ns` from now.

        Returns:
            What waits after each packet as time of service in ns, int64 [p], of no meaning for a dropped one; and which
            were admitted, bool [p], None when all were.
        """
        a, node = arrivals, arrivals.node
        rate = self._rate[node]
        length = a.size_bytes * NANOBITS_PER_BYTE
        found = self._found_if_admitted(a, rate, length)
        too_many = np.maximum(found, 0) + length > self._limit[node]
        admitted = None
        if too_many.any():
            admitted = ~too_many
            for row in np.unique(node[too_many]).tolist():
                self._serve_one_by_one(row, a, length, found, admitted)
            length = length * admitted
        after = found + length
        self._finish(a, after, until_ns)
        return np.maximum(after, 0) // rate, admitted

    def _found_if_admitted(self, a: Arrivals, rate: Ints, length: Ints) -> Ints:
        """Return the debt each packet finds when none is dropped."""
        before = np.cumsum(length)
        before -= length
        start = self._debt.copy()
        start[a.rows] -= before[a.first]
        before += start[a.node]
        before -= (a.t_ns - self.now_ns) * rate  # the debt in a bucket without bottom
        idle = np.maximum(self._floor[a.node] - before, 0)
        highest = np.maximum.reduceat(idle, a.first)
        lift = np.zeros_like(self._debt)
        lift[a.rows] = np.cumsum(highest) - highest
        lifted = lift[a.node]
        idle += lifted
        np.maximum.accumulate(idle, out=idle)
        idle -= lifted
        before += idle
        return before

    def _serve_one_by_one(self, row: int, a: Arrivals, length: Ints, found: Ints, admitted: Bools) -> None:
        """Redo the packets of one node, some of which are dropped; writes into `found` and `admitted`."""
        k = int(np.searchsorted(a.rows, row))
        part = slice(int(a.first[k]), int(a.last[k]) + 1)
        debt, last_ns, rate = int(self._debt[row]), self.now_ns, int(self._rate[row])
        floor, limit = int(self._floor[row]), int(self._limit[row])
        times, lengths = a.t_ns[part].tolist(), length[part].tolist()
        least = min(lengths)
        debts, passed = [], []
        k, end = 0, len(times)
        while k < end:
            debt = max(floor, debt - (times[k] - last_ns) * rate)
            last_ns = times[k]
            fits = max(debt, 0) + lengths[k] <= limit
            debts.append(debt)
            passed.append(fits)
            k += 1
            if fits:
                debt += lengths[k - 1]
                continue
            room_ns = last_ns + -(-(max(debt, 0) + least - limit) // rate)  # before that not even the smallest fits
            skipped = bisect_left(times, room_ns, k) - k
            debts += [debt] * skipped
            passed += [False] * skipped
            k += skipped
        if not passed[-1]:
            debts[-1] = max(floor, debt - (times[-1] - last_ns) * rate)  # what was skipped stands at an older time
        found[part], admitted[part] = debts, passed

    def _finish(self, a: Arrivals, after: Ints, until_ns: int) -> None:
        since = np.full(len(self._debt), self.now_ns, dtype=np.int64)
        since[a.rows] = a.t_ns[a.last]
        self._debt[a.rows] = after[a.last]
        self._debt = np.maximum(self._debt - (until_ns - since) * self._rate, self._floor)
        self.now_ns = until_ns
