"""`holt`: the predictive rule with a forecast from level and damped trend of the arrivals (`forecast_holt`)."""

from __future__ import annotations

from testbed.policies.buffer import BufferPolicy, Foresight
from testbed.policies.buffer_predictive import scaled_rule
from testbed.policies.forecast import MakeForecaster
from testbed.policies.forecast_holt import HoltForecaster
from testbed.policies.forecast_path import horizons_ns


def _forecaster(given: Foresight) -> MakeForecaster:
    spec = given.spec
    return lambda _nodes, rate_bps: HoltForecaster(rate_bps, spec.sample_interval_ns, horizons_ns(spec))


ROWS = (
    BufferPolicy(
        name="holt",
        doc="expects the recent rate and its damped trend to go on",
        source='C. C. Holt, 1957; Gardner, McKenzie, "Forecasting trends in time series", 1985',
        predicts=True,
        heeds_precursors=True,
        rule=scaled_rule,
        forecaster=_forecaster,
    ),
)
