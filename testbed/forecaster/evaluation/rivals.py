"""What a forecast has to beat: rules of a few lines that need no training.

Two repeat the past; two are the smoothing forecasters that buffer policies may use instead of the LSTM.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from testbed.forecaster.data.dataset import Samples
from testbed.forecaster.runtime.horizons import HORIZON_SAMPLES
from testbed.policies.forecast import Forecaster
from testbed.policies.forecast_ewma import EwmaForecaster
from testbed.policies.forecast_holt import HoltForecaster
from testbed.records.events import Ints

RIVALS = ("last value", "last peak", "EWMA", "Holt")
SMOOTHERS: Mapping[str, Callable[..., Forecaster]] = {"EWMA": EwmaForecaster, "Holt": HoltForecaster}


def rival_needs(name: str, samples: Samples) -> NDArray[np.int64]:
    """Return the need that a rival predicts at every sample, in bytes, shape [S, T, horizons].

    Args:
        name: one of `RIVALS`.
        samples: of S nodes, T samples each.
    """
    if name == "last value":
        return np.repeat(samples.backlog_bytes[:, :, None], len(HORIZON_SAMPLES), axis=2)
    if name == "last peak":
        return np.stack([_last_peak(samples.backlog_bytes, horizon) for horizon in HORIZON_SAMPLES], axis=2)
    horizon_ns = tuple(horizon * samples.interval_ns for horizon in HORIZON_SAMPLES)
    return forecaster_needs(SMOOTHERS[name](samples.rate_bps, samples.interval_ns, horizon_ns), samples)


def forecaster_needs(forecaster: Forecaster, samples: Samples) -> NDArray[np.int64]:
    """Return what a forecaster predicts at every sample, in bytes, shape [S, T, horizons]."""
    made = [forecaster.step(event, step * samples.interval_ns) for step, event in enumerate(samples.events())]
    return np.stack([forecast.need_bytes for forecast in made], axis=1)


def _last_peak(backlog_bytes: Ints, horizon: int) -> Ints:
    """Return the highest backlog of the last `horizon` samples and the present one: the future will be as the past."""
    padded = np.pad(backlog_bytes, ((0, 0), (horizon, 0)))
    return np.asarray(np.lib.stride_tricks.sliding_window_view(padded, horizon + 1, axis=1).max(axis=2))
