"""How many nodes serve, as a scenario writes it: who decides, within which bounds, and how long a change takes.

The times of a node (`boot`, `warm_up`, `drain_deadline`) hold for the orders `add` and `drain` of `faults`, too.
"""

from __future__ import annotations

from pydantic import Field

from testbed import units
from testbed.scenario.base import Duration, Number, Rate, Spec
from testbed.scenario.tables import AutoscalerPolicyName

FIXED = "fixed"  # the policy that never changes anything
MAX_NODES = 1000


class AutoscalerSpec(Spec):
    """How many nodes serve."""

    policy: AutoscalerPolicyName = Field(FIXED, description="the policy that decides the number of nodes")
    min_nodes: int = Field(3, alias="min", ge=1, le=MAX_NODES, description="minimum number of nodes")
    max_nodes: int = Field(100, alias="max", ge=1, le=MAX_NODES, description="maximum number of nodes")
    period_ns: Duration = Field(
        "10s",
        alias="period",
        ge=50 * units.NS_PER_MS,
        description="time between two decisions; the load is measured over the same time",
    )
    boot_ns: Duration = Field(
        "0ms",
        alias="boot",
        le=3600 * units.NS_PER_S,
        description="boot time: minimum time from the order to add a node until its processes run",
    )
    warm_up_ns: Duration = Field(
        "0ms", alias="warm_up", le=3600 * units.NS_PER_S, description="time a running node takes until it is ready"
    )
    drain_deadline_ns: Duration = Field(
        "30s",
        alias="drain_deadline",
        description="maximum time of draining; after it the node leaves even if it still has active flows",
    )
    capacity_bps: Rate | None = Field(
        None, alias="capacity", gt=0, description="load that a node can serve; default `topology.node_rate`"
    )
    utilisation_ratio: Number = Field(
        0.7,
        alias="utilisation",
        gt=0.0,
        le=1.0,
        description="target utilisation of a node, as a fraction of its capacity",
    )
    tolerance_ratio: Number = Field(
        0.1, alias="tolerance", ge=0.0, lt=1.0, description="hpa: a smaller deviation of load from target is ignored"
    )
    stabilisation_ns: Duration = Field(
        "300s",
        alias="stabilisation",
        description="nodes are removed only after fewer nodes have been sufficient for this time",
    )
    cooldown_ns: Duration = Field("0ms", alias="cooldown", description="minimum time between two changes")
    step_nodes: int = Field(
        MAX_NODES,
        alias="step",
        ge=1,
        le=MAX_NODES,
        description="maximum number of nodes added or removed by one decision",
    )
    price_usd: Number = Field(
        0.096,
        alias="price",
        ge=0.0,
        description="price of a node in USD per hour, for `nodes.cost_usd`; the default is that of an Amazon EC2 "
        "m5.large on demand (Linux, us-east-1)",
    )
    slack_nodes: int = Field(
        1,
        alias="slack",
        ge=0,
        le=MAX_NODES,
        description="`predictive`: number of surplus nodes that are kept; nodes are removed only if more are surplus",
    )
    error_ratio: Number = Field(
        0.5,
        alias="error",
        gt=0.0,
        description="`predictive`: if the mean forecast error exceeds this value, the measured load "
        "is used instead of the forecast",
    )

    @property
    def horizon_ns(self) -> int:
        """Return how long it takes until a node that is ordered now serves."""
        return self.boot_ns + self.warm_up_ns

    @property
    def scales(self) -> bool:
        """Tell whether anything is ever decided."""
        return self.policy != FIXED
