"""Readiness: when the balancer is to hear of a node.

A notification is due when something changed that could change the balancer's mind, or when `KEEPALIVE_NS` have passed
since the last one (a silent node counts as failed).  Material is a change of limit, backlog or prediction by a
32nd of the node's cap, or of the severity by a fifth, since the last notification; so slow drifts are told, and noise
is not.  The arrival rate is the mean since the last notification: what a receiver averages is then evenly
weighted in time however often it was told.
"""

from __future__ import annotations

from testbed import units
from testbed.policies.arithmetic import Mask, Sample, Values, arithmetic_of
from testbed.policies.rows import NodeRows
from testbed.records.events import NotifyBalancer

KEEPALIVE_NS = 100 * units.NS_PER_MS
MATERIAL_PART = 32
MATERIAL_SEVERITY = 0.2


def longest_pause_ns(sample_interval_ns: int) -> int:
    """Return how long a node that lives may pause between two notifications, when it looks at its samples so often."""
    return max(KEEPALIVE_NS, sample_interval_ns)


class Readiness:
    """The last that the balancer heard of n nodes, and what it should hear next.

    Args:
        rows: the nodes.
        cap_bytes: largest size of a buffer.
        limit_bytes: limits at the start; they also say what to compute with.
    """

    def __init__(self, rows: NodeRows, cap_bytes: int, limit_bytes: Values) -> None:
        self._rows, self._ops = rows, arithmetic_of(limit_bytes)
        self._material = max(1, cap_bytes // MATERIAL_PART)
        none = limit_bytes * 0
        self._now, self._told = (none, none, none), (none, none, none)  # limit, backlog, predicted
        self._severity = self._severity_told = 0.0 * none
        self._told_ns = none - KEEPALIVE_NS
        self._arrived = self._over_ns = self._rate_bps = none
        self._early_ns = 0

    def observe(self, sample: Sample, limit_bytes: Values, predicted_bytes: Values, severity: Values) -> None:
        """Take in the state of all nodes after a sample."""
        self._now = (limit_bytes, sample.backlog_bytes, predicted_bytes)
        self._severity = severity
        self._early_ns = 3 * sample.interval_ns // 4  # the next sample would be too late
        self._arrived = self._arrived + sample.arrived_bytes
        self._over_ns = self._over_ns + sample.interval_ns

    def resized(self, limit_bytes: Values) -> None:
        """Take in new limits of all nodes."""
        self._now = (limit_bytes, *self._now[1:])

    def notices(self, now_ns: int) -> list[NotifyBalancer]:
        """Return the notification due at `now_ns`, for the nodes concerned (none: an empty list)."""
        due = abs(self._severity - self._severity_told) >= MATERIAL_SEVERITY
        due = due | (now_ns + self._early_ns - self._told_ns >= KEEPALIVE_NS)
        for value, told in zip(self._now, self._told, strict=True):
            due = due | (abs(value - told) >= self._material)
        return [self._notice(due, now_ns)] if self._ops.any(due) else []

    def _notice(self, due: Mask, now_ns: int) -> NotifyBalancer:
        ops = self._ops
        rate_bps = ops.whole(self._arrived * (8.0 * units.NS_PER_S) / ops.maximum(self._over_ns, 1))
        # Told twice between two samples, the rate is the one told before.
        self._rate_bps = ops.where(self._over_ns > 0, rate_bps, self._rate_bps)
        nodes, rows = self._rows.where(ops.to_array(due))
        limit, backlog, predicted = (ops.where(due, *pair) for pair in zip(self._now, self._told, strict=True))
        self._told = (limit, backlog, predicted)
        self._severity_told = ops.where(due, self._severity, self._severity_told)
        self._told_ns = ops.where(due, now_ns, self._told_ns)
        self._arrived, self._over_ns = ops.where(due, 0, self._arrived), ops.where(due, 0, self._over_ns)
        limit, backlog, predicted = self._now
        return NotifyBalancer(
            nodes=nodes,
            limit_bytes=ops.to_array(limit)[rows],
            backlog_bytes=ops.to_array(backlog)[rows],
            predicted_bytes=ops.to_array(predicted)[rows],
            severity_ratio=ops.to_array(self._severity)[rows],
            arrived_bps=ops.to_array(self._rate_bps)[rows],
        )
