"""The mesh between the nodes, as a scenario describes it.

All timeouts of the mesh are computed from these: the age up to which a report counts from `sync_interval`, the time
that a node may be silent from `heartbeat` and `misses` (`policies/membership.py`, `policies/agreement.py`).

Heartbeats are most of what a mesh costs: three for each node and interval.  Beyond `SMALL_MESH` nodes the defaults are
half as many, with fewer misses, so that a stop of less than 50 ms (45 in a small mesh) is not mistaken for a crash; one
is then noticed 50 to 70 ms after it.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from testbed import units
from testbed.scenario.base import Duration, Spec

SMALL_MESH = 16
FANOUT = 5
_OF_LARGE = {"heartbeat_ns": 20 * units.NS_PER_MS, "misses": 3}


class MeshSpec(Spec):
    """How the nodes monitor each other and share their state."""

    sync_interval_ns: Duration = Field(
        "100ms", alias="sync_interval", ge=10 * units.NS_PER_MS, description="interval between state messages"
    )
    heartbeat_ns: Duration = Field(
        "10ms",
        alias="heartbeat",
        ge=5 * units.NS_PER_MS,
        description=f"interval between heartbeats. With more than {SMALL_MESH} nodes the defaults are 20ms for "
        "`heartbeat` and 3 for `misses`",
    )
    misses: int = Field(
        5,
        ge=2,
        le=100,
        description="number of consecutive missed heartbeats after which a monitor suspects a node; "
        "the exact timeout is (`misses` + 0.5) × `heartbeat`",
    )
    watchers: int = Field(
        3, ge=1, le=16, description="number of monitors of each node; if it is 1, this monitor decides alone"
    )

    dissemination: Literal["full", "gossip"] = Field(
        "full",
        description="full: all members report in each interval; gossip: only changes are sent, and forwarded",
    )
    fanout: int = Field(
        FANOUT,
        ge=2,
        le=50,
        description="number of members to which a message is sent at a time, "
        f"with gossip or more than {SMALL_MESH} nodes",
    )

    @property
    def gossips(self) -> bool:
        """Return whether only news is sent, and passed on."""
        return self.dissemination == "gossip"

    @property
    def silence_ns(self) -> int:
        """Return how long a node may not be heard: half a heartbeat beyond the misses, for the jitter of the last."""
        return self.misses * self.heartbeat_ns + self.heartbeat_ns // 2

    def of_nodes(self, count: int) -> MeshSpec:
        """Return the same for a mesh of so many nodes: if it is large, with its defaults for what is not written."""
        if count <= SMALL_MESH or self.model_fields_set & set(_OF_LARGE):
            return self
        return self.model_copy(update=_OF_LARGE)
