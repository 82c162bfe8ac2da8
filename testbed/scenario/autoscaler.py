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

    policy: AutoscalerPolicyName = Field(FIXED, description="the rule that decides how many nodes there are to be")
    min_nodes: int = Field(3, alias="min", ge=1, le=MAX_NODES, description="never fewer nodes")
    max_nodes: int = Field(100, alias="max", ge=1, le=MAX_NODES, description="never more nodes")
    period_ns: Duration = Field(
        "10s", alias="period", ge=50 * units.NS_PER_MS, description="time between two decisions, and of one measurement"
    )
    boot_ns: Duration = Field(
        "0ms", alias="boot", le=3600 * units.NS_PER_S, description="least time from the order to a running node"
    )
    warm_up_ns: Duration = Field(
        "0ms", alias="warm_up", le=3600 * units.NS_PER_S, description="time a running node takes until it is ready"
    )
    drain_deadline_ns: Duration = Field(
        "30s", alias="drain_deadline", description="a drained node is gone after it, though flows go on"
    )
    capacity_bps: Rate | None = Field(
        None, alias="capacity", gt=0, description="load that a node serves; default topology.node_rate"
    )
    utilisation_ratio: Number = Field(
        0.7, alias="utilisation", gt=0.0, le=1.0, description="part of its capacity that a node is to be used"
    )
    tolerance_ratio: Number = Field(
        0.1, alias="tolerance", ge=0.0, lt=1.0, description="hpa: a smaller deviation of load from target is ignored"
    )
    stabilisation_ns: Duration = Field(
        "300s", alias="stabilisation", description="nodes are removed when fewer were enough for so long"
    )
    cooldown_ns: Duration = Field("0ms", alias="cooldown", description="least time between two changes")
    step_nodes: int = Field(
        MAX_NODES, alias="step", ge=1, le=MAX_NODES, description="nodes added or removed by one decision, at most"
    )
    error_ratio: Number = Field(
        0.25,
        alias="error",
        gt=0.0,
        description="predictive: with a larger mean error of its forecasts the measured load decides",
    )

    @property
    def horizon_ns(self) -> int:
        """Return how long it takes until a node that is ordered now serves."""
        return self.boot_ns + self.warm_up_ns

    @property
    def scales(self) -> bool:
        """Tell whether anything is ever decided."""
        return self.policy != FIXED
