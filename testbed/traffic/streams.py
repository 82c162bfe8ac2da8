"""Named streams of random numbers that are the same on every machine, to the last bit.

A plan is compared by hash between runs, machines and years, so its randomness may depend on nothing but the scenario's
seed and the name of the stream:

* A stream is PCG64 seeded by SHA-256 of its name and the seed.  Adding a source moves no packet of another one, and
  neither ``PYTHONHASHSEED`` nor the order of creation matters.
* Only the raw 64-bit words of the generator are used: NumPy promises their sequence, not that of its distributions.
* Logarithm and exponential are computed here from ``+ - * /``, ``frexp``, ``ldexp`` and constants.  IEEE 754 fixes the
  result of each; the ``log`` of a C library or of a SIMD path does not, and differs between CPUs in the last bit.

Source: inversion sampling as in Devroye, "Non-Uniform Random Variate Generation" (1986), II.2.  Logarithm by the
series of 2 artanh((m - 1)/(m + 1)) on [sqrt(1/2), sqrt(2)], exponential by Taylor's series after reduction by ln 2.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from testbed.records.events import Floats, Ints

_LN2 = 0.6931471805599453
_LN2_HIGH = 0.693147180369123816490  # 32 bits: a product with a small integer is exact
_LN2_LOW = 1.90821492927058770002e-10
_SQRT_HALF = 0.7071067811865476
_LOG_TERMS = 12  # |s| <= 0.172, s**25 / 25 is below 2**-66
_EXP_TERMS = 14  # |r| <= 0.347, r**15 / 15! is below 2**-63


def log(x: Floats) -> Floats:
    """Return the natural logarithm of `x` > 0, within 2 units in the last place or 1e-16, same bits everywhere."""
    mantissa, exponent = np.frexp(x)
    low = mantissa < _SQRT_HALF
    mantissa = np.where(low, mantissa * 2.0, mantissa)
    s = (mantissa - 1.0) / (mantissa + 1.0)
    z = s * s
    series = np.full_like(s, 1.0 / (2 * _LOG_TERMS + 1))
    for k in range(_LOG_TERMS - 1, -1, -1):
        series *= z
        series += 1.0 / (2 * k + 1)
    result: Floats = (exponent - low) * _LN2 + 2.0 * s * series
    return result


def exp(x: Floats) -> Floats:
    """Return e to the power of `x` (|x| < 700), within 2 units in the last place, same bits everywhere."""
    k = np.rint(x / _LN2)
    r = (x - k * _LN2_HIGH) - k * _LN2_LOW
    series = np.ones_like(r)
    for term in range(_EXP_TERMS, 0, -1):
        series *= r / term
        series += 1.0
    result: Floats = np.ldexp(series, k.astype(np.int32))
    return result


def _digest(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{name}\0{seed}".encode()).digest()


def derived_seed(seed: int, name: str) -> int:
    """Return a 63-bit seed for the stream `name`, for generators that are not a `Stream`."""
    return int.from_bytes(_digest(seed, name)[:8], "big") >> 1


class Stream:
    """One named sequence of random numbers."""

    def __init__(self, seed: int, name: str) -> None:
        """Open the stream `name` of `seed` at its start."""
        digest = _digest(seed, name)
        self._bits = np.random.PCG64(np.random.SeedSequence(int.from_bytes(digest, "big")))

    def _words(self, n: int) -> NDArray[np.uint64]:
        words: NDArray[np.uint64] = self._bits.random_raw(n)
        return words

    def uniform(self, n: int) -> Floats:
        """Return `n` numbers evenly from (0, 1], multiples of 2**-53."""
        words = (self._words(n) >> np.uint64(11)) + np.uint64(1)
        parts: Floats = np.ldexp(words.astype(np.float64), -53)
        return parts

    def below(self, n: int, bound: int) -> Ints:
        """Return `n` integers from 0 to `bound` - 1 (bound up to 2**31), even to within 2**-32."""
        words = self._words(n) >> np.uint64(32)
        chosen: Ints = ((words * np.uint64(bound)) >> np.uint64(32)).astype(np.int64)
        return chosen

    def exponential(self, n: int) -> Floats:
        """Return `n` exponential variates of mean 1."""
        return -log(self.uniform(n))

    def pareto(self, n: int, alpha: float) -> Floats:
        """Return `n` Pareto variates of minimum 1 and shape `alpha`; their mean is alpha / (alpha - 1)."""
        return exp(self.exponential(n) / alpha)
