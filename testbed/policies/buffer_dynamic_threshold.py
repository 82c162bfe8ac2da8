"""Dynamic threshold: a node takes memory as its queue grows, up to a share of the free memory.

In a shared-memory switch, a queue takes a memory cell for each packet and may do so while it is shorter than
T = alpha × free.  Here a node requests memory once per sample.  So it always requests `min` bytes more than its queue
holds, which can be filled until the next request.  The pool limits the grant to T, because only the pool knows how much
memory is free (`pool`).  So the inputs of this rule are the node's own samples only.

T decreases when other nodes take memory, so the node sends a request with every sample.  `abm` has the same wish, but
the pool uses a different threshold (`pool`).

Source: A. K. Choudhury, E. L. Hahne, "Dynamic queue length thresholds for shared-memory packet switches", IEEE/ACM
Transactions on Networking 6(2), 1998.  Their rule acts on each packet, ours once per sample.
"""

from __future__ import annotations

import numpy as np

from testbed.policies.arithmetic import Arithmetic, Arrays, Sample, Values
from testbed.policies.buffer import BufferPolicy, Range
from testbed.records.events import Ints
from testbed.scenario.buffer import BufferSpec


class DynamicThresholdRule:
    """Wishes the present backlog and one floor more."""

    asks_always = True

    def __init__(self, spec: BufferSpec, count: int, ops: Arithmetic = Arrays) -> None:
        self._ops, self._range = ops, Range(spec, ops)
        self._count = count

    def initial_bytes(self) -> Ints:
        """Return the floor."""
        return np.full(self._count, self._range.floor_bytes, dtype=np.int64)

    def wish_bytes(self, sample: Sample, predicted_bytes: Values, severity_ratio: Values) -> Values:
        """Return backlog + floor, in steps."""
        return self._range.stepped(self._ops.real(sample.backlog_bytes))


def _rule(spec: BufferSpec, count: int, _members: int, ops: Arithmetic) -> DynamicThresholdRule:
    return DynamicThresholdRule(spec, count, ops)


ROWS = (
    BufferPolicy(
        name="dynamic-threshold",
        doc="the limit grows with the backlog, up to `alpha` × free pool memory",
        source='Choudhury, Hahne, "Dynamic queue length thresholds for shared-memory packet switches", 1998',
        shares_pool=True,
        rule=_rule,
    ),
    BufferPolicy(
        name="abm",
        doc="as `dynamic-threshold`, with `alpha` divided by the number of nodes above their initial limit",
        source='Addanki et al., "ABM: active buffer management in datacenters", SIGCOMM 2022',
        shares_pool=True,
        among_active=True,
        rule=_rule,
    ),
)
