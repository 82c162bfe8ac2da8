"""Random streams: right in distribution, the same to the last bit, independent by name."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest

from testbed.traffic.streams import Stream, exp, log

N = 200_000


def _ulps(ours: np.ndarray, exact: list[float]) -> float:
    right = np.array(exact)
    return float(np.max(np.abs(ours - right) / np.maximum(np.spacing(np.abs(right)), 1e-16)))


def test_logarithm_is_that_of_the_c_library_within_two_units() -> None:
    x = np.concatenate([np.linspace(1e-300, 4, 20_001), 2.0 ** np.arange(-53, 60), [1 - 2**-53, 1.0]])
    assert _ulps(log(x), [math.log(value) for value in x]) <= 2


def test_exponential_function_is_that_of_the_c_library_within_two_units() -> None:
    x = np.linspace(-40, 40, 20_001)
    assert _ulps(exp(x), [math.exp(value) for value in x]) <= 2


def test_uniform_is_above_zero_so_that_its_logarithm_is_finite() -> None:
    u = Stream(1, "u").uniform(N)
    assert u.min() > 0
    assert u.max() <= 1
    assert u.mean() == pytest.approx(0.5, abs=4 * math.sqrt(1 / 12 / N))


def test_integers_are_even_and_below_the_bound() -> None:
    counts = np.bincount(Stream(1, "i").below(N, 7), minlength=7)
    assert len(counts) == 7
    assert np.all(np.abs(counts - N / 7) < 5 * math.sqrt(N / 7))


def test_exponential_variates_have_the_right_distribution() -> None:
    drawn = np.sort(Stream(1, "e").exponential(N))
    distance = np.max(np.abs(np.arange(1, N + 1) / N - (1 - np.exp(-drawn))))
    assert distance < 1.95 / math.sqrt(N)  # Kolmogorov-Smirnov, one in a thousand


def test_pareto_variates_have_the_right_distribution() -> None:
    drawn = np.sort(Stream(1, "p").pareto(N, 1.5))
    distance = np.max(np.abs(np.arange(1, N + 1) / N - (1 - drawn**-1.5)))
    assert drawn[0] >= 1
    assert distance < 1.95 / math.sqrt(N)


def test_how_many_are_drawn_at_once_does_not_change_what_is_drawn() -> None:
    whole, parts = Stream(3, "x"), Stream(3, "x")
    assert np.array_equal(whole.exponential(1000), np.concatenate([parts.exponential(1), parts.exponential(999)]))


@pytest.mark.parametrize(("seed", "name"), [(4, "x"), (3, "y")])
def test_another_seed_or_name_is_another_stream(seed: int, name: str) -> None:
    assert not np.any(Stream(3, "x").uniform(100) == Stream(seed, name).uniform(100))


def test_bits_are_what_they_have_always_been() -> None:
    drawn = np.concatenate([Stream(1, "golden").exponential(10_000), Stream(1, "golden").pareto(10_000, 1.5)])
    assert hashlib.sha256(drawn.astype("<f8").tobytes()).hexdigest()[:16] == "b4548f53b9ca2400"
