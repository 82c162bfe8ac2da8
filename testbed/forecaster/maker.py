"""The forecaster that a scenario's buffer policy asks for, made of what only a whole trial has: plan and model."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from testbed.policies import guard
from testbed.policies.buffer import Foresight, buffer_policy
from testbed.policies.forecast import Forecaster, MakeForecaster
from testbed.policies.forecast_oracle import SHARE_MEMORY_NS, ArrivalCells
from testbed.records.events.record import Ints
from testbed.scenario.answers import made
from testbed.scenario.buffer import BufferSpec
from testbed.scenario.tables import BUFFER_POLICIES
from testbed.traffic.plan import PacketPlan


def forecaster_maker(
    spec: BufferSpec, plan: PacketPlan | None, members: int, model_path: Path | None = None
) -> MakeForecaster:
    """Return what makes a fresh forecaster for nodes and their rates [n]; the model is read once, here.

    Args:
        spec: the scenario's `buffer`.
        plan: may be None where the policy does not read it.
        members: nodes in the cluster.
        model_path: of a policy that reads a model; default the one shipped.

    Raises:
        InputError: the model cannot be used.
    """
    make = buffer_policy(spec.policy).forecaster
    if make is None:
        return lambda _nodes, _rate_bps: None
    arrivals = None if plan is None else partial(arrival_cells, plan)
    given = Foresight(spec, members, arrivals, None if model_path is None else str(model_path))
    return make(given) if BUFFER_POLICIES.is_ours(spec.policy) else partial(_guarded, made(make, given))


def _guarded(make: MakeForecaster, nodes: tuple[str, ...], rate_bps: Ints) -> Forecaster | None:
    forecaster = made(make, nodes, rate_bps)
    return None if forecaster is None else guard.GuardedForecaster(forecaster)


def arrival_cells(plan: PacketPlan, bin_ns: int) -> ArrivalCells:
    """Return the plan as the oracle reads it, in bins of `bin_ns`."""
    begun = plan.begun_ns(SHARE_MEMORY_NS) // bin_ns
    bins = plan.t_ns // bin_ns
    span = int(bins.max(initial=0)) + 1
    keys, cell = np.unique(bins * span + begun, return_inverse=True)
    size_bytes = np.bincount(cell, weights=plan.size_bytes, minlength=len(keys)).astype(np.int64)
    return ArrivalCells(keys // span, keys % span, size_bytes)
