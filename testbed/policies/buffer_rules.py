"""The sizing rules by the name that a scenario gives them."""

from __future__ import annotations

from testbed.policies.arithmetic import Arithmetic, Arrays
from testbed.policies.buffer import SizingRule
from testbed.policies.buffer_dynamic_threshold import DynamicThresholdRule
from testbed.policies.buffer_predictive import PredictiveRule
from testbed.policies.buffer_reactive import ReactiveRule
from testbed.policies.buffer_static import StaticRule, static_size_bytes
from testbed.scenario.model import BufferSpec

PREDICTIVE = ("ewma", "holt", "lstm", "oracle")


def make_rule(spec: BufferSpec, count: int, members: int, ops: Arithmetic = Arrays) -> SizingRule:
    """Return the rule of `spec.policy` for `count` nodes of a cluster of `members` that share the pool.

    It takes samples and returns sizes in the arithmetic `ops`.
    """
    if spec.policy in PREDICTIVE:
        return PredictiveRule(spec, count, ops)
    if spec.policy == "reactive":
        return ReactiveRule(spec, count, ops)
    if spec.policy == "dynamic-threshold":
        return DynamicThresholdRule(spec, count, ops)
    return StaticRule(static_size_bytes(spec, members), count, ops)


def heeds_severity(spec: BufferSpec) -> bool:
    """Return whether the sizes of that policy depend on how strongly a burst is announced."""
    return spec.policy in PREDICTIVE and spec.policy != "oracle" and spec.precursor_gain > 0
