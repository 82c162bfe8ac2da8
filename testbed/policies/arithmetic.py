"""The arithmetic of policies: on arrays of n nodes, or on plain numbers for one node.

The simulation decides for a thousand nodes at once and needs arrays.  An agent of the emulation decides for one node, a
hundred times a second, after other processes have evicted its data from the CPU caches.  There every call of numpy
costs microseconds; adding two numbers costs a tenth of one.  A policy that uses only operators and the functions below
runs on both: it never assigns to elements of a value, and never branches on a value.

Both give the same results to the last bit.  Sums, products, quotients and roots are exact or correctly rounded in both
(IEEE 754), and integers do not overflow in either.  The logarithm has no such guarantee, so both use that of numpy.

`Values` is an array of shape [n] or a number; its interface contains only the operators that both have.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np

from testbed.policies.rows import Rows
from testbed.records.events import TrafficSampled


class Mask(Protocol):
    """A condition per node: an array of booleans, shape [n], or a single boolean."""

    def __and__(self, other: Any, /) -> Mask: ...
    def __or__(self, other: Any, /) -> Mask: ...


class Values(Protocol):
    """A value per node: an array of shape [n], or a single number."""

    def __add__(self, other: Any, /) -> Values: ...
    def __radd__(self, other: Any, /) -> Values: ...
    def __sub__(self, other: Any, /) -> Values: ...
    def __rsub__(self, other: Any, /) -> Values: ...
    def __mul__(self, other: Any, /) -> Values: ...
    def __rmul__(self, other: Any, /) -> Values: ...
    def __truediv__(self, other: Any, /) -> Values: ...
    def __rtruediv__(self, other: Any, /) -> Values: ...
    def __floordiv__(self, other: Any, /) -> Values: ...
    def __lt__(self, other: Any, /) -> Mask: ...
    def __le__(self, other: Any, /) -> Mask: ...
    def __gt__(self, other: Any, /) -> Mask: ...
    def __ge__(self, other: Any, /) -> Mask: ...
    def __ne__(self, other: object, /) -> Mask: ...  # type: ignore[override]  # numpy compares element by element
    def __neg__(self) -> Values: ...
    def __abs__(self) -> Values: ...


AnyArray = Any  # of shape [n], integers, floats or booleans: numpy has no type for all of them
_Function = Callable[..., Any]


class Arrays:
    """Functions of arrays; `Numbers` has the same functions for numbers."""

    maximum: ClassVar[_Function] = np.maximum
    minimum: ClassVar[_Function] = np.minimum
    where: ClassVar[_Function] = np.where
    ceil: ClassVar[_Function] = np.ceil
    sqrt: ClassVar[_Function] = np.sqrt
    log2: ClassVar[_Function] = np.log2
    any: ClassVar[_Function] = np.count_nonzero

    @staticmethod
    def whole(values: AnyArray) -> AnyArray:
        """Truncate to integers."""
        return values.astype(np.int64)

    @staticmethod
    def real(values: AnyArray) -> AnyArray:
        """Turn integers into floats."""
        return values.astype(np.float64)

    @staticmethod
    def stacked(rows: tuple[Values, ...]) -> list[Values]:
        """Return quantities that are processed in the same way as blocks: here one block of shape [rows, n]."""
        return [np.array(rows)]

    @staticmethod
    def product(block: AnyArray) -> AnyArray:
        """Multiply the rows of a block."""
        return np.multiply.reduce(block, axis=0)

    @staticmethod
    def replaced(values: AnyArray, rows: Rows, new: Values) -> AnyArray:
        """Return `values` with `new` in `rows`."""
        changed = values.copy()
        changed[rows] = new
        return changed

    @staticmethod
    def of_array(array: AnyArray) -> AnyArray:
        """Return the values from an event, shape [n]."""
        return array

    @staticmethod
    def to_array(values: AnyArray) -> AnyArray:
        """Return the values for an event: a new array."""
        return values.copy()

    @staticmethod
    def of_sample(sample: TrafficSampled) -> TrafficSampled | OneSample:
        """Return the sample to compute with."""
        return sample


class Numbers:
    """The same functions of plain numbers: n is 1."""

    ceil: ClassVar[_Function] = math.ceil
    sqrt: ClassVar[_Function] = math.sqrt
    any: ClassVar[_Function] = bool
    whole: ClassVar[_Function] = int
    real: ClassVar[_Function] = float

    @staticmethod
    def maximum(a: Values, b: Values) -> Values:
        """Return the larger."""
        return a if a >= b else b

    @staticmethod
    def minimum(a: Values, b: Values) -> Values:
        """Return the smaller."""
        return a if a <= b else b

    @staticmethod
    def where(condition: Mask, then: Values, otherwise: Values) -> Values:
        """Return `then` where the condition holds, else `otherwise`."""
        return then if condition else otherwise

    @staticmethod
    def log2(value: Any) -> Values:
        """Return the binary logarithm, as numpy rounds it."""
        return float(np.log2(value))

    @staticmethod
    def stacked(rows: tuple[Values, ...]) -> list[Values]:
        """Return quantities that are processed in the same way as blocks: here each is a block."""
        return list(rows)

    @staticmethod
    def product(block: Values) -> Values:
        """Multiply the rows of a block."""
        return block

    @staticmethod
    def replaced(_values: Values, _rows: Rows, new: Values) -> Values:
        """Return `new`: there is one row."""
        return new

    @staticmethod
    def of_array(array: AnyArray) -> Values:
        """Return the one value that an event holds."""
        value: Values = array.item()
        return value

    @staticmethod
    def to_array(value: Values | Mask) -> AnyArray:
        """Return the values for an event."""
        return np.array((value,))

    @staticmethod
    def of_sample(sample: TrafficSampled) -> TrafficSampled | OneSample:
        """Return the sample to compute with."""
        return OneSample(
            sample.interval_ns,
            sample.arrived_bytes.item(),
            sample.arrived_pkts.item(),
            sample.dropped_bytes.item(),
            sample.backlog_bytes.item(),
            sample.new_flows.item(),
            sample.gap_max_ns.item(),
            sample.peak_1ms_bytes.item(),
        )


class OneSample(NamedTuple):
    """A `TrafficSampled` of one node in plain numbers."""

    interval_ns: int
    arrived_bytes: Values
    arrived_pkts: Values
    dropped_bytes: Values
    backlog_bytes: Values
    new_flows: Values
    gap_max_ns: Values
    peak_1ms_bytes: Values


Sample = TrafficSampled | OneSample
Arithmetic = type[Arrays] | type[Numbers]


def arithmetic_of(values: Values) -> Arithmetic:
    """Return the arithmetic for values of this type."""
    return Arrays if isinstance(values, np.ndarray) else Numbers
