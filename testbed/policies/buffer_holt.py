"""`holt`: the predictive rule with a forecast from level and damped trend of the arrivals (`forecast_holt`)."""

from __future__ import annotations

from testbed.policies.buffer import BufferPolicy
from testbed.policies.buffer_predictive import from_samples, scaled_rule
from testbed.policies.forecast_holt import HoltForecaster

ROWS = (
    BufferPolicy(
        name="holt",
        doc="forecast: the arrival rate continues its recent level and damped trend (Holt)",
        source='C. C. Holt, 1957; Gardner, McKenzie, "Forecasting trends in time series", 1985',
        predicts=True,
        heeds_precursors=True,
        rule=scaled_rule,
        forecaster=from_samples(HoltForecaster),
    ),
)
