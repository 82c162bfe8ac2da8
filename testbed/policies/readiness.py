"""Readiness: when a node notifies the balancer.

A notification is due after a change that could affect the decision of the balancer, or `KEEPALIVE_NS` after the last
notification (a silent node counts as failed).  Such a change is one of limit, backlog or prediction by 1/32 of the
node's cap, or of the severity by 1/5, since the last notification.  So slow drifts are reported, and noise is not.  The
arrival rate is the mean since the last notification: so a receiver can average it with equal weight for all times,
whatever the notification rate is.
"""

from __future__ import annotations

from testbed import units
from testbed.policies.arithmetic import Mask, Sample, Values, arithmetic_of
from testbed.policies.rows import NodeRows
from testbed.records.events import NotifyBalancer

KEEPALIVE_NS = 100 * units.NS_PER_MS
SILENT_PAUSES = 5  # a node that is silent for this many of the longest pauses counts as failed
SILENCE_NS = SILENT_PAUSES * KEEPALIVE_NS  # for the default pauses
MATERIAL_PART = 32
MATERIAL_SEVERITY = 0.2


def longest_pause_ns(sample_interval_ns: int) -> int:
    """Return the longest pause between two notifications of a live node, at this sample interval."""
    return max(KEEPALIVE_NS, sample_interval_ns)


class Readiness:
    """The last notifications of n nodes, and when the next one is due.

    Args:
        rows: the nodes.
        cap_bytes: largest size of a buffer.
        limit_bytes: initial limits; their type selects the arithmetic.
    """

    def __init__(self, rows: NodeRows, cap_bytes: int, limit_bytes: Values) -> None:
        self._rows, self._ops = rows, arithmetic_of(limit_bytes)
        self._material = max(1, cap_bytes // MATERIAL_PART)
        none = limit_bytes * 0
        self._now, self._notified = (none, none, none), (none, none, none)  # limit, backlog, predicted
        self._severity = self._notified_severity = 0.0 * none
        self._notified_ns = none - KEEPALIVE_NS
        self._arrived = self._over_ns = self._rate_bps = none
        self._early_ns = 0

    def observe(self, sample: Sample, limit_bytes: Values, predicted_bytes: Values, severity: Values) -> None:
        """Process the state of all nodes after a sample."""
        self._now = (limit_bytes, sample.backlog_bytes, predicted_bytes)
        self._severity = severity
        self._early_ns = 3 * sample.interval_ns // 4  # otherwise the next sample would be too late
        self._arrived = self._arrived + sample.arrived_bytes
        self._over_ns = self._over_ns + sample.interval_ns

    def resized(self, limit_bytes: Values) -> None:
        """Process new limits of all nodes."""
        self._now = (limit_bytes, *self._now[1:])

    def notices(self, now_ns: int) -> list[NotifyBalancer]:
        """Return the notification due at `now_ns` for the nodes concerned; an empty list if none is due."""
        due = abs(self._severity - self._notified_severity) >= MATERIAL_SEVERITY
        due = due | (now_ns + self._early_ns - self._notified_ns >= KEEPALIVE_NS)
        for value, notified in zip(self._now, self._notified, strict=True):
            due = due | (abs(value - notified) >= self._material)
        return [self._notice(due, now_ns)] if self._ops.any(due) else []

    def _notice(self, due: Mask, now_ns: int) -> NotifyBalancer:
        ops = self._ops
        rate_bps = ops.whole(self._arrived * (8.0 * units.NS_PER_S) / ops.maximum(self._over_ns, 1))
        # Without a sample since the last notification, the last rate is repeated.
        self._rate_bps = ops.where(self._over_ns > 0, rate_bps, self._rate_bps)
        nodes, rows = self._rows.where(ops.to_array(due))
        limit, backlog, predicted = (ops.where(due, *pair) for pair in zip(self._now, self._notified, strict=True))
        self._notified = (limit, backlog, predicted)
        self._notified_severity = ops.where(due, self._severity, self._notified_severity)
        self._notified_ns = ops.where(due, now_ns, self._notified_ns)
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
