"""How late something was, as a histogram that merges without loss: one for each sender, one for the run.

Buckets are log-linear, as in HdrHistogram (Tene): each power of two is cut into 2**`_SUB_BITS` equal buckets, so a
value is known to 1.6 % from nanoseconds to hours with at most a few thousand integers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from testbed.events import Ints
from testbed.units import NS_PER_MS

_SUB_BITS = 6
_SUB = 1 << _SUB_BITS


def _bucket_of(values: Ints) -> Ints:
    """Return the bucket of each value >= 0: values below 64 have their own, then 64 for each power of two."""
    exponent = np.frexp(np.maximum(values, 1).astype(np.float64))[1].astype(np.int64) - 1
    shift = np.maximum(exponent - _SUB_BITS, 0)
    return (shift << _SUB_BITS) + (values >> shift)


def _highest_of(bucket: int) -> int:
    """Return the largest value that falls into a bucket."""
    if bucket < 2 * _SUB:
        return bucket
    shift = (bucket >> _SUB_BITS) - 1
    return ((bucket - (shift << _SUB_BITS) + 1) << shift) - 1


@dataclass(frozen=True, slots=True)
class Lateness:
    """A histogram of times in nanoseconds.

    Attributes:
        counts: how many fell into each bucket that is not empty, by bucket, ascending.
        max_ns: the largest, exactly; 0 when there is none.
    """

    counts: dict[int, int]
    max_ns: int

    @classmethod
    def of(cls, values_ns: Ints) -> Lateness:
        """Return the histogram of `values_ns`, int64 [n]; what is early counts as 0."""
        if not len(values_ns):
            return cls({}, 0)
        late_ns = np.maximum(values_ns, 0)
        buckets, counts = np.unique(_bucket_of(late_ns), return_counts=True)
        return cls(dict(zip(buckets.tolist(), counts.tolist(), strict=True)), int(late_ns.max()))

    @property
    def count(self) -> int:
        """Return how many values there are."""
        return sum(self.counts.values())

    def quantile_ns(self, q: float) -> int:
        """Return the value that a part `q` (0..1) of all does not exceed, at most 1.6 % too high; 0 when empty."""
        rest = max(1, -int(-q * self.count // 1))
        for bucket, count in self.counts.items():
            rest -= count
            if rest <= 0:
                return min(_highest_of(bucket), self.max_ns)
        return self.max_ns

    def merged(self, other: Lateness) -> Lateness:
        """Return the histogram of both."""
        buckets = sorted(self.counts.keys() | other.counts.keys())
        counts = {bucket: self.counts.get(bucket, 0) + other.counts.get(bucket, 0) for bucket in buckets}
        return Lateness(counts, max(self.max_ns, other.max_ns))

    def to_record(self) -> dict[str, Any]:
        """Return plain values: count, p50, p99, max, and the buckets as pairs of bucket and count."""
        return {
            "count": self.count,
            "p50": self.quantile_ns(0.5),
            "p99": self.quantile_ns(0.99),
            "max": self.max_ns,
            "buckets": [list(item) for item in self.counts.items()],
        }

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Lateness:
        """Return what `to_record` wrote."""
        return cls({int(bucket): int(count) for bucket, count in record["buckets"]}, int(record["max"]))


def worst_per_ms(planned_ns: Ints, late_ns: Ints) -> Ints:
    """Return the worst lateness of what was planned (ascending) in each ms, int64 [last ms + 1]; 0 for none."""
    if not len(planned_ns):
        return np.zeros(0, np.int64)
    worst = np.zeros(int(planned_ns[-1]) // NS_PER_MS + 1, np.int64)
    np.maximum.at(worst, planned_ns // NS_PER_MS, late_ns)
    return worst
