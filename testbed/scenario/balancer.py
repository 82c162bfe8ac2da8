"""How new flows are spread over the nodes and which controller programs the switch, as a scenario writes it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from testbed import units
from testbed.scenario.base import Duration, Spec
from testbed.scenario.tables import BALANCER_POLICIES, BalancerPolicyName, options_of

FrameworkName = Literal["os-ken", "ryu"]

MAX_AFFINITY_IDLE_NS = 18 * 3600 * units.NS_PER_S  # OpenFlow counts idle seconds in 16 bits


class BalancerSpec(Spec):
    """How new flows are spread over the nodes."""

    policy: BalancerPolicyName = Field("cooperative", description="the policy that assigns new flows to nodes")
    affinity_idle_ns: Duration = Field(
        "30s",
        alias="affinity_idle",
        ge=units.NS_PER_S,
        le=MAX_AFFINITY_IDLE_NS,
        description="a flow without packets for this time loses its pin; its next packet may be "
        "assigned to another node",
    )
    options: dict[str, Any] | None = Field(None, description="further keys, declared by the policy")

    @model_validator(mode="after")
    def _options_are_those_of_the_policy(self) -> BalancerSpec:
        options_of(BALANCER_POLICIES[self.policy], self.options)
        return self


class ControllerSpec(Spec):
    """Which controllers program the switch."""

    framework: FrameworkName = Field(
        "os-ken", description="OpenFlow framework of the controller; `ryu` must be installed with `make ryu`"
    )
    standby: bool = Field(False, description="a second controller takes over when the first is dead or hangs")
