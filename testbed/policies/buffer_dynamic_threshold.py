"""Dynamic threshold: take memory as the queue grows, up to a share of what is free.

In a shared-memory switch a queue takes a cell for each packet it stores and may do so while it is shorter than
T = alpha × free.  A node takes memory in lumps, once a sample, so it always asks for a floor's worth more than it holds
in its queue: the lump that is filled until it can ask again.  What it gets is bounded by T; that part of the rule needs
to know the free part of the pool and lives there (`pool`), so every input of this rule is in its own samples.

T falls when others take memory, so the pool is asked again with every sample.  `abm` wishes the same and shares the
pool by another threshold (`pool`).

Source: A. K. Choudhury, E. L. Hahne, "Dynamic queue length thresholds for shared-memory packet switches", IEEE/ACM
Transactions on Networking 6(2), 1998.  Ours samples where theirs acts on each packet.
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
