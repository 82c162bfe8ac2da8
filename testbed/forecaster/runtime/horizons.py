"""The horizons of the model, in samples, and the bound of what it may say at each."""

from __future__ import annotations

HORIZON_SAMPLES = (1, 2, 5, 10, 20)
LOOK_AHEAD = HORIZON_SAMPLES[-1]
# The most growth that is ever forecast, in intervals.  A sum of positive steps in a logarithm can leap to a million
# where a sample is like none in training; no queue of training or validation grew by as much as this.
MOST_GROWTH = tuple(30.0 + 10.0 * horizon for horizon in HORIZON_SAMPLES)
