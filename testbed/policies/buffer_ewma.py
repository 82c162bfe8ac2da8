"""`ewma`: the predictive rule with a forecast from the recent mean of the arrivals (`forecast_ewma`)."""

from __future__ import annotations

from testbed.policies.buffer import BufferPolicy, Foresight
from testbed.policies.buffer_predictive import scaled_rule
from testbed.policies.forecast import MakeForecaster
from testbed.policies.forecast_ewma import EwmaForecaster
from testbed.policies.forecast_path import horizons_ns


def _forecaster(given: Foresight) -> MakeForecaster:
    spec = given.spec
    return lambda _nodes, rate_bps: EwmaForecaster(rate_bps, spec.sample_interval_ns, horizons_ns(spec))


ROWS = (
    BufferPolicy(
        name="ewma",
        doc="expects the recent mean rate to go on",
        source='R. G. Brown, "Statistical forecasting for inventory control", 1959',
        predicts=True,
        heeds_precursors=True,
        rule=scaled_rule,
        forecaster=_forecaster,
    ),
)
