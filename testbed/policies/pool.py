"""The pool: one memory budget that the buffers of all nodes share.

Each node has a *grant*, the memory reserved for it.  The sum of the grants never exceeds the capacity.  A request below
the grant returns memory and always succeeds.  A request above it is granted as far as memory is free.  A grant below
the request is a partial refusal; the node asks again with its next sample.  If several nodes grow in the same request,
they share the free memory in proportion to what they lack.

No node can take memory from another: a node keeps its grant until it returns it.  So every node always keeps at least
the floor that it starts with.

**Dynamic threshold** is another rule for the same pool.  Choudhury and Hahne let a queue hold at most

    T = alpha × (B - sum of all that is held)

A packet switch compares T with the queue for every packet.  Here memory is granted once per sample, so the rule is
solved for the grant g, given what the others hold:

    g <= alpha × (free + held - g)    =>    g <= alpha / (1 + alpha) × (free + held)

It is applied to every request, growing or not: when others take memory, T decreases and the node must return memory,
but never memory in use (`used_bytes`), as a switch does not discard queued packets either. k busy nodes converge to
alpha × B / (1 + alpha × k) each, and part of the pool stays free for the next one.

**ABM** divides alpha by the number n of congested queues, so that all of them together hold at most alpha × free, and a
new one finds as much free memory as before: alpha × B / ((1 + alpha) × n) each instead of alpha × B / (1 + alpha × n).
A node is congested if it holds or requests more than its initial grant.  ABM also multiplies by the ratio of the drain
rate of a queue to the rate of its port; this is 1 here, because each node has its own link.

The grants are stored in an array that is passed in.  Agents in different processes may share it; then the caller holds
a lock around `handle`.

Source: A. K. Choudhury, E. L. Hahne, "Dynamic queue length thresholds for shared-memory packet switches", IEEE/ACM
Transactions on Networking 6(2), 1998, equation 1; V. Addanki, M. Apostolaki, M. Ghobadi, S. Schmid, L. Vanbever, "ABM:
active buffer management in datacenters", SIGCOMM 2022.  They count queued packets; we count reserved memory.
"""

from __future__ import annotations

import numpy as np

from testbed.policies.rows import NodeRows, Rows
from testbed.records.events import Ints, LimitGranted, NodeLeft, RequestLimit
from testbed.scenario.buffer import BufferSpec
from testbed.scenario.tables import BUFFER_POLICIES


class Pool:
    """Grants memory to `nodes` from one budget.

    Args:
        capacity_bytes: the budget; None: every request is granted.
        nodes: the nodes that share it.
        grants_bytes: initial grants, int64 [n]; kept and changed in place.
        alpha: ratio of the dynamic threshold; None: first come, first served.
        among_active: whether the nodes above their initial limit share alpha.

    Raises:
        ValueError: the initial grants exceed the capacity, or their number is not that of the nodes.
    """

    def __init__(
        self,
        capacity_bytes: int | None,
        nodes: tuple[str, ...],
        grants_bytes: Ints,
        alpha: float | None = None,
        among_active: bool = False,
    ) -> None:
        if grants_bytes.shape != (len(nodes),) or grants_bytes.dtype != np.int64:
            raise ValueError(f"{len(nodes)} nodes need int64 grants of that length, got {grants_bytes.dtype}")
        if capacity_bytes is not None and grants_bytes.sum() > capacity_bytes:
            raise ValueError(f"the first grants ({grants_bytes.sum()} B) exceed the pool ({capacity_bytes} B)")
        self._rows = NodeRows(nodes)
        self._capacity = capacity_bytes
        self._alpha, self._among_active = alpha, among_active
        self._start = grants_bytes.copy()
        self.grants_bytes = grants_bytes

    @property
    def free_bytes(self) -> int | None:
        """Return the free memory; None if the pool is unlimited."""
        return None if self._capacity is None else self._capacity - int(self.grants_bytes.sum())

    def handle(self, message: RequestLimit | NodeLeft, now_ns: int) -> list[LimitGranted]:
        """Answer a request, or take back the memory above the initial grant of a node that left."""
        if isinstance(message, NodeLeft):
            row = self._rows.of((message.node,))
            self.grants_bytes[row] = np.minimum(self.grants_bytes[row], self._start[row])
            return []
        rows = self._rows.of(message.nodes)
        granted = message.wanted_bytes
        if self._capacity is not None:
            granted = self._bounded(rows, granted, message.used_bytes, self._capacity)
        self.grants_bytes[rows] = granted
        return [LimitGranted(nodes=message.nodes, granted_bytes=granted)]

    def _bounded(self, rows: Rows, wanted: Ints, used: Ints, capacity: int) -> Ints:
        held = self.grants_bytes[rows]
        free = capacity - int(self.grants_bytes.sum())
        if self._alpha is not None:
            alpha = self._alpha / self._active(rows, wanted)
            threshold = (alpha / (1.0 + alpha) * (free + held)).astype(np.int64)
            wanted = np.minimum(wanted, np.maximum(threshold, self._start[rows]))
            if len(used):
                wanted = np.maximum(wanted, np.minimum(used, held))
        kept = np.minimum(wanted, held)
        lacking = wanted - kept
        free += int(held.sum()) - int(kept.sum())
        lack = int(lacking.sum())
        if lack > free:
            lacking = (lacking * (free / lack)).astype(np.int64)  # rounded down: never a byte too much
        granted: Ints = kept + lacking
        return granted

    def _active(self, rows: Rows, wanted: Ints) -> int:
        """Return how many nodes share alpha: those above their initial grant after these requests; at least 1."""
        if not self._among_active:
            return 1
        grants = self.grants_bytes.copy()
        grants[rows] = wanted
        return max(1, int(np.count_nonzero(grants > self._start)))


def make_pool(spec: BufferSpec, nodes: tuple[str, ...], grants_bytes: Ints) -> Pool:
    """Return the pool of a scenario's `buffer`; `grants_bytes` as for `Pool`."""
    row = BUFFER_POLICIES[spec.policy]
    return Pool(spec.pool_bytes, nodes, grants_bytes, spec.alpha if row.shares_pool else None, row.among_active)
