"""Which forecaster a buffer policy has."""

from __future__ import annotations

from testbed.policies.forecast import Forecaster
from testbed.policies.forecast_ewma import EwmaForecaster
from testbed.policies.forecast_holt import HoltForecaster
from testbed.policies.forecast_oracle import FutureArrivals, OracleForecaster
from testbed.policies.forecast_path import horizons_ns, sizing_horizon_ns
from testbed.records.events import Ints
from testbed.scenario.model import BufferSpec


def make_forecaster(spec: BufferSpec, rate_bps: Ints) -> Forecaster | None:
    """Return the forecaster of policies `ewma` and `holt` for nodes of `rate_bps` [n], None for all others.

    `make_oracle` makes that of `oracle`; that of `lstm` reads a model file, so the engine hands it in.
    """
    if spec.policy == "ewma":
        return EwmaForecaster(rate_bps, spec.sample_interval_ns, horizons_ns(spec))
    if spec.policy == "holt":
        return HoltForecaster(rate_bps, spec.sample_interval_ns, horizons_ns(spec))
    return None


def make_oracle(spec: BufferSpec, future: FutureArrivals, rate_bps: Ints) -> OracleForecaster:
    """Return the oracle for nodes of `rate_bps` [n] that reads `future`, out to the horizon that sizes the buffer."""
    return OracleForecaster(future, rate_bps, (sizing_horizon_ns(spec),))
