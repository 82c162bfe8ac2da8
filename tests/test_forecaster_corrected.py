"""Correction around a forecaster: honest in the long run, replayable."""

from __future__ import annotations

import numpy as np

from testbed.policies.forecast import Forecaster
from testbed.policies.forecast_corrected import GAIN, LEAST_THETA, MOST_THETA, CorrectedForecaster, Hindsight
from testbed.records.events import ForecastMade, TrafficSampled

RATE = np.array([8_000_000], dtype=np.int64)  # 10,000 bytes an interval
INTERVAL_NS = 10_000_000
UNIT = 10_000
HORIZONS = (INTERVAL_NS, 5 * INTERVAL_NS)


def sample(arrived: int, backlog: int) -> TrafficSampled:
    zero, one = np.zeros(1, dtype=np.int64), np.ones(1, dtype=np.int64)
    return TrafficSampled(
        nodes=("n1",),
        interval_ns=INTERVAL_NS,
        arrived_bytes=arrived * one,
        arrived_pkts=zero,
        dropped_bytes=zero,
        dropped_pkts=zero,
        backlog_bytes=backlog * one,
        limit_bytes=zero,
        new_flows=zero,
        gap_max_ns=zero,
        peak_1ms_bytes=zero,
    )


class Says:
    """Forecasts a fixed growth over the backlog, in intervals."""

    horizon_ns = HORIZONS

    def __init__(self, growth: float) -> None:
        self._growth = growth

    def step(self, seen: TrafficSampled, now_ns: int) -> ForecastMade:
        need = np.repeat(seen.backlog_bytes[:, None] + round(self._growth * UNIT), 2, axis=1)
        return ForecastMade(nodes=seen.nodes, horizon_ns=HORIZONS, need_bytes=need, onset_ratio=np.zeros(1))


def random_walk(count: int, seed: int = 1, load: float = 0.9) -> list[TrafficSampled]:
    rng, backlog, made = np.random.default_rng(seed), 0, []
    for arrived in rng.exponential(load * UNIT, count).astype(int):
        backlog = max(0, backlog + int(arrived) - UNIT)
        made.append(sample(int(arrived), backlog))
    return made


def grown(forecaster: Forecaster, samples: list[TrafficSampled]) -> np.ndarray:
    made = [forecaster.step(one, step * INTERVAL_NS).need_bytes[0] for step, one in enumerate(samples)]
    return np.array(made) - np.array([one.backlog_bytes for one in samples])


def test_hindsight_tells_the_peak_that_came() -> None:
    hindsight = Hindsight(RATE, INTERVAL_NS, HORIZONS)
    arrivals = [0, 30_000, 0, 25_000, 0, 0]
    seen = []
    backlog = 0
    for step, arrived in enumerate(arrivals):
        backlog = max(0, backlog + arrived - UNIT)
        past = hindsight.arrived(sample(arrived, backlog))
        hindsight.said(np.full((1, 2), float(step)), np.array([backlog]))
        seen.append(past)
    assert seen[:5] == [None] * 5
    said, came = seen[5]  # of the forecast at sample 0, backlog 0: 2 intervals after one sample, 2.5 within five
    assert said.tolist() == [[0.0, 0.0]]
    assert came.tolist() == [[2.0, 2.5]]


def covered(made: np.ndarray, samples: list[TrafficSampled]) -> np.ndarray:
    """Return for each sample but the last whether the growth within one interval stayed within the promise."""
    arrived = np.array([int(one.arrived_bytes[0]) for one in samples])
    backlog = np.array([int(one.backlog_bytes[0]) for one in samples])
    came = np.maximum(np.maximum(backlog[:-1] + arrived[1:] - UNIT, 0) - backlog[:-1], 0)
    return came <= made[:-1, 0] + 1


def test_a_promise_that_suffices_is_left_alone_and_one_too_small_grows() -> None:
    samples = random_walk(3000)
    enough = grown(CorrectedForecaster(Says(12.0), RATE, INTERVAL_NS, 0.95), samples)
    assert np.all(enough[:, 0] == 12 * UNIT)
    short = grown(CorrectedForecaster(Says(0.2), RATE, INTERVAL_NS, 0.95), samples)
    assert short[-1, 0] > short[0, 0] == 0.2 * UNIT
    assert np.all(short <= (np.exp(MOST_THETA) * 1.2 - 1) * UNIT + 1)


def test_a_forecast_of_nothing_is_repaired_too() -> None:
    """A factor on the growth could not: nothing times anything is nothing."""
    made = grown(CorrectedForecaster(Says(0.0), RATE, INTERVAL_NS, 0.95), random_walk(3000))
    assert made[0, 0] == 0
    assert made[-1, 0] > 0.3 * UNIT


def test_an_idle_queue_never_gets_a_need_below_its_backlog() -> None:
    """Nothing happens, and theta stays where it is: a promise of no growth is kept."""
    idle = [sample(0, 0)] * 500
    forecaster = CorrectedForecaster(Says(0.0), RATE, INTERVAL_NS, 0.95)
    assert np.all(grown(forecaster, idle) == 0)
    assert float(forecaster._theta.min()) == LEAST_THETA


def test_coverage_is_held_within_two_points_when_the_traffic_changes() -> None:
    """Exponential arrivals stay within 1.5 intervals in 95 % of the calm samples and in 79 % of the busy ones."""
    samples = random_walk(2000, load=0.5) + random_walk(12_000, seed=2, load=0.95)
    late = slice(4000, None)
    fixed = covered(grown(Says(0.5), samples), samples)
    adaptive = covered(grown(CorrectedForecaster(Says(0.5), RATE, INTERVAL_NS, 0.9), samples), samples)
    assert np.mean(fixed[late]) < 0.85
    assert abs(np.mean(adaptive[late]) - 0.9) < 0.02


def test_nothing_is_learnt_from_samples_without_a_forecast() -> None:
    """A forecaster that says 0 while it warms up has promised nothing; its need is passed on."""

    class Silent(Says):
        def step(self, seen: TrafficSampled, now_ns: int) -> ForecastMade:
            made = super().step(seen, now_ns)
            return ForecastMade(
                nodes=made.nodes, horizon_ns=HORIZONS, need_bytes=made.need_bytes * 0, onset_ratio=made.onset_ratio
            )

    forecaster = CorrectedForecaster(Silent(0.0), RATE, INTERVAL_NS, 0.95)
    busy = [sample(3 * UNIT, 50_000 + step) for step in range(40)]
    assert all(forecaster.step(one, step * INTERVAL_NS).need_bytes.max() == 0 for step, one in enumerate(busy))
    assert float(forecaster._theta.max()) < GAIN


def test_the_same_samples_give_the_same_forecasts() -> None:
    samples = random_walk(300)
    first, second = (grown(CorrectedForecaster(Says(1.0), RATE, INTERVAL_NS, 0.95), samples) for _ in range(2))
    assert first.tolist() == second.tolist()
