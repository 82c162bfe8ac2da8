"""The forecaster interface: from the samples of n nodes to the buffer sizes that they will need.

The forecast is the *peak backlog* (bytes) that the fluid queue of a node would reach within each horizon if nothing
were dropped, at the node's own service rate.  This is exactly the limit that would save every packet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from testbed.records.events import ForecastMade, Ints, TrafficSampled


class Forecaster(Protocol):
    """Predicts for n nodes at once; stateful, one `step` a sample."""

    @property
    def horizon_ns(self) -> tuple[int, ...]:
        """Return the horizons, ascending, each counted from the sample."""
        ...

    def step(self, sample: TrafficSampled, now_ns: int) -> ForecastMade:
        """Process the next sample of every node (same nodes, same order each time) and return the forecast."""
        ...


MakeForecaster = Callable[[tuple[str, ...], Ints], Forecaster | None]
"""Gives a fresh forecaster for nodes and their service rates (bit/s, [n]); None: the buffer policy predicts nothing."""
