"""The buffers of all nodes: fluid queues behind token buckets, exact in integers and without a loop over packets.

The queue is that of ``bpf/queue.h``.  A packet of length L that arrives dt after the previous one finds the debt

    v <- max(-B, v - C dt)          backlog q = max(0, v)

and is admitted, v <- v + L, if q + L <= limit; otherwise v does not change.

As long as nothing is dropped, the recursion can be unrolled.  Let W be the debt without the lower bound −B; it is the
difference of two cumulative sums.  The lower bound adds the time in which the link was idle:

    v found by packet i = W[i] + max(0, max over j <= i of (-B - W[j]))

So a step costs a few array operations for all packets of all nodes.  The running maximum must start again at each node.
For this, an offset larger than all values of the previous nodes is added to the values of a node.  A node that drops a
packet is computed again, packet by packet.  Drops are rare; where they are not, the node has few packets per step.

Integers.  Debts are in units of 10⁻⁹ bit (see ``bpf/testbed_abi.h``), so nothing is rounded and both engines agree to
the byte.  Sums of sizes may wrap around 2^64, because only differences are used.  The maxima add up to at most the
bytes that all links serve in the step; this limits its length (`longest_step_ns`).

Source: Lindley, "The theory of queues with a single server" (1952); the reflection map in this form is Skorokhod's.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from testbed.records.events import Ints
from testbed.scenario.buffer import MAX_BUFFER_BYTES

NANOBITS_PER_BYTE = 8 * 10**9
_ROOM = 2**61

Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Served:
    """What became of the packets of a step, in the order of its `Arrivals`.

    Attributes:
        found_bytes: the backlog each packet met, rounded up, int64 [p].
        waiting_ns: what waits after it as time of service, itself included, int64 [p]; of no meaning for a dropped one.
        admitted: bool [p], None when all were.
    """

    found_bytes: Ints
    waiting_ns: Ints
    admitted: Bools | None


@dataclass(frozen=True, slots=True, eq=False)
class Arrivals:
    """Packets of one step, grouped by node and in the order of time within each node.

    Attributes:
        t_ns, size_bytes, node: int64 [p]; `node` is a row.
        rows: the nodes that have any, ascending, int64 [k].
        first, last: positions of the first and last packet of each of `rows`, int64 [k].
        order: where each packet stood before it was grouped, int64 [p].
    """

    t_ns: Ints
    size_bytes: Ints
    node: Ints
    rows: Ints
    first: Ints
    last: Ints
    order: Ints

    @classmethod
    def grouped(cls, t_ns: Ints, size_bytes: Ints, node: Ints, nodes: int) -> Arrivals:
        """Return packets that are in the order of time (at least one) grouped by node."""
        order = np.argsort(node.astype(_key_type(nodes)), kind="stable") if nodes > 1 else np.arange(len(node))
        if nodes > 1:
            t_ns, size_bytes, node = t_ns[order], size_bytes[order], node[order]
        counts = np.bincount(node, minlength=nodes)
        rows = np.flatnonzero(counts)
        last = np.cumsum(counts[rows]) - 1
        return cls(t_ns, size_bytes, node, rows, last - counts[rows] + 1, last, order)


def _key_type(nodes: int) -> type[np.uint16 | np.int64]:
    """Return the type of rows to sort by: NumPy sorts 16 bits by radix, in a third of the time."""
    return np.uint16 if nodes <= np.iinfo(np.uint16).max + 1 else np.int64


def backlog_bytes(debt: Ints) -> Ints:
    """Return the bytes that wait at a debt; one in service counts whole."""
    waiting: Ints = -(-np.maximum(debt, 0) // NANOBITS_PER_BYTE)
    return waiting


class OneQueue:
    """The queue of one node, packet by packet in plain integers: for what has to be decided in the order of time."""

    __slots__ = ("_debt", "_floor", "_limit", "_rate", "_t_ns")

    def __init__(self, debt: int, rate: int, floor: int, limit: int, now_ns: int) -> None:
        self._debt, self._rate, self._floor, self._limit, self._t_ns = debt, rate, floor, limit, now_ns

    def debt_at(self, t_ns: int) -> int:
        """Return the debt at `t_ns`, not before the last packet, if none comes until then."""
        return max(self._floor, self._debt - (t_ns - self._t_ns) * self._rate)

    def offer(self, t_ns: int, size_bytes: int) -> tuple[int, int | None]:
        """Take a packet in if it fits; return the debt it found and its time of service in ns, None if refused."""
        found = self._debt = self.debt_at(t_ns)
        self._t_ns = t_ns
        length = size_bytes * NANOBITS_PER_BYTE
        if max(found, 0) + length > self._limit:
            return found, None
        self._debt = found + length
        return found, max(self._debt, 0) // self._rate


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
        self._limit[rows] = np.minimum(limit_bytes, MAX_BUFFER_BYTES) * NANOBITS_PER_BYTE

    def backlog_bytes(self) -> Ints:
        """Return what waits now, shape [n]; a byte in service counts whole."""
        return backlog_bytes(self._debt)

    def empty_after_ns(self) -> int:
        """Return how long it takes from now until the last queue is empty, if nothing comes."""
        return int(np.max(-(-np.maximum(self._debt, 0) // self._rate)))

    def idle_until(self, until_ns: int) -> None:
        """Serve without arrivals, for any time."""
        needed_ns = -((self._floor - self._debt) // self._rate)  # until the bucket is full; what is longer may overflow
        served_ns = np.minimum(until_ns - self.now_ns, needed_ns)
        self._debt[:] = np.maximum(self._debt - served_ns * self._rate, self._floor)
        self.now_ns = until_ns

    def state(self) -> dict[str, Ints]:
        """Return the arrays of the state, which are never replaced, by their names in ``bpf/step.c``."""
        return {"rate_bps": self._rate, "floor_nb": self._floor, "limit_nb": self._limit, "debt_nb": self._debt}

    def serve(self, arrivals: Arrivals, until_ns: int) -> Served:
        """Process the packets of a step, from `now_ns` on, and serve to its end, at most `longest_step_ns` from now."""
        a, node = arrivals, arrivals.node
        rate = self._rate[node]
        length = a.size_bytes * NANOBITS_PER_BYTE
        found = self._found_if_admitted(a, rate, length)
        too_many = self._too_many(a, found, length)
        admitted = None
        if too_many.any():
            admitted = ~too_many
            for row in np.unique(node[too_many]).tolist():
                self._serve_one_by_one(row, a, length, found, admitted)
            length = length * admitted
        after = found + length
        self._finish(a, after, until_ns)
        return Served(backlog_bytes(found), np.maximum(after, 0) // rate, admitted)

    def takes_all(self, arrivals: Arrivals) -> bool:
        """Return whether `serve` would admit all of them."""
        length = arrivals.size_bytes * NANOBITS_PER_BYTE
        found = self._found_if_admitted(arrivals, self._rate[arrivals.node], length)
        return not self._too_many(arrivals, found, length).any()

    def one_by_one(self) -> list[OneQueue]:
        """Return the queues as they are now, to be served packet by packet; `put_back` ends that."""
        columns = (self._debt, self._rate, self._floor, self._limit)
        rows = zip(*(column.tolist() for column in columns), strict=True)
        return [OneQueue(debt, rate, floor, limit, self.now_ns) for debt, rate, floor, limit in rows]

    def put_back(self, queues: list[OneQueue], until_ns: int) -> None:
        """Process what became of the queues, and serve to the end of the step."""
        self._debt[:] = [queue.debt_at(until_ns) for queue in queues]
        self.now_ns = until_ns

    def clear(self, row: int) -> None:
        """Throw away what waits at a node."""
        self._debt[row] = self._floor[row]

    def _too_many(self, a: Arrivals, found: Ints, length: Ints) -> Bools:
        too_many: Bools = np.maximum(found, 0) + length > self._limit[a.node]
        return too_many

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
        self._debt[:] = np.maximum(self._debt - (until_ns - since) * self._rate, self._floor)
        self.now_ns = until_ns
