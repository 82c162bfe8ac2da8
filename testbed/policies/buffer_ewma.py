"""`ewma`: the predictive rule with a forecast from the recent mean of the arrivals (`forecast_ewma`)."""

from __future__ import annotations

from testbed.policies.buffer import BufferPolicy
from testbed.policies.buffer_predictive import from_samples, scaled_rule
from testbed.policies.forecast_ewma import EwmaForecaster

ROWS = (
    BufferPolicy(
        name="ewma",
        doc="forecast: the arrival rate stays at its exponentially weighted moving average",
        source='R. G. Brown, "Statistical forecasting for inventory control", 1959',
        predicts=True,
        heeds_precursors=True,
        rule=scaled_rule,
        forecaster=from_samples(EwmaForecaster),
    ),
)
