"""Bandwidth-delay product: one constant size, from the rate of the node.

    size = C × rtt / √flows,  between `min` and `max`

This is the rule of thumb for routers: a TCP connection that halves its window keeps a link of rate C busy if the buffer
holds the bytes that the link serves in one round trip. n connections that are not synchronised need √n times less.  The
rule does not consider bursts that do not adapt.  Most static buffers have this size, so it is the baseline that a
dynamic size must improve on.  As with the other static sizes, a pool that is too small is divided equally.

Source: C. Villamizar, C. Song, "High performance TCP in ANSNET", Computer Communication Review 24(5), 1994; G.
Appenzeller, I. Keslassy, N. McKeown, "Sizing router buffers", SIGCOMM 2004 (the root of the flows).
"""

from __future__ import annotations

from typing import cast

from testbed.policies.arithmetic import Arithmetic, Sample, Values
from testbed.policies.buffer import BufferPolicy, Range
from testbed.policies.fluid import BITS_TIMES_NS
from testbed.records.events import Ints
from testbed.scenario.buffer import BufferSpec
from testbed.scenario.buffer_options import BdpOptions
from testbed.scenario.tables import BUFFER_POLICIES, options_of


class BdpRule:
    """The bandwidth-delay product always."""

    asks_always = False

    def __init__(self, spec: BufferSpec, rate_bps: Values, members: int, ops: Arithmetic) -> None:
        options = cast(BdpOptions, options_of(BUFFER_POLICIES["bdp"], spec.options))
        self._ops = ops
        product = rate_bps * (options.rtt_ns / BITS_TIMES_NS / options.flows**0.5)
        size = Range(spec, ops).clip(ops.whole(product))
        self._size = size if spec.pool_bytes is None else ops.minimum(size, spec.pool_bytes // members)

    def initial_bytes(self) -> Ints:
        """Return the size."""
        initial: Ints = self._ops.to_array(self._size)
        return initial

    def wish_bytes(self, sample: Sample, predicted_bytes: Values, severity_ratio: Values) -> Values:
        """Return the size."""
        return self._size


ROWS = (
    BufferPolicy(
        name="bdp",
        doc="constant limit: rate × round-trip time (`options.rtt`) / √`options.flows`",
        source='Appenzeller, Keslassy, McKeown, "Sizing router buffers", SIGCOMM 2004',
        options=BdpOptions,
        rated_rule=BdpRule,
    ),
)
