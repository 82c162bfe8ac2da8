"""The mesh between the nodes, as a scenario describes it.

All timeouts of the mesh are computed from these: the age up to which a report counts from `sync_interval`, the time
that a node may be silent from `heartbeat` and `misses` (`policies/membership.py`, `policies/agreement.py`).
"""

from __future__ import annotations

from pydantic import Field

from testbed import units
from testbed.scenario.base import Duration, Spec


class MeshSpec(Spec):
    """How the nodes monitor each other and share their state."""

    sync_interval_ns: Duration = Field(
        "100ms", alias="sync_interval", ge=10 * units.NS_PER_MS, description="interval between state messages"
    )
    heartbeat_ns: Duration = Field(
        "10ms", alias="heartbeat", ge=5 * units.NS_PER_MS, description="interval between heartbeats"
    )
    misses: int = Field(
        5, ge=2, le=100, description="consecutive heartbeats that may be missing before a node is suspected"
    )
    watchers: int = Field(3, ge=1, le=16, description="monitors of each node; with 1, that one alone decides")

    @property
    def silence_ns(self) -> int:
        """Return how long a node may not be heard: half a heartbeat beyond the misses, for the jitter of the last."""
        return self.misses * self.heartbeat_ns + self.heartbeat_ns // 2
