"""`onnx`: the predictive rule with the forecast of a network of the user's, in an ONNX file (`onnx_network`).

Rule and gate are those of `lstm`, so that the two differ by nothing but the network.
"""

from __future__ import annotations

from pathlib import Path

from testbed.forecaster.buffer_network import as_optioned
from testbed.forecaster.onnx_network import OnnxNetwork, load_onnx
from testbed.forecaster.runtime.lstm import NetworkForecaster
from testbed.policies.buffer import BufferPolicy, Foresight
from testbed.policies.buffer_predictive import scaled_rule
from testbed.policies.forecast import Forecaster, MakeForecaster
from testbed.records.events import Ints
from testbed.scenario.buffer_options import NetworkOptions


def _forecaster(given: Foresight) -> MakeForecaster:
    spec = given.spec
    assert given.model is not None, "the policy onnx needs a model"
    model = load_onnx(Path(given.model))

    def make(nodes: tuple[str, ...], rate_bps: Ints) -> Forecaster:
        network, interval_ns = OnnxNetwork(model, len(nodes)), spec.sample_interval_ns
        inner = NetworkForecaster(network, model.horizon_samples, nodes, rate_bps, interval_ns)
        return as_optioned(inner, spec, rate_bps, model.quantile)

    return make


ROWS = (
    BufferPolicy(
        name="onnx",
        doc="forecast by your own neural network, an ONNX file named in `buffer.model`; needs onnxruntime",
        source="the interface is in docs/howto/forecasters.md",
        options=NetworkOptions,
        predicts=True,
        reads_model=True,
        needs_model=True,
        heeds_precursors=True,
        rule=scaled_rule,
        forecaster=_forecaster,
    ),
)
