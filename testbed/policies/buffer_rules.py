"""The sizing rules by the name that a scenario gives them."""

from __future__ import annotations

from testbed.policies.buffer import SizingRule
from testbed.policies.buffer_dynamic_threshold import DynamicThresholdRule
from testbed.policies.buffer_predictive import PredictiveRule
from testbed.policies.buffer_reactive import ReactiveRule
from testbed.policies.buffer_static import StaticRule, static_size_bytes
from testbed.spec.scenario import BufferSpec

PREDICTIVE = ("ewma", "holt", "lstm", "oracle")


def make_rule(spec: BufferSpec, count: int, members: int) -> SizingRule:
    """Return the rule of `spec.policy` for `count` nodes of a cluster of `members` that share the pool."""
    if spec.policy in PREDICTIVE:
        return PredictiveRule(spec, count)
    if spec.policy == "reactive":
        return ReactiveRule(spec, count)
    if spec.policy == "dynamic-threshold":
        return DynamicThresholdRule(spec, count)
    return StaticRule(static_size_bytes(spec, members), count)
