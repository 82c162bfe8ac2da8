"""Readiness: when the balancer is to hear of a node.

A notification is due when something changed that could change the balancer's mind, or when `KEEPALIVE_NS` have passed
since the last one (a silent node counts as failed).  Material is a change of limit, backlog or prediction by a
32nd of the node's cap, or of the severity by a fifth, since the last notification; so slow drifts are told, and noise
is not.  The arrival rate is the mean since the last notification: what a receiver averages is then evenly
weighted in time however often it was told.
"""

from __future__ import annotations

import numpy as np

from testbed import units
from testbed.events import Floats, Ints, NotifyBalancer, TrafficSampled
from testbed.policies.rows import NodeRows

KEEPALIVE_NS = 100 * units.NS_PER_MS
MATERIAL_PART = 32
MATERIAL_SEVERITY = 0.2


class Readiness:
    """The last that the balancer heard of n nodes, and what it should hear next."""

    def __init__(self, rows: NodeRows, cap_bytes: int) -> None:
        count = len(rows.nodes)
        self._rows = rows
        self._material = max(1, cap_bytes // MATERIAL_PART)
        self._now, self._told = np.zeros((3, count), dtype=np.int64), np.zeros((3, count), dtype=np.int64)
        self._severity, self._severity_told = np.zeros(count), np.zeros(count)
        self._told_ns = np.full(count, -KEEPALIVE_NS, dtype=np.int64)
        self._arrived, self._over_ns = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
        self._rate_bps = np.zeros(count, dtype=np.int64)
        self._early_ns = 0

    def observe(self, sample: TrafficSampled, limit_bytes: Ints, predicted_bytes: Ints, severity: Floats) -> None:
        """Take in the state of all nodes after a sample."""
        self._now[0], self._now[1], self._now[2] = limit_bytes, sample.backlog_bytes, predicted_bytes
        self._severity = severity
        self._early_ns = 3 * sample.interval_ns // 4  # the next sample would be too late
        self._arrived += sample.arrived_bytes
        self._over_ns += sample.interval_ns
        self._rate_bps = (self._arrived * (8.0 * units.NS_PER_S) / self._over_ns).astype(np.int64)

    def resized(self, limit_bytes: Ints) -> None:
        """Take in new limits of all nodes."""
        self._now[0] = limit_bytes

    def notices(self, now_ns: int) -> list[NotifyBalancer]:
        """Return the notification due at `now_ns`, for the nodes concerned (none: an empty list)."""
        due = np.logical_or.reduce(np.abs(self._now - self._told) >= self._material, axis=0)
        due |= np.abs(self._severity - self._severity_told) >= MATERIAL_SEVERITY
        due |= now_ns + self._early_ns - self._told_ns >= KEEPALIVE_NS
        if not np.count_nonzero(due):
            return []
        nodes, rows = self._rows.where(due)
        limit, backlog, predicted = self._now[:, rows]
        severity, rate_bps = self._severity[rows], self._rate_bps[rows]
        self._told[:, rows], self._severity_told[rows], self._told_ns[rows] = self._now[:, rows], severity, now_ns
        self._arrived[rows], self._over_ns[rows] = 0, 0
        return [NotifyBalancer(nodes, *(a.copy() for a in (limit, backlog, predicted, severity, rate_bps)))]
