"""The period of a node's arrivals, and what will come if the last period repeats.

Frames of video or sensors come by the clock: what announces them is the time since the last one.  A recurrent cell has
to learn the period of every stream again in its small state; a history of arrivals has it.

**The period** is the lag p up to `LONGEST` at which the arrivals differ least from what they were p samples ago: the
minimum of the average magnitude difference ``D_p = mean |x_t - x_(t-p)|``, x = log(1 + arrivals), an exponentially
weighted mean over about `MEMORY_SAMPLES` samples.  Where nothing is periodic, some lag is still the least; the ratio of
D_p to the mean deviation of x says how much that is worth: 0 for a clock, about 1 for noise.

**The forecast** copies the last period into the future and runs Lindley's recursion over it, from the present backlog:
``q_k = max(b + S_k, S_k - min_(j <= k) S_j)`` with S the running sum of arrivals minus service.

All is elementwise or accumulates along the time, so that one node by itself and many at once compute the same to the
last bit.

Source: M. J. Ross et al., "Average magnitude difference function pitch extractor", IEEE Trans. ASSP 22, 1974.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.forecaster.runtime.horizons import HORIZON_SAMPLES, LOOK_AHEAD
from testbed.records.events import Floats

PERIOD_NAMES = (
    "period_misfit",
    "period",
    "next_arrived",
    "next_arrived_2",
    "next_peak_1ms",
    "next_peak_1ms_2",
    *(f"next_growth_{horizon}" for horizon in HORIZON_SAMPLES),
)
LONGEST = 64
MEMORY_SAMPLES = 50
_SLACK = 0.02  # of the logarithm; below it, differences are no reason to prefer a longer period
_KEPT = LONGEST + 1
_ENDS = np.array(HORIZON_SAMPLES) - 1
_REPEATED = len(PERIOD_NAMES) - len(HORIZON_SAMPLES)


def _sources() -> NDArray[np.int64]:
    """Return, for each period 1 to `LONGEST`, how many samples ago the copies of the next `LOOK_AHEAD` were."""
    ahead, period = np.arange(1, LOOK_AHEAD + 1), np.arange(1, LONGEST + 1)[:, None]
    return np.asarray(-ahead % period)


class PeriodFeatures:
    """Period and repetition of the arrivals of n nodes.

    Args:
        nodes: n.
    """

    def __init__(self, nodes: int) -> None:
        # Latest first, twice, so that the latest LONGEST + 1 always are one view.
        self._histories = tuple(np.zeros((2 * _KEPT, nodes)) for _ in range(3))
        self._lists: tuple[list[float], list[float]] = ([0.0] * _KEPT, [0.0] * _KEPT)  # the same of one node
        self._head = self._seen = 0
        self._differences, self._scratch = np.zeros((LONGEST, nodes)), np.zeros((LONGEST, nodes))
        self._penalty = (_SLACK * np.arange(LONGEST) / LONGEST)[:, None]
        self._mean: Any = 0.0
        self._deviation: Any = 0.0
        self._sources, self._columns = _sources(), np.arange(nodes)
        self._sources_of_one = [tuple(row) for row in self._sources.tolist()]

    def step(self, level: Floats, peak: Floats, arrived: Floats, backlog: Floats, out: NDArray[Any]) -> None:
        """Take in the next sample of every node and write the features.

        Args:
            level: log(1 + `arrived`), [n].
            peak: log(1 + bytes of the busiest millisecond over what the link serves in one), [n].
            arrived: in intervals of the rate, [n].
            backlog: in intervals of the rate, [n].
            out: [len(PERIOD_NAMES), n].
        """
        self._push(level, peak, arrived)
        self._look(level)
        best = self._scratch.argmin(axis=0)
        sources = self._sources[best].T
        levels, peaks, amounts = (kept[self._head :] for kept in self._histories)
        out[0] = self._differences[best, self._columns] / (self._deviation + _SLACK)
        out[1] = (best + 1) / LONGEST
        out[2:4], out[4:6] = levels[sources[:2], self._columns], peaks[sources[:2], self._columns]
        total = np.add.accumulate(amounts[sources, self._columns] - 1.0, 0)
        lowest = np.minimum.accumulate(np.minimum(total, 0.0), 0)
        highest = np.maximum.accumulate(np.maximum(total + backlog, total - lowest), 0)[_ENDS]
        np.log1p(np.maximum(highest - backlog, 0.0), out[_REPEATED:])

    def step_of_one(self, level: float, peak: float, arrived: float, backlog: float, out: NDArray[Any]) -> None:
        """Do the same for n = 1 in plain numbers; `out` is [len(PERIOD_NAMES)]."""
        self._push(level, peak, arrived)
        self._look(level)
        best = int(self._scratch.argmin())
        sources = self._sources_of_one[best]
        first, second = sources[:2]
        peaks, amounts = self._lists
        levels = self._histories[0][self._head :]
        head = (
            self._differences.item(best) / (self._deviation + _SLACK),
            (best + 1) / LONGEST,
            levels.item(first),
            levels.item(second),
            peaks[first],
            peaks[second],
        )
        out[:] = (*head, *_repeated([amounts[source] for source in sources], backlog))
        np.log1p(out[_REPEATED:], out[_REPEATED:])

    def _push(self, level: Any, peak: Any, arrived: Any) -> None:
        """Put a sample before the others."""
        self._head = head = (self._head - 1) % _KEPT
        if len(self._columns) == 1:
            for kept, value in zip(self._lists, (peak, arrived), strict=True):
                kept.insert(0, value)
                kept.pop()
            levels = self._histories[0]
            levels[head] = levels[head + _KEPT] = level
            return
        for history, values in zip(self._histories, (level, peak, arrived), strict=True):
            history[head] = history[head + _KEPT] = values

    def _look(self, level: Any) -> None:
        """Update the differences at all lags, and the deviation; the scratch then has what the period is least of."""
        self._seen += 1
        weight = max(1.0 / self._seen, 1.0 / MEMORY_SAMPLES)
        self._mean = self._mean + weight * (level - self._mean)
        self._deviation = self._deviation + weight * (abs(level - self._mean) - self._deviation)
        scratch, differences = self._scratch, self._differences
        np.subtract(self._histories[0][self._head + 1 : self._head + _KEPT], level, scratch)
        np.abs(scratch, scratch)
        np.subtract(scratch, differences, scratch)
        np.multiply(scratch, weight, scratch)
        np.add(differences, scratch, differences)
        np.add(differences, self._penalty, scratch)


def _repeated(amounts: list[float], backlog: float) -> list[float]:
    """Return by how much the queue grows within each horizon if `amounts` arrive, in the order of the arrays' sums."""
    total = lowest = 0.0
    highest, grown = -1.0, []
    for ahead, amount in enumerate(amounts, 1):
        total += amount - 1.0
        lowest = min(lowest, total)
        highest = max(highest, total + backlog, total - lowest)
        if ahead in HORIZON_SAMPLES:
            grown.append(max(highest - backlog, 0.0))
    return grown
