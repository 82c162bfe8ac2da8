"""Keys of single buffer policies, written under `buffer.options`."""

from __future__ import annotations

from pydantic import Field

from testbed.scenario.base import Duration, Number, Spec
from testbed.units import NS_PER_S


class BdpOptions(Spec):
    """Keys of `bdp`."""

    rtt_ns: Duration = Field("100ms", alias="rtt", gt=0, le=10 * NS_PER_S, description="round trip of the connections")
    flows: int = Field(1, ge=1, le=10**9, description="connections that are not in step")


class CodelOptions(Spec):
    """Keys of `codel`."""

    target_ns: Duration = Field("5ms", alias="target", gt=0, le=NS_PER_S, description="delay that a queue may keep")
    interval_ns: Duration = Field(
        "100ms", alias="interval", gt=0, le=10 * NS_PER_S, description="time for which more is excused"
    )


class PieOptions(Spec):
    """Keys of `pie`."""

    target_ns: Duration = Field("15ms", alias="target", gt=0, le=NS_PER_S, description="delay that a queue may keep")
    update_ns: Duration = Field("15ms", alias="update", gt=0, le=NS_PER_S, description="time between two steps of p")
    burst_ns: Duration = Field(
        "150ms", alias="burst", ge=0, le=10 * NS_PER_S, description="time after a short queue without drops"
    )


class CredenceOptions(Spec):
    """Keys of `credence`."""

    guarantee_ratio: Number = Field(
        0.5, alias="guarantee", gt=0.0, le=1.0, description="share of the pool that is divided among the nodes for good"
    )
