"""Paired differences: is one better than the other, by how much, and how many seeds would show it?

The differences of n pairs have the mean m and the standard deviation s.

- *Interval*: of `confidence`, m ± t × s / √n.
- *p*: how probable a mean so far from 0 is without any difference: two-sided paired t test, t = m / (s / √n), n − 1
  degrees of freedom.  Pairs that all differ by the same have p = 0, pairs that are all equal p = 1.
- *Holm's correction*: of k comparisons some look significant by chance.  With the p in ascending order the i-th is
  multiplied by k − i + 1, and none is less than the one before.  The probability that any of the k is called a
  difference without being one is then 0.05 at most, however they depend on each other.
- *Effect size* d = m / s: how far apart in units of what the seeds scatter.  It does not grow with the number of
  seeds, as significance does.
- *Seeds needed*: the least n with which a true difference of m under this scatter is found (p < 0.05, one comparison)
  with probability 0.8: ((1.960 + 0.842) / d)² + 1.960² / 2, the last term for the t in place of a normal distribution.

Source: "Student" (W. S. Gosset), "The probable error of a mean", Biometrika 6, 1908; S. Holm, "A simple sequentially
rejective multiple test procedure", Scandinavian Journal of Statistics 6, 1979; J. Cohen, "Statistical power analysis
for the behavioral sciences", 1988, section 2.3 (d of pairs); W. C. Guenther, "Sample size
formulas for normal theory t tests", The American Statistician 35, 1981.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, stdev

from testbed.results.confidence import LEVEL, Estimate, estimate, probability_within

POWER = 0.8
_MOST_SEEDS = 1_000_000
_Z_LEVEL, _Z_POWER = (NormalDist().inv_cdf(ratio) for ratio in ((1 + LEVEL) / 2, POWER))


@dataclass(frozen=True, slots=True)
class Difference(Estimate):
    """A mean of paired differences with its interval, and what can be said of it.

    Attributes:
        p: of the paired t test; None for a single pair.
        p_holm: the same, corrected over the family; None before it is.
        effect: the mean over the standard deviation; None for a single pair, or where all differ by the same.
        seeds_needed: pairs that would show it; None where the mean is 0, or more than a million.
    """

    p: float | None = None
    p_holm: float | None = None
    effect: float | None = None
    seeds_needed: int | None = None

    @property
    def is_significant(self) -> bool:
        """Return whether it is a difference at 95 %, after the correction over its family."""
        p = self.p if self.p_holm is None else self.p_holm
        return p is not None and p < 1 - LEVEL


def difference(values: Sequence[float]) -> Difference | None:
    """Return what paired differences say, None when there are none."""
    found = estimate(values)
    if found is None:
        return None
    if found.half_width is None:
        return Difference(found.mean, None, 1)
    scatter = stdev(values)
    if not scatter:
        p, needed = (0.0, 2) if found.mean else (1.0, None)
        return Difference(found.mean, 0.0, found.count, p=p, seeds_needed=needed)
    effect = found.mean / scatter
    p = 1 - probability_within(abs(effect) * math.sqrt(found.count), found.count - 1)
    return Difference(
        found.mean, found.half_width, found.count, p=max(p, 0.0), effect=effect, seeds_needed=seeds_needed(effect)
    )


def seeds_needed(effect: float) -> int | None:
    """Return how many pairs find a difference of this effect size with probability `POWER`; see above."""
    if not abs(effect) > (_Z_LEVEL + _Z_POWER) / math.sqrt(_MOST_SEEDS):
        return None
    return max(2, math.ceil(((_Z_LEVEL + _Z_POWER) / effect) ** 2 + _Z_LEVEL**2 / 2))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the corrected p of each comparison of a family, in the order given."""
    corrected, highest = [0.0] * len(p_values), 0.0
    for rank, k in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[k]))
        corrected[k] = highest
    return corrected
