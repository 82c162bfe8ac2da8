"""`lstm`: the predictive rule with the forecast of a trained LSTM, behind a gate (`policies/forecast_gated`).

The default policy.  It is not among the other policies because its forecaster reads a model file.
"""

from __future__ import annotations

from pathlib import Path

from testbed.forecaster.buffer_network import as_optioned
from testbed.forecaster.runtime.artefact import load_model
from testbed.forecaster.runtime.lstm import LstmForecaster
from testbed.policies.buffer import BufferPolicy, Foresight
from testbed.policies.buffer_predictive import scaled_rule
from testbed.policies.forecast import Forecaster, MakeForecaster
from testbed.records.events import Ints
from testbed.scenario.buffer_options import NetworkOptions


def _forecaster(given: Foresight) -> MakeForecaster:
    spec = given.spec
    model = load_model(None if given.model is None else Path(given.model))

    def make(nodes: tuple[str, ...], rate_bps: Ints) -> Forecaster:
        inner = LstmForecaster(model, nodes, rate_bps, spec.sample_interval_ns)
        return as_optioned(inner, spec, rate_bps, model.quantile)

    return make


ROWS = (
    BufferPolicy(
        name="lstm",
        doc="forecast by a small LSTM trained on bursty traffic; each node uses its own samples as input",
        source='Hochreiter, Schmidhuber, "Long short-term memory", 1997; the model is described in MODEL.md',
        options=NetworkOptions,
        predicts=True,
        reads_model=True,
        heeds_precursors=True,
        rule=scaled_rule,
        forecaster=_forecaster,
    ),
)
