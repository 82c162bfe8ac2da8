"""A histogram of durations: what kernels and agents count in, and what percentiles are read from.

Theory.  Edges ascend and bin k holds the values in [edges[k], edges[k+1]); values below the first edge are counted in
the first bin, values past the last edge in the last, which reaches to the largest value where that is kept.  A quantile
is placed within its bin by linear interpolation, so its error is at most the width of a bin: with `log_edges_ns` and 16
bins an octave that is 4.4 % of the value.  The largest value is kept apart, because a maximum read from a bin's edge
would be wrong by up to a bin.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from pydantic_core import core_schema

from testbed.records.events import Ints

_MAX_VALUE = 2**50  # of a record: in ns two weeks
_MAX_TOTAL = 2.0**60
_FIRST = 1e-9  # the rank of the smallest value: past the empty bins before it


def log_edges_ns(low_ns: int = 1_000, high_ns: int = 16_000_000_000, per_octave: int = 16) -> Ints:
    """Return logarithmic edges from `low_ns` to at least `high_ns`, preceded by 0; int64, ascending."""
    octaves = int(np.ceil(np.log2(high_ns / low_ns)))
    exponents = np.arange(octaves * per_octave + 1) / per_octave
    return np.unique(np.concatenate(([0], np.round(low_ns * 2.0**exponents)))).astype(np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Histogram:
    """Counts of durations.

    Attributes:
        edges_ns: bin edges, ascending, int64, shape [k + 1].
        counts: values in each bin, int64, shape [k].
        max_ns: the largest value seen; None when nobody kept it.
    """

    edges_ns: Ints
    counts: Ints
    max_ns: int | None = None

    def __post_init__(self) -> None:
        if len(self.edges_ns) != len(self.counts) + 1 or np.any(np.diff(self.edges_ns) <= 0):
            raise ValueError(f"{len(self.counts)} bins need {len(self.counts) + 1} ascending edges")

    @classmethod
    def of(cls, values_ns: ArrayLike, edges_ns: Ints | None = None) -> Histogram:
        """Return the histogram of `values_ns` (any shape; negative ones count as 0)."""
        edges = log_edges_ns() if edges_ns is None else edges_ns
        values = np.maximum(np.asarray(values_ns, dtype=np.int64).ravel(), 0)
        bins = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
        counts = np.bincount(bins, minlength=len(edges) - 1).astype(np.int64)
        return cls(edges, counts, int(values.max()) if values.size else None)

    @property
    def total(self) -> int:
        """Return how many values were counted."""
        return int(self.counts.sum())

    @property
    def largest_ns(self) -> int | None:
        """Return the largest value: exact when kept, else the upper edge of the last bin in use; None when empty."""
        if self.max_ns is not None or not self.total:
            return self.max_ns
        return int(self.edges_ns[int(np.nonzero(self.counts)[0][-1]) + 1])

    def quantile_ns(self, ratio: float) -> float | None:
        """Return the value below which `ratio` (0..1) of the counts lie; None when empty."""
        if not self.total:
            return None
        rank = max(ratio * self.total, _FIRST)
        below = np.concatenate(([0], np.cumsum(self.counts)))
        k = int(np.clip(np.searchsorted(below, rank, side="left") - 1, 0, len(self.counts) - 1))
        share = (rank - below[k]) / self.counts[k] if self.counts[k] else 0.0
        end_ns = int(self.edges_ns[k + 1])
        if k == len(self.counts) - 1 and self.max_ns is not None:
            end_ns = max(end_ns, self.max_ns)
        value = float(self.edges_ns[k] + share * (end_ns - self.edges_ns[k]))
        return value if self.max_ns is None else min(value, float(self.max_ns))

    def to_record(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"edges_ns": self.edges_ns.tolist(), "counts": self.counts.tolist(), "max_ns": self.max_ns}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Histogram:
        """Return the histogram that `to_record` wrote.

        Raises:
            ValueError: when these are no whole numbers, or negative, or do not fit each other.
        """
        if not isinstance(record, Mapping):
            raise ValueError("no histogram")
        edges, counts = (_whole_numbers(record.get(key)) for key in ("edges_ns", "counts"))
        largest = record.get("max_ns")
        if largest is not None and (type(largest) is not int or not 0 <= largest <= _MAX_VALUE):
            raise ValueError("the largest value of a histogram is no time")
        return cls(edges, counts, largest)

    @classmethod
    def __get_pydantic_core_schema__(cls, *_: Any) -> core_schema.CoreSchema:
        """Let a field of this type be read from its JSON form."""
        return core_schema.no_info_plain_validator_function(cls.from_record)


def _whole_numbers(values: Any) -> Ints:
    found = np.asarray(values)
    if found.ndim != 1 or not found.size or found.dtype.kind != "i":
        raise ValueError("a histogram is no list of whole numbers")
    if found.min() < 0 or found.max() > _MAX_VALUE or float(found.sum(dtype=np.float64)) > _MAX_TOTAL:
        raise ValueError("a histogram has negative numbers, or too large ones")
    return found.astype(np.int64)


def merged(parts: Iterable[Histogram | None]) -> Histogram | None:
    """Return the sum of histograms, or None when there is none.

    Histograms of other edges are counted at the middle of their bins, an error of half a bin at most.
    """
    known = [part for part in parts if part is not None]
    if not known:
        return None
    first, counts = known[0], np.zeros_like(known[0].counts)
    for part in known:
        counts = counts + (part.counts if np.array_equal(part.edges_ns, first.edges_ns) else _rebinned(part, first))
    maxima = [part.largest_ns for part in known if part.largest_ns is not None]
    return Histogram(first.edges_ns, counts, max(maxima) if maxima else None)


def _rebinned(part: Histogram, like: Histogram) -> Ints:
    middles = (part.edges_ns[:-1] + part.edges_ns[1:]) // 2
    bins = np.clip(np.searchsorted(like.edges_ns, middles, side="right") - 1, 0, len(like.counts) - 1)
    return np.bincount(bins, weights=part.counts, minlength=len(like.counts)).astype(np.int64)
