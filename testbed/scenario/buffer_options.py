"""Keys of single buffer policies, written under `buffer.options`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from testbed.scenario.base import Duration, Number, Spec
from testbed.units import NS_PER_S


class BdpOptions(Spec):
    """Keys of `bdp`."""

    rtt_ns: Duration = Field(
        "100ms", alias="rtt", gt=0, le=10 * NS_PER_S, description="round-trip time of the connections"
    )
    flows: int = Field(1, ge=1, le=10**9, description="number of connections that are not synchronised")


class CodelOptions(Spec):
    """Keys of `codel`."""

    target_ns: Duration = Field("5ms", alias="target", gt=0, le=NS_PER_S, description="target of the queueing delay")
    interval_ns: Duration = Field(
        "100ms", alias="interval", gt=0, le=10 * NS_PER_S, description="time for which the target may be exceeded"
    )


class PieOptions(Spec):
    """Keys of `pie`."""

    target_ns: Duration = Field("15ms", alias="target", gt=0, le=NS_PER_S, description="target of the queueing delay")
    update_ns: Duration = Field(
        "15ms", alias="update", gt=0, le=NS_PER_S, description="time between two updates of the drop probability"
    )
    burst_ns: Duration = Field(
        "150ms",
        alias="burst",
        ge=0,
        le=10 * NS_PER_S,
        description="burst allowance: time without drops after a short queue",
    )


class CredenceOptions(Spec):
    """Keys of `credence`."""

    guarantee_ratio: Number = Field(
        0.5,
        alias="guarantee",
        gt=0.0,
        le=1.0,
        description="fraction of the pool that is guaranteed, in equal parts, to the nodes",
    )


class NetworkOptions(Spec):
    """Keys of `lstm` and `onnx`."""

    gate: bool = Field(
        True,
        description="whether forecasts are ignored for a while after forecasts that cost more than none would have",
    )
    coverage: Literal["fixed", "adaptive"] = Field(
        "fixed",
        description="adaptive: the forecast quantile is recalibrated online, so that it is met as often as it says",
    )
