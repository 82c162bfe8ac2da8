"""The parts of a scenario's buffer policy: its rule, and its forecaster if that needs nothing but samples."""

from __future__ import annotations

from collections.abc import Callable

from testbed.policies import guard
from testbed.policies.arithmetic import Arithmetic, Arrays
from testbed.policies.buffer import Foresight, SizingRule, buffer_policy
from testbed.policies.forecast import Forecaster
from testbed.records.events import Ints
from testbed.scenario.answers import made
from testbed.scenario.buffer import BufferSpec
from testbed.scenario.tables import BUFFER_POLICIES


def make_rule(spec: BufferSpec, rate_bps: Ints, members: int, ops: Arithmetic = Arrays) -> SizingRule:
    """Return the rule of `spec.policy` for nodes of these rates, of a cluster of `members` that share the pool.

    It takes samples and returns sizes in the arithmetic `ops`.
    """
    row, count = buffer_policy(spec.policy), len(rate_bps)
    make: Callable[..., SizingRule] | None = row.rated_rule or row.rule
    assert make is not None, f"{spec.policy} has no rule"
    nodes = count if row.rated_rule is None else ops.of_array(rate_bps)
    if BUFFER_POLICIES.is_ours(spec.policy):
        return make(spec, nodes, members, ops)
    return guard.GuardedRule(made(make, spec, nodes, members, ops), count, ops)


def make_forecaster(spec: BufferSpec, rate_bps: Ints) -> Forecaster | None:
    """Return the forecaster of a policy that predicts from the samples alone, for nodes of `rate_bps` [n].

    None for a policy that does not predict, or needs the traffic plan or a model (`forecaster.maker` reads those).
    """
    row = buffer_policy(spec.policy)
    if row.forecaster is None or row.reads_plan or row.reads_model:
        return None
    return row.forecaster(Foresight(spec))((), rate_bps)


def heeds_peers(spec: BufferSpec) -> bool:
    """Return whether the sizes of that policy depend on how strongly other nodes announce a burst."""
    return buffer_policy(spec.policy).heeds_precursors and spec.precursor_gain > 0 and spec.peers
