"""Credence's guarantees, applied to limits: a fixed share of the pool for each node, and forecasts beyond it.

    wish = max(G, predictive wish),      G = guarantee × pool / nodes, not below `min`     (without a pool: × `max`)

**Bounded loss.**  However wrong the forecasts are, a node admits at least G/B of the bytes that any other policy could
admit, even one that knows all arrivals and has at most B bytes for the node (the pool, or `max` if that is less).
Proof: consider a time in which the queue of the node is never empty.  Our node serves at the link rate; the other
policy cannot serve faster.  So the other policy can gain only by the bytes that it still holds at the end of this time.
These are at most B − G more than ours if our node dropped anything: at the time of the drop our queue held G and the
other at most B, and both then served at the same rate.  Our node served at least G in this time, so the ratio is at
most (G + B − G) / G = B/G. If B is the whole pool, this is nodes / guarantee.  **Consistency.**  With perfect forecasts
the wish is that of `oracle` or more, as far as the pool has the memory: the guarantees are taken out of it.

**Same as Credence**: these two properties, and predictions that augment a guarantee.  **Different**: Credence decides
on the drop of each packet, with thresholds that follow those of a push-out queue (longest queue drop), and so has the
better ratio min(1.707 η, N), where η is the error of the forecast.  This needs the lengths of all queues at each
packet. The forecasts here are those of `holt`; Credence trains a random forest to predict drops.

Source: V. Addanki, M. Pacut, S. Schmid, "Credence: augmenting datacenter switch buffer sharing with ML predictions",
NSDI 2024.  The bound above is that of complete partitioning (A. Kesselman, Y. Mansour, "Harmonic buffer management
policy for shared memory switches", 2004) with a part of the memory.
"""

from __future__ import annotations

from typing import cast

import numpy as np

from testbed.policies.arithmetic import Arithmetic, Sample, Values
from testbed.policies.buffer import BufferPolicy
from testbed.policies.buffer_predictive import from_samples, unscaled_rule
from testbed.policies.forecast_holt import HoltForecaster
from testbed.records.events import Ints
from testbed.scenario.buffer import BufferSpec
from testbed.scenario.buffer_options import CredenceOptions
from testbed.scenario.tables import BUFFER_POLICIES, options_of


def guaranteed_bytes(spec: BufferSpec, members: int) -> int:
    """Return what a node has whatever is forecast."""
    options = cast(CredenceOptions, options_of(BUFFER_POLICIES["credence"], spec.options))
    whole = spec.max_bytes if spec.pool_bytes is None else spec.pool_bytes / members
    return min(max(spec.min_bytes, int(options.guarantee_ratio * whole)), spec.max_bytes)


class CredenceRule:
    """The predictive rule with a guarantee in place of its floor."""

    asks_always = False

    def __init__(self, spec: BufferSpec, count: int, members: int, ops: Arithmetic) -> None:
        self._ops = ops
        self._predictive = unscaled_rule(spec, count, members, ops)
        self._initial: Ints = np.full(count, guaranteed_bytes(spec, members), dtype=np.int64)
        self._guarantee = ops.of_array(self._initial)

    def initial_bytes(self) -> Ints:
        """Return the guarantee."""
        initial: Ints = self._initial.copy()
        return initial

    def wish_bytes(self, sample: Sample, predicted_bytes: Values, severity_ratio: Values) -> Values:
        """Return the guarantee, or what the predictive rule wants beyond it."""
        wish: Values = self._ops.maximum(
            self._guarantee, self._predictive.wish_bytes(sample, predicted_bytes, severity_ratio)
        )
        return wish


ROWS = (
    BufferPolicy(
        name="credence",
        doc="each node has a guaranteed share of the pool (`options.guarantee`); more only if `holt` predicts a need",
        source='Addanki, Pacut, Schmid, "Credence", NSDI 2024. Adopted: bound on the loss, not the drop rule',
        options=CredenceOptions,
        predicts=True,
        rule=CredenceRule,
        forecaster=from_samples(HoltForecaster),
    ),
)
