"""How sure a figure is: percentile bootstrap over series.

Whole series are drawn with replacement, since instants of one series depend on each other.  A single series is cut
into `BLOCKS` stretches of equal length, which are drawn instead; they are long against the horizons.

Source: B. Efron, 1979; blocks: H. R. Künsch, 1989 (here without overlap).
"""

from __future__ import annotations

import numpy as np

from testbed.records.events import Floats

BLOCKS = 10
DRAWS = 1000
_LEVEL = (0.025, 0.975)
_SEED = 0xB007


def ratio_interval(numerator: Floats, denominator: Floats) -> list[float] | None:
    """Return the 95 % interval of ``sum(numerator) / sum(denominator)`` over units; None of fewer than three."""
    if len(numerator) < 3:
        return None
    drawn = np.random.default_rng(_SEED).integers(0, len(numerator), (DRAWS, len(numerator)))
    below = denominator[drawn].sum(axis=1)
    if not (below > 0).all():
        return None
    return [float(bound) for bound in np.quantile(numerator[drawn].sum(axis=1) / below, _LEVEL)]


def mean_interval(values: Floats) -> list[float] | None:
    """Return the 95 % interval of the mean over units; those that are not finite do not count."""
    finite = values[np.isfinite(values)]
    return ratio_interval(finite, np.ones(len(finite)))


def block_means(values: Floats, blocks: int) -> Floats:
    """Return the means of `blocks` stretches along the last axis, [..., blocks]."""
    return np.stack([part.mean(axis=-1) for part in np.array_split(values, blocks, axis=-1)], axis=-1)
