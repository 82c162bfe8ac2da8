"""The mesh between the nodes, as a scenario has it.

Every age in the mesh follows from these: how old a report may be and still count from `sync_interval`, how long a
node may be silent from `heartbeat` and `misses` (`policies/membership.py`, `policies/agreement.py`).
"""

from __future__ import annotations

from pydantic import Field

from testbed import units
from testbed.scenario.base import Duration, Spec


class MeshSpec(Spec):
    """How the nodes watch each other and share what they know."""

    sync_interval_ns: Duration = Field(
        "100ms", alias="sync_interval", ge=10 * units.NS_PER_MS, description="every node tells its state so often"
    )
    heartbeat_ns: Duration = Field(
        "10ms", alias="heartbeat", ge=5 * units.NS_PER_MS, description="a sign of life to every watcher so often"
    )
    misses: int = Field(5, ge=2, le=100, description="heartbeats in a row that may be missing")
    watchers: int = Field(3, ge=1, le=16, description="nodes that watch each node; with 1, that one alone decides")

    @property
    def silence_ns(self) -> int:
        """Return how long a node may not be heard: half a heartbeat beyond the misses, for the jitter of the last."""
        return self.misses * self.heartbeat_ns + self.heartbeat_ns // 2
