"""Which forecaster a scenario's buffer policy gets: the one place that knows them all.

`ewma` and `holt` need only the samples; `lstm` reads the model file, `oracle` the traffic plan.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from testbed.forecaster.runtime.artefact import load_model
from testbed.forecaster.runtime.lstm import LstmForecaster
from testbed.policies import forecasters
from testbed.policies.forecast import Forecaster, MakeForecaster
from testbed.policies.forecast_gated import GatedForecaster
from testbed.policies.forecast_oracle import SHARE_MEMORY_NS, ArrivalCells, OracleForecaster, SharedArrivals
from testbed.policies.forecast_path import horizons_ns, sizing_column
from testbed.records.events import Ints
from testbed.scenario.model import BufferSpec
from testbed.traffic.plan import PacketPlan
from testbed.units import NS_PER_MS

_ORACLE_BIN_NS = NS_PER_MS


def forecaster_maker(
    spec: BufferSpec, plan: PacketPlan, members: int, model_path: Path | None = None
) -> MakeForecaster:
    """Return what makes a fresh forecaster for nodes and their rates [n]; the model is read once, here.

    Args:
        spec: the scenario's `buffer`.
        plan: read by the oracle alone.
        members: nodes in the cluster.
        model_path: of the LSTM; default the one shipped.

    Raises:
        InputError: the model cannot be used.
    """
    if spec.policy == "lstm":
        model = load_model(model_path)

        def lstm(nodes: tuple[str, ...], rate_bps: Ints) -> Forecaster:
            inner = LstmForecaster(model, nodes, rate_bps, spec.sample_interval_ns)
            column = sizing_column(inner.horizon_ns, spec)
            return GatedForecaster(inner, rate_bps, spec.sample_interval_ns, model.quantile, column)

        return lstm
    if spec.policy == "oracle":
        cells = arrival_cells(plan, _ORACLE_BIN_NS)

        def oracle(nodes: tuple[str, ...], rate_bps: Ints) -> Forecaster:
            arrivals = SharedArrivals(cells, _ORACLE_BIN_NS, len(nodes), members)
            return OracleForecaster(arrivals, rate_bps, horizons_ns(spec))

        return oracle
    return lambda _nodes, rate_bps: forecasters.make_forecaster(spec, rate_bps)


def arrival_cells(plan: PacketPlan, bin_ns: int) -> ArrivalCells:
    """Return the plan as the oracle reads it, in bins of `bin_ns`."""
    begun = plan.begun_ns(SHARE_MEMORY_NS) // bin_ns
    bins = plan.t_ns // bin_ns
    span = int(bins.max(initial=0)) + 1
    keys, cell = np.unique(bins * span + begun, return_inverse=True)
    size_bytes = np.bincount(cell, weights=plan.size_bytes, minlength=len(keys)).astype(np.int64)
    return ArrivalCells(keys // span, keys % span, size_bytes)
