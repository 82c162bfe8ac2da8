"""Which network a scenario has: a family and its size."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from testbed import units
from testbed.scenario.base import Duration, Rate, Spec
from testbed.scenario.tables import TOPOLOGIES, TopologyFamily, options_of

MAX_LINK_DELAY_NS = 10 * units.NS_PER_S
MAX_RATE_BPS = 100 * 10**9


class TopologySpec(Spec):
    """Which network: a family and its size."""

    family: TopologyFamily = Field(description="one of the files in topologies/")
    nodes: int = Field(3, ge=1, le=1000, description="buffer nodes behind the balancer")
    clients: int = Field(2, ge=1, le=200, description="hosts that send")
    node_rate_bps: Rate = Field(
        "100Mbit", alias="node_rate", gt=0, le=MAX_RATE_BPS, description="rate at which a node serves"
    )
    link_delay_ns: Duration = Field(
        "0ms", alias="link_delay", le=MAX_LINK_DELAY_NS, description="one-way delay of client and node links"
    )
    second_tier: int = Field(
        0, ge=0, le=1000, description="family cascade: further nodes that take only what the first ones deflect"
    )
    switch_ports: Literal["auto", "afxdp", "packet"] = Field(
        "auto", description="how the emulated switch takes frames: AF_XDP sockets, packet sockets, or what fits"
    )
    options: dict[str, Any] | None = Field(None, description="keys that the family itself declares")

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_the_family(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("family"), str) and data["family"] in TOPOLOGIES:
            return {**TOPOLOGIES[data["family"]].defaults, **data}
        return data

    @model_validator(mode="after")
    def _sizes_fit_the_family(self) -> TopologySpec:
        row = TOPOLOGIES[self.family]
        if self.second_tier and "second_tier" not in row.keys:
            owners = ", ".join(other.name for other in TOPOLOGIES if "second_tier" in other.keys)
            raise ValueError(f"second_tier is for family {owners}, not {self.family}")
        if refusal := row.refusal(self):
            raise ValueError(refusal)
        return self

    @model_validator(mode="after")
    def _options_are_those_of_the_family(self) -> TopologySpec:
        options_of(TOPOLOGIES[self.family], self.options)
        return self

    @property
    def all_nodes(self) -> int:
        """Return how many buffer nodes both tiers have."""
        return self.nodes + self.second_tier
