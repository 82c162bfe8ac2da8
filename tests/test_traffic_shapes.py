"""The shapes of traffic: rates, gaps, bursts and what announces them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from testbed.errors import InputError
from testbed.scenario.sources import ConstantSpec, OnOffSpec, PoissonSpec
from testbed.traffic import shapes

S = 10**9
MS = 10**6


def _poisson(**changes: Any) -> PoissonSpec:
    return PoissonSpec.model_validate({"name": "p", "from": "c1", "shape": "poisson", "rate": "80Mbit", **changes})


def _constant(**changes: Any) -> ConstantSpec:
    return ConstantSpec.model_validate({"name": "k", "from": "c1", "shape": "constant", "rate": "80Mbit", **changes})


def _bursts(**changes: Any) -> OnOffSpec:
    plain = {"on": {"constant": "50ms"}, "off": {"constant": "150ms"}, "peak": "160Mbit"}
    return OnOffSpec.model_validate({"name": "b", "from": "c1", "shape": "on-off", **plain, **changes})


def test_poisson_has_the_rate_and_exponential_gaps() -> None:
    packets = shapes.poisson(_poisson(), 20 * S, 1)
    expected = 20 * 10_000
    gaps = np.diff(packets.t_ns)
    assert abs(len(packets.t_ns) - expected) < 5 * math.sqrt(expected)
    assert gaps.std() / gaps.mean() == pytest.approx(1.0, abs=0.02)


def test_poisson_stays_within_the_run_and_ascends() -> None:
    t_ns = shapes.poisson(_poisson(), S, 5).t_ns
    assert t_ns[0] >= 0
    assert t_ns[-1] < S
    assert np.all(np.diff(t_ns) >= 0)


def test_a_longer_run_begins_like_the_shorter_one() -> None:
    short, long = shapes.poisson(_poisson(), S, 1).t_ns, shapes.poisson(_poisson(), 3 * S, 1).t_ns
    assert np.array_equal(long[: len(short)], short)


def test_flows_are_used_evenly() -> None:
    counts = np.bincount(shapes.poisson(_poisson(flows=10), 10 * S, 1).flow, minlength=10)
    assert len(counts) == 10
    assert np.all(np.abs(counts - counts.mean()) < 5 * math.sqrt(counts.mean()))


@pytest.mark.parametrize("rate", ["80Mbit", "7Mbit", "99999999bit", "3Gbit"])
def test_constant_never_drifts(rate: str) -> None:
    spec = _constant(rate=rate)
    t_ns = shapes.constant(spec, 3 * S, 1).t_ns
    exact = [k * 8000 * S // spec.rate_bps for k in range(len(t_ns))]
    assert np.array_equal(t_ns - t_ns[0], exact)
    assert t_ns[0] < 8000 * S // spec.rate_bps
    assert 3 * S - t_ns[-1] <= 8000 * S // spec.rate_bps + 1


def test_constant_sources_of_one_rate_do_not_march_in_step() -> None:
    first, second = (shapes.constant(_constant(name=name), S, 1).t_ns[0] for name in ("one", "two"))
    assert first != second


def test_bursts_are_where_the_periods_say_and_silence_elsewhere() -> None:
    packets = shapes.on_off(_bursts(), S, 1)
    into_ns = packets.t_ns % (200 * MS)
    assert into_ns.min() >= 150 * MS
    assert len(packets.t_ns) == pytest.approx(5 * 1000, abs=5 * math.sqrt(5000))


def test_a_burst_uses_the_next_flows_in_rotation() -> None:
    packets = shapes.on_off(_bursts(flows=50, burst_flows=20), S, 1)
    for burst in range(5):
        used = set(packets.flow[packets.t_ns // (200 * MS) == burst].tolist())
        assert used == {(burst * 20 + k) % 50 for k in range(20)}


def test_the_precursor_ramps_up_on_the_flows_of_the_coming_burst() -> None:
    spec = _bursts(precursor={"lead": "100ms", "strength": 0.5}, flows=100, burst_flows=20, peak="1600Mbit")
    packets = shapes.on_off(spec, S, 1)
    into_ns, burst = packets.t_ns % (200 * MS), packets.t_ns // (200 * MS)
    ramp = into_ns < 150 * MS
    assert into_ns.min() >= 50 * MS
    assert set((packets.flow[ramp] // 20 - burst[ramp]).tolist()) == {0}
    expected = 5 * 200_000 * 0.5 / 2 * 0.1
    assert ramp.sum() == pytest.approx(expected, abs=5 * math.sqrt(expected))
    first_half = (into_ns[ramp] < 100 * MS).sum()  # a linear ramp has a quarter of its packets there
    assert first_half == pytest.approx(expected / 4, abs=5 * math.sqrt(expected / 4))


def test_a_ramp_longer_than_the_silence_takes_the_whole_of_it() -> None:
    spec = _bursts(precursor={"lead": "1s", "strength": 0.4}, peak="1600Mbit")
    packets = shapes.on_off(spec, S, 1)
    ramp = packets.t_ns % (200 * MS) < 150 * MS
    expected = 5 * 200_000 * 0.4 / 2 * 0.15
    assert ramp.sum() == pytest.approx(expected, abs=5 * math.sqrt(expected))


def test_a_ramp_shows_even_when_its_burst_lies_behind_the_end() -> None:
    spec = _bursts(off={"constant": "1050ms"}, precursor={"lead": "100ms", "strength": 1.0}, peak="1600Mbit")
    t_ns = shapes.on_off(spec, S, 1).t_ns
    assert 950 * MS <= t_ns[0] < t_ns[-1] < S


def test_packet_size_leaves_the_bursts_where_they_are() -> None:
    random: dict[str, Any] = {
        "on": {"pareto": {"mean": "60ms", "alpha": 1.5}},
        "off": {"exponential": {"mean": "400ms"}},
    }
    small, large = (shapes.bursts_of(_bursts(packet=size, **random), 20 * S, 1) for size in ("100B", "1500B"))
    assert np.array_equal(small.start_ns, large.start_ns)
    assert np.array_equal(small.end_ns, large.end_ns)


@pytest.mark.parametrize("dist", [{"exponential": {"mean": "5ms"}}, {"pareto": {"mean": "5ms", "alpha": 3.0}}])
def test_periods_have_their_mean(dist: dict[str, Any]) -> None:
    bursts = shapes.bursts_of(_bursts(on=dist, off={"constant": "5ms"}), 100 * S, 1)
    lengths = (bursts.end_ns - bursts.start_ns)[:-1]
    assert lengths.mean() == pytest.approx(5 * MS, rel=0.05)
    assert np.all(bursts.start_ns[1:] - bursts.end_ns[:-1] == 5 * MS)


def test_a_tail_without_variance_cannot_outlast_the_integers() -> None:
    spec = _bursts(on={"pareto": {"mean": "24h", "alpha": 1.0001}}, off={"constant": "1ns"}, peak="1Mbit")
    assert shapes.on_off(spec, S, 1).t_ns[-1] < S


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: _poisson(rate="101Gbit"), "101Gbit is beyond 100Gbit"),
        (lambda: _constant(rate="101Gbit"), "101Gbit is beyond 100Gbit"),
        (lambda: _bursts(peak="101Gbit"), "101Gbit is beyond 100Gbit"),
        (lambda: shapes.poisson(_poisson(rate="10Gbit"), 60 * S, 1), "about 75,000,000 packets"),
        (lambda: shapes.constant(_constant(rate="10Gbit"), 60 * S, 1), "about 75,000,000 packets"),
        (lambda: shapes.on_off(_bursts(peak="40Gbit"), 60 * S, 1), "about 75,000,000 packets"),
        (lambda: _bursts(flows=10, burst_flows=20), "a burst uses 20 flows, the source has 10"),
        (
            lambda: shapes.on_off(_bursts(on={"constant": "1ns"}, off={"constant": "1ns"}), S, 1),
            "more than 5,000,000 bursts",
        ),
    ],
)
def test_the_impossible_is_refused_by_its_key(make: Any, words: str) -> None:
    with pytest.raises((InputError, ValidationError), match=words):
        make()
