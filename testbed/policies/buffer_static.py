"""Static buffers: one constant size.

`static-min` and `static-max` are the two extremes: least memory and most loss, most memory and least loss.
`static-mean` shows whether a policy is better because of its decisions or because it reserves more memory on average:
set `buffer.mean` to the mean size of the run that it is compared with.  Without `buffer.mean`, the size is halfway
between floor and cap.

If the pool is smaller than nodes × size, each node reserves the pool divided by the number of nodes.  If memory were
reserved in the order of the requests, the node that starts last would get none.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from testbed.policies.arithmetic import Arithmetic, Arrays, Sample, Values
from testbed.policies.buffer import BufferPolicy
from testbed.records.events import Ints
from testbed.scenario.buffer import BufferSpec


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
    size = _SIZES[spec.policy](spec)
    return size if spec.pool_bytes is None else min(size, spec.pool_bytes // members)


def _mean_bytes(spec: BufferSpec) -> int:
    return (spec.min_bytes + spec.max_bytes) // 2 if spec.mean_bytes is None else spec.mean_bytes


_SIZES: dict[str, Callable[[BufferSpec], int]] = {
    "static-min": lambda spec: spec.min_bytes,
    "static-mean": _mean_bytes,
    "static-max": lambda spec: spec.max_bytes,
}


def _rule(spec: BufferSpec, count: int, members: int, ops: Arithmetic) -> StaticRule:
    return StaticRule(static_size_bytes(spec, members), count, ops)


ROWS = (
    BufferPolicy(name="static-min", doc="the limit is always `min`: lowest memory use, highest loss", rule=_rule),
    BufferPolicy(name="static-mean", doc="always `mean`, by default halfway between `min` and `max`", rule=_rule),
    BufferPolicy(name="static-max", doc="always `max`: the most memory and the least loss", rule=_rule),
)
