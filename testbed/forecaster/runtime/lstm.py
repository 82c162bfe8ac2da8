"""The forecaster as it runs in a node: features, one step of the `Cell`, bytes.  O(1) a sample; torch is not imported.

The need is rounded to whole kB, so that the last digits of a matrix product, which differ between machines, do not
show. Until `WARM_UP_SAMPLES` have been seen the forecast is 0: the floor of the buffer policy rules.
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from testbed.forecaster.runtime.artefact import Model, load_model
from testbed.forecaster.runtime.cell import Cell
from testbed.forecaster.runtime.features import FeatureExtractor
from testbed.policies.fluid import service_bytes
from testbed.records.events import Floats, ForecastMade, Ints, TrafficSampled

__all__ = ["WARM_UP_SAMPLES", "LstmForecaster", "Model", "Network", "NetworkForecaster", "load_model"]

Float32s = NDArray[np.float32]
WARM_UP_SAMPLES = 20
ROUNDING_BYTES = 1000
_ONSET_STEPS = 10_000


class Network(Protocol):
    """What makes growth of features; `cell.Cell` is one.

    Attributes:
        inputs: float32 [features, n], to be filled before each step.
        logits: float32 [h, n], onset logits after the last step, always the same array.
    """

    inputs: Float32s
    logits: Float32s

    def advance(self) -> None:
        """Go on by the sample in `inputs`."""
        ...

    def growth(self) -> Floats:
        """Return the growth ``log(1 + (need - backlog) / u)`` after the last step, [h, n], reused."""
        ...

    def growth_of_one(self) -> list[float]:
        """Return the same for n = 1, [h]."""
        ...


class NetworkForecaster:
    """Predicts the buffer need of n nodes; implements `policies.forecast.Forecaster`.

    Args:
        network: for n nodes, in a fresh state.
        horizon_samples: its h horizons, ascending.
        nodes: names, in the order of every sample.
        rate_bps: service rates of the nodes, shape [n].
        sample_interval_ns: nominal time between samples.
    """

    def __init__(
        self,
        network: Network,
        horizon_samples: tuple[int, ...],
        nodes: tuple[str, ...],
        rate_bps: Ints,
        sample_interval_ns: int,
    ) -> None:
        if len(nodes) != len(rate_bps):
            raise ValueError(f"{len(nodes)} nodes but {len(rate_bps)} rates")
        self._nodes = nodes
        self._horizon_ns = tuple(samples * sample_interval_ns for samples in horizon_samples)
        self._seen = 0
        self._cell = network
        self._features = FeatureExtractor(rate_bps, sample_interval_ns, self._cell.inputs)
        self._logit = self._cell.logits[-1]
        # In units of the rounding, so that rint() is all the rounding takes.
        self._unit = service_bytes(rate_bps, sample_interval_ns) / ROUNDING_BYTES
        self._unit_of_one = float(self._unit[0])
        self._no_need = np.zeros((len(nodes), len(self._horizon_ns)), dtype=np.int64)
        self._no_onset = np.zeros(len(nodes), dtype=np.float64)

    @property
    def horizon_ns(self) -> tuple[int, ...]:
        """Return the horizons, ascending, counted from the sample."""
        return self._horizon_ns

    def step(self, sample: TrafficSampled, now_ns: int) -> ForecastMade:
        """Take in the next sample of every node and return the forecast.

        Raises:
            ValueError: when the sample is of other nodes.
        """
        if sample.nodes != self._nodes:
            raise ValueError(f"a sample of {sample.nodes[:3]}… for the forecaster of {self._nodes[:3]}…")
        self._features.step(
            sample.arrived_bytes, sample.peak_1ms_bytes, sample.backlog_bytes, sample.new_flows, sample.interval_ns
        )
        self._cell.advance()
        self._seen += 1
        if self._seen < WARM_UP_SAMPLES:
            return ForecastMade(
                nodes=self._nodes,
                horizon_ns=self._horizon_ns,
                need_bytes=self._no_need.copy(),
                onset_ratio=self._no_onset.copy(),
            )
        if len(self._nodes) == 1:
            need, onset = self._said_of_one(sample.backlog_bytes.item())
        else:
            need, onset = self._need_bytes(sample.backlog_bytes), self._onset_ratio()
        return ForecastMade(nodes=self._nodes, horizon_ns=self._horizon_ns, need_bytes=need, onset_ratio=onset)

    def _said_of_one(self, backlog_bytes: int) -> tuple[Ints, NDArray[np.float64]]:
        """Return need and onset of one node in plain numbers; see `cell` for why."""
        unit, backlog = self._unit_of_one, backlog_bytes / ROUNDING_BYTES
        need = [round(math.expm1(growth) * unit + backlog) * ROUNDING_BYTES for growth in self._cell.growth_of_one()]
        odds = round((math.tanh(self._logit.item() * 0.5) + 1.0) * (_ONSET_STEPS / 2)) / _ONSET_STEPS
        return np.array((need,), dtype=np.int64), np.array((odds,))

    def _need_bytes(self, backlog_bytes: Ints) -> Ints:
        need = self._cell.growth()
        np.expm1(need, need)
        np.multiply(need, self._unit, need)
        np.add(need, backlog_bytes / ROUNDING_BYTES, need)
        np.rint(need, need)
        whole: Ints = need.T.astype(np.int64)
        whole *= ROUNDING_BYTES
        return whole

    def _onset_ratio(self) -> NDArray[np.float64]:
        # (1 + tanh(z / 2)) / 2 to four digits: as many as anyone reads, and the same on every machine.
        odds = np.tanh(self._logit.astype(np.float64) * 0.5)
        return np.asarray(np.rint((odds + 1.0) * (_ONSET_STEPS / 2)) / _ONSET_STEPS)


class LstmForecaster(NetworkForecaster):
    """The same with the LSTM of a model from `load_model`."""

    def __init__(self, model: Model, nodes: tuple[str, ...], rate_bps: Ints, sample_interval_ns: int) -> None:
        super().__init__(Cell(model, len(nodes)), model.horizon_samples, nodes, rate_bps, sample_interval_ns)
