"""`oracle`: the predictive rule with a forecast that is read from the traffic plan (`forecast_oracle`)."""

from __future__ import annotations

from testbed.policies.buffer import BufferPolicy, Foresight
from testbed.policies.buffer_predictive import unscaled_rule
from testbed.policies.forecast import MakeForecaster
from testbed.policies.forecast_oracle import OracleForecaster, SharedArrivals
from testbed.policies.forecast_path import horizons_ns
from testbed.records.events import Ints
from testbed.units import NS_PER_MS

_BIN_NS = NS_PER_MS


def _forecaster(given: Foresight) -> MakeForecaster:
    assert given.arrivals is not None, "the oracle reads the traffic plan"
    cells = given.arrivals(_BIN_NS)

    def make(nodes: tuple[str, ...], rate_bps: Ints) -> OracleForecaster:
        arrivals = SharedArrivals(cells, _BIN_NS, len(nodes), given.members)
        return OracleForecaster(arrivals, rate_bps, horizons_ns(given.spec))

    return make


ROWS = (
    BufferPolicy(
        name="oracle",
        doc="knows the planned packets; assumes every new flow is sent to this node: a lower "
        "bound on loss, not on memory",
        predicts=True,
        reads_plan=True,
        rule=unscaled_rule,
        forecaster=_forecaster,
    ),
)
