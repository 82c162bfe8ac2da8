"""Time in the queue and bytes in the queue: at the rate C, a packet behind q bytes waits q / C.

`buffer.delay_target` limits this time.  A FIFO queue with rate C that never holds more than C × target delays no packet
for longer.  So it is a cap of the limit, whatever the policy: loss and delay become one trade-off, controlled by the
target.  The cap is constant, so the queue is never above it, and no admitted packet is affected.
"""

from __future__ import annotations

from testbed.records.events import Ints
from testbed.scenario.buffer import BufferSpec, bytes_within


def caps_bytes(spec: BufferSpec, rate_bps: Ints) -> Ints:
    """Return the maximum sizes for nodes with these rates, shape [n]: `max`, or less by the delay target."""
    caps: Ints = rate_bps * 0 + spec.max_bytes
    if spec.delay_target_ns is None:
        return caps
    target_ns = spec.delay_target_ns
    for k, rate in enumerate(rate_bps.tolist()):  # as Python integers: the product of both may exceed 2^63
        caps[k] = min(spec.max_bytes, bytes_within(rate, target_ns))
    return caps
