"""What follows a neural network's forecast in a node, the same for `lstm` and `onnx`: calibration and gate."""

from __future__ import annotations

from typing import cast

from testbed.policies.forecast import Forecaster
from testbed.policies.forecast_corrected import CorrectedForecaster
from testbed.policies.forecast_gated import GatedForecaster
from testbed.policies.forecast_path import sizing_column
from testbed.records.events import Ints
from testbed.scenario.buffer import BufferSpec
from testbed.scenario.buffer_options import NetworkOptions
from testbed.scenario.tables import BUFFER_POLICIES, options_of


def as_optioned(inner: Forecaster, spec: BufferSpec, rate_bps: Ints, quantile: float) -> Forecaster:
    """Return the forecaster of a node: `inner` with what `buffer.options` asks for."""
    options = cast(NetworkOptions, options_of(BUFFER_POLICIES[spec.policy], spec.options))
    interval_ns, forecaster = spec.sample_interval_ns, inner
    if options.coverage == "adaptive":
        forecaster = CorrectedForecaster(forecaster, rate_bps, interval_ns, quantile)
    if options.gate:
        column = sizing_column(inner.horizon_ns, spec)
        forecaster = GatedForecaster(forecaster, rate_bps, interval_ns, quantile, column)
    return forecaster
