"""The slot table: to which node a new flow goes, and how to change this with the fewest moves.

The switch hashes a flow to one of S slots, and each slot belongs to one node.  So the weight of a node is its number of
slots.  (Maglev, Eisenbud et al., NSDI 2016, section 3.4, has the same table.  Ours is derived from the present table
instead of from permutations, because it changes many times a second.)

Two steps.  *Apportionment* turns real weights into whole numbers by largest remainder: each number differs from its
quota by less than one slot.  In a tie of remainders, the node that already holds more slots gets the slot, so that ties
cause no change.  *Reassignment* takes from each node only the slots beyond its new number, evenly spaced over its own
slots, and assigns them to the nodes below theirs, interleaved.  The number of slots that change is the sum of the
surpluses, which is the minimum for these numbers.  Everything is deterministic.
"""

from __future__ import annotations

import numpy as np

from testbed.records.events import Floats, Ints

MIN_SLOTS = 64
SLOTS_A_NODE = 4
FALLBACKS = 2  # while the port of a flow's node is down, this many next nodes may take its packets


def slot_count(nodes: int) -> int:
    """Return the size of the table for `nodes` nodes: a power of two, at least 64 and at least 4 per node."""
    return max(MIN_SLOTS, 1 << (SLOTS_A_NODE * nodes - 1).bit_length())


def apportion(weights: Floats, slots: int, held: Ints) -> Ints:
    """Return the number of slots of each node, shape [n].

    Args:
        weights: relative and not negative, shape [n], at least one above 0.
        slots: the number of slots to assign.
        held: the present number of slots of each node, shape [n]; decides ties.

    Raises:
        ValueError: no weight is above 0, or one is negative or not finite.
    """
    total = float(weights.sum())
    if not np.isfinite(total) or total <= 0.0 or float(weights.min()) < 0.0:
        raise ValueError(f"weights must be finite, not negative and not all zero, got {weights.tolist()}")
    quotas = weights / total * slots
    counts = np.floor(quotas + 1e-9).astype(np.int64)
    remainders = np.round(quotas - counts, 9)  # so that equal weights tie despite rounding errors
    order = np.lexsort((np.arange(len(weights)), -held, -remainders))
    counts[order[: slots - int(counts.sum())]] += 1
    return counts


def deal(weights: Floats, slots: int) -> Ints:
    """Return an initial table: node indexes, shape [slots], interleaved by weight."""
    counts = apportion(weights, slots, np.zeros(len(weights), dtype=np.int64))
    return _interleaved(counts)


def reweight(current: Ints, weights: Floats) -> Ints:
    """Return the table for `weights` that differs from `current` in as few slots as possible.

    Args:
        current: node index of each slot, shape [slots].
        weights: as for `apportion`, shape [n].
    """
    held = np.bincount(current, minlength=len(weights)).astype(np.int64)
    surplus = held - apportion(weights, len(current), held)
    if not surplus.any():
        return current
    freed = [_evenly_from(np.flatnonzero(current == node), int(surplus[node])) for node in np.flatnonzero(surplus > 0)]
    table: Ints = current.copy()
    table[np.sort(np.concatenate(freed))] = _interleaved(np.maximum(-surplus, 0))
    return table


def _evenly_from(positions: Ints, count: int) -> Ints:
    """Return `count` of `positions`, evenly spaced."""
    chosen: Ints = positions[(2 * np.arange(count) + 1) * len(positions) // (2 * count)]
    return chosen


def _interleaved(counts: Ints) -> Ints:
    """Return each index i ``counts[i]`` times, as evenly mixed as the counts allow."""
    owners = np.repeat(np.arange(len(counts)), counts)
    ranks = np.arange(len(owners)) - np.repeat(np.cumsum(counts) - counts, counts)
    mixed: Ints = owners[np.lexsort((owners, (ranks + 0.5) / counts[owners]))]
    return mixed
