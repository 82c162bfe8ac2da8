"""Static buffers: one size for ever.

`static-min` and `static-max` bracket what any policy can do: least memory and most loss, most memory and least loss.
`static-mean` answers the question that comes next: does a policy win because it decides well, or because it reserves
more on average?  Give it the mean size of the run it is compared with (`buffer.mean`); without one it has the size
halfway between floor and cap.

Memory is finite: where the pool is smaller than nodes × size, each node reserves its fair share of the pool, the pool
divided by the nodes.  Reserving in order of arrival would starve the node that starts last.
"""

from __future__ import annotations

import numpy as np

from testbed.policies.arithmetic import Arithmetic, Arrays, Sample, Values
from testbed.records.events import Ints
from testbed.scenario.model import BufferSpec


class StaticRule:
    """The same size always."""

    asks_always = False

    def __init__(self, size_bytes: int, count: int, ops: Arithmetic = Arrays) -> None:
        self._initial: Ints = np.full(count, size_bytes, dtype=np.int64)
        self._size = ops.of_array(self._initial)

    def initial_bytes(self) -> Ints:
        """Return the size."""
        initial: Ints = self._initial.copy()
        return initial

    def wish_bytes(self, sample: Sample, predicted_bytes: Values, severity_ratio: Values) -> Values:
        """Return the size."""
        return self._size


def static_size_bytes(spec: BufferSpec, members: int) -> int:
    """Return what one node reserves under a static policy when `members` nodes share the pool."""
    halfway = (spec.min_bytes + spec.max_bytes) // 2
    mean = halfway if spec.mean_bytes is None else spec.mean_bytes
    size = {"static-min": spec.min_bytes, "static-mean": mean, "static-max": spec.max_bytes}[spec.policy]
    return size if spec.pool_bytes is None else min(size, spec.pool_bytes // members)
