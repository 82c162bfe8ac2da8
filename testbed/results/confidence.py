"""What a few repetitions say: the mean and how far it may be off, and how probable what was rarely seen may still be.

For n independent, roughly normal values the mean lies within ``t × s / sqrt(n)`` of the true one in 95 % of all cases,
with s the standard deviation of the values (n - 1 in the denominator) and t the 97.5 % quantile of Student's
distribution with n - 1 degrees of freedom.  Five seeds give t = 2.78, three give 4.30: repetitions are cheap at first.

The quantile is found by bisection of the exact distribution.  With whole degrees of freedom v and
``theta = atan(t / sqrt(v))`` the probability of ``|T| < t`` is a finite sum,

    v odd:   2/pi × (theta + sin × (cos + 2/3 cos³ + … + (2·4…(v-3)) / (3·5…(v-2)) cos^(v-2)))
    v even:  sin × (1 + 1/2 cos² + … + (1·3…(v-3)) / (2·4…(v-2)) cos^(v-2))

**A share.**  What happened k times in N independent trials has a probability of at most p at 95 %, with p such that k
or fewer would happen in one case of twenty only (Clopper and Pearson's upper limit, one-sided).  For k = 0 that is
``1 - 0.05^(1/N)``, a little less than 3/N.

Source: "Student" (W. S. Gosset), "The probable error of a mean", Biometrika 6, 1908; the sums are formulas 26.7.3 and
26.7.4 of M. Abramowitz, I. A. Stegun, "Handbook of mathematical functions", 1964; C. J. Clopper, E. S. Pearson, "The
use of confidence or fiducial limits illustrated in the case of the binomial", Biometrika 26, 1934.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import fmean, stdev

LEVEL = 0.95
_MOST_DEGREES = 10_000  # from here on the normal distribution is as good
_LARGEST_T = 1e9


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its 95 % confidence interval.

    Attributes:
        mean: of the values.
        half_width: the interval is mean ± this; None for a single value, whose spread is unknown.
        count: how many values.
    """

    mean: float
    half_width: float | None
    count: int

    def bounds(self, floor: float = -math.inf) -> tuple[float, float]:
        """Return the ends of the interval, cut at the least value that the figure can have.

        A loss is no less than 0: what of the interval lies below is impossible, and is not shown.
        """
        width = self.half_width or 0.0
        return max(min(floor, self.mean), self.mean - width), self.mean + width

    def interval_text(self, write: Callable[[float], str], floor: float = 0.0) -> str:
        """Return the interval in words: ``± 1``, or from where to where it reaches where that ends at the floor."""
        if self.half_width is None:
            return "one value"
        low, high = self.bounds(floor)
        return f"± {write(self.half_width)}" if self.mean - self.half_width >= low else f"{write(low)} to {write(high)}"


def estimate(values: Sequence[float]) -> Estimate | None:
    """Return the mean of values and its confidence interval, None when there are none."""
    if not values:
        return None
    if len(values) == 1:
        return Estimate(float(values[0]), None, 1)
    half_width = student_t(len(values) - 1) * stdev(values) / math.sqrt(len(values))
    return Estimate(fmean(values), half_width, len(values))


def at_most_ratio(happened: int, trials: int) -> float:
    """Return the largest probability, at 95 %, of what happened so often in so many trials.

    Raises:
        ValueError: when there were no trials, or it happened more often.
    """
    if not 0 <= happened <= trials or not trials:
        raise ValueError(f"{happened} of {trials} trials is no share")
    if happened == trials:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        at_most = sum(math.comb(trials, k) * middle**k * (1 - middle) ** (trials - k) for k in range(happened + 1))
        low, high = (middle, high) if at_most > 1 - LEVEL else (low, middle)
    return high


@cache
def student_t(degrees: int) -> float:
    """Return t such that a Student variable lies within ±t with probability 0.95.

    Raises:
        ValueError: when `degrees` (of freedom) is less than 1.
    """
    if degrees < 1:
        raise ValueError(f"Student's distribution needs at least one degree of freedom, got {degrees}")
    low, high = 0.0, _LARGEST_T
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if probability_within(middle, degrees) < LEVEL else (low, middle)
    return high


def probability_within(t: float, degrees: int) -> float:
    """Return the probability of a Student variable within ±t."""
    degrees = min(degrees, _MOST_DEGREES)
    theta = math.atan2(t, math.sqrt(degrees))
    sine, cosine = math.sin(theta), math.cos(theta)
    odd = degrees % 2
    term = cosine if odd else 1.0
    total = term if degrees > 1 else 0.0
    for k in range(3 if odd else 2, degrees - 1, 2):
        term *= (k - 1) / k * cosine * cosine
        total += term
    return 2 / math.pi * (theta + sine * total) if odd else sine * total
